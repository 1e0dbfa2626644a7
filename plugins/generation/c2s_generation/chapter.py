"""The chapter of this plugin."""

from __future__ import annotations

from c2s import Chapter

CHAPTER = Chapter("generating-cells", "Generating cells", "generating-cells.md")
