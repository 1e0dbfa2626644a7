"""The chapters of the book, as the core registers them."""

from __future__ import annotations

from c2s.chapters.profiles import book_folder, profiles_of
from c2s.tasks import Chapter


def _shipped(name: str, title: str) -> Chapter:
    return Chapter(name, title, str(book_folder() / "chapters" / f"{name}.md"), profiles_of(name))


HOW_TO_READ = _shipped("how-to-read", "How to read this book")
CELLS_AS_SENTENCES = _shipped("cells-as-sentences", "Cells as sentences")
ANNOTATION = _shipped("annotation", "Cell type annotation")
WRITE_YOUR_OWN_TASK = _shipped("write-your-own-task", "Write your own task plugin")
