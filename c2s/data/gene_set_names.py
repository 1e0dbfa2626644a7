"""The names of gene sets as a person would say them."""

from __future__ import annotations

import re

# What the collections of MSigDB write in front of a name.
_PREFIX = re.compile(
    r"^(HALLMARK|KEGG|REACTOME|BIOCARTA|PID|WP|NABA|SIG|SA|ST|GOBP|GOCC|GOMF|GO|HP|MODULE)_(?=[A-Z0-9])"
)
_IDENTIFIER = re.compile(r"\s*\((?:GO|HP|WP|R-HSA|hsa)[:\-]?\d+\)\s*$|\s+(?:WP\d+|R-HSA-\d+)\s*$")


def readable_name(name: str) -> str:
    """Say a set's name in words: ``HALLMARK_INTERFERON_ALPHA_RESPONSE`` is *interferon alpha response*.

    The collection's prefix and a trailing identifier such as ``(GO:0006103)`` are left out, underscores become
    spaces, and a name written in capitals throughout becomes lower case. A name that would vanish is kept.
    """
    plain = _IDENTIFIER.sub("", _PREFIX.sub("", name.strip()))
    if plain == plain.upper() and "_" in name:
        plain = plain.lower()
    return " ".join(plain.replace("_", " ").split()) or name.strip()
