"""The chapter of this plugin."""

from __future__ import annotations

from c2s import Chapter

CHAPTER = Chapter("embeddings", "Embeddings and bulk", "embeddings.md")
