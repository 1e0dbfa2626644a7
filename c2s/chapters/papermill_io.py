"""Let papermill read ``c2s://NAME``: ``papermill c2s://annotation out.ipynb -p top_k 100``."""

from __future__ import annotations

from typing import NoReturn

SCHEME = "c2s://"


class ChapterHandler:
    """Hand papermill the notebook of a registered chapter.

    Papermill finds the class through the entry-point group ``papermill.io`` and calls its methods on the class
    itself, hence the class methods.
    """

    @classmethod
    def read(cls, path: str) -> str:
        """Return the notebook as JSON.

        Raises
        ------
        C2SError
            There is no such chapter, or it is malformed.
        """
        import nbformat

        from c2s.chapters.catalogue import chapter_notebook, find_chapter

        text: str = nbformat.writes(chapter_notebook(find_chapter(path.removeprefix(SCHEME))))
        return text

    @classmethod
    def listdir(cls, path: str) -> list[str]:
        """List the addresses of all chapters."""
        from c2s.plugins import default_host

        return [SCHEME + name for name in default_host().chapters.names()]

    @classmethod
    def write(cls, buf: str, path: str) -> NoReturn:
        """Refuse: a chapter is not written to.

        Raises
        ------
        OutputError
            Always.
        """
        from c2s.errors import OutputError

        raise OutputError(f"{path} is a chapter, not a place to write to.", fix="give a file as the output.")

    @classmethod
    def pretty_path(cls, path: str) -> str:
        """Return what papermill's log shows."""
        return path
