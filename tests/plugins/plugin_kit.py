"""Real distributions, made for one test: a module and a dist-info folder on sys.path."""

from __future__ import annotations

import importlib.metadata
import itertools
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from c2s.plugins import PluginHost

_numbers = itertools.count()


@dataclass
class Distributions:
    """Distributions in a folder of their own."""

    folder: Path
    modules: list[str] = field(default_factory=list)

    def add(
        self,
        name: str,
        source: str,
        *,
        distribution: str | None = None,
        version: str = "1.2.3",
        requires: tuple[str, ...] = (),
        entry_point: str | None = None,
    ) -> str:
        """Install a plugin `name` whose module holds `source`; returns the name of the module."""
        module = f"plugin_{name.replace('-', '_')}_{next(_numbers)}"
        self.modules.append(module)
        (self.folder / f"{module}.py").write_text(textwrap.dedent(source).replace("THIS", module))
        distribution = distribution or f"c2s-{name}"
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}"]
        (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {r}" for r in requires)]) + "\n")
        (info / "entry_points.txt").write_text(f"[c2s]\n{name} = {entry_point or module}\n")
        return module

    def entry_points(self) -> list[importlib.metadata.EntryPoint]:
        """Entry points of the distributions in this folder alone."""
        found = importlib.metadata.distributions(path=[str(self.folder)])
        return [e for d in found for e in d.entry_points if e.group == "c2s"]

    def host(self, **options: object) -> PluginHost:
        """A loaded host that knows the core and these distributions."""
        return PluginHost(self.entry_points(), **options).load()  # type: ignore[arg-type]
