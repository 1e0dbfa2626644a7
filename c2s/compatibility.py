"""Which version of the core a plugin was made for, and whether it is this one."""

from __future__ import annotations

import importlib.metadata
import re


def unmet_by_distribution(entry_point: importlib.metadata.EntryPoint) -> str:
    """Say which version of the core the distribution asks for, if it is not this one."""
    from packaging.requirements import InvalidRequirement, Requirement

    for text in (entry_point.dist.requires if entry_point.dist is not None else None) or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        named = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if named == "c2s" and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            unmet = _unmet(str(requirement.specifier), "its distribution requires")
            if unmet:
                return unmet
    return ""


def unmet_by_plugin(plugin: object) -> str:
    """Say which version of the core the plugin's ``c2s_requires`` asks for, if it is not this one."""
    wanted = getattr(plugin, "c2s_requires", None)
    if wanted is None:
        return ""
    if not isinstance(wanted, str):
        return f"its c2s_requires is {wanted!r}, not a version specifier such as '>=0.1,<0.2'"
    return _unmet(wanted, "it says c2s_requires =")


def _unmet(specifier: str, says: str) -> str:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    import c2s

    try:
        fits = SpecifierSet(specifier).contains(c2s.__version__, prereleases=True)
    except InvalidSpecifier:
        return f"{says} {specifier!r}, which is not a version specifier such as '>=0.1,<0.2'"
    return "" if fits else f"{says} c2s{specifier}, and this is c2s {c2s.__version__}"
