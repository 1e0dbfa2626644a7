"""A host with small chapters, written on the spot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import c2s
from c2s.plugins import PluginHost
from c2s.tasks import Chapter

CHAPTER = """\
---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A chapter

```{code-cell} python
:tags: [parameters]

top_k = 20  # genes
rate = 0.5
names = ["a", "b"]
strict = False
label = "cell_type"
out = "out/small"
```

:::{dropdown} Solution
It is *two*.
:::

```{code-cell} python
from pathlib import Path
from c2s.chapters import ResultsTable

table = ResultsTable("Small")
table.add("twice top_k", 2.0 * top_k, paper=41, low=1.0, high=50.0, data="no data")
table.to_json(f"{out}/results.json")
Path(out, "cells.txt").write_text(f"{top_k} {rate} {names} {strict} {label}")
table.show()
print("wrote to", out)
```
"""


@pytest.fixture
def chapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Chapter]:
    """Return a function that registers a chapter under ``name`` and makes it the only one."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def register(
        text: str = CHAPTER,
        *,
        name: str = "small",
        profiles: Mapping[str, Mapping[str, object]] | None = None,
    ) -> Chapter:
        source = tmp_path / f"{name}.md"
        source.write_text(text)
        given = profiles if profiles is not None else {"smoke": {"top_k": 5}, "laptop": {}, "paper": {}}
        chapter = Chapter(name, "A chapter", str(source), given)

        class Plugin:
            @c2s.hookimpl
            def c2s_register_chapters(self, register: c2s.hookspecs.Register) -> None:
                register(name, chapter)

        host = PluginHost([])
        host.register(Plugin(), "test")
        host.freeze()
        for module in ("c2s.chapters.catalogue", "c2s.plugins"):
            monkeypatch.setattr(f"{module}.default_host", lambda: host)
        return chapter

    return register
