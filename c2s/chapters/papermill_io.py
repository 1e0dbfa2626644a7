"""Let papermill read ``c2s://NAME``: ``papermill c2s://annotation out.ipynb -p top_k 100``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from c2s.tasks import Chapter

SCHEME = "c2s://"


class ChapterHandler:
    """Hand papermill the notebook of a registered chapter.

    Papermill finds the class through the entry-point group ``papermill.io`` and calls its methods on the class
    itself, hence the class methods.
    """

    @classmethod
    def read(cls, path: str) -> str:
        """Return the notebook as JSON; behind its parameters is a cell that checks and converts what was given.

        Raises
        ------
        C2SError
            There is no such chapter, or it is malformed.
        """
        import nbformat

        from c2s.chapters.catalogue import chapter_notebook, find_chapter

        chapter = find_chapter(path.removeprefix(SCHEME))
        text: str = nbformat.writes(_for_papermill(chapter, chapter_notebook(chapter)))
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


def _for_papermill(chapter: Chapter, notebook: NotebookNode) -> NotebookNode:
    """Add the check, in front of which papermill puts its own cell; write annotations as papermill reads them."""
    import nbformat

    from c2s.chapters.catalogue import parameters_cell, parameters_of

    cell = parameters_cell(chapter, notebook)
    kinds = {name: parameter.kind for name, parameter in parameters_of(chapter, notebook).items()}
    check = nbformat.v4.new_code_cell(
        "# As c2s chapters run does: names and kinds are checked, and text becomes what its kind says.\n"
        "from c2s.chapters import check_parameters\n\n"
        f"check_parameters({chapter.name!r}, {kinds!r}, globals())",
        metadata={"tags": ["remove-cell"], "jupyter": {"source_hidden": True}},
    )
    notebook.cells.insert(notebook.cells.index(cell) + 1, check)
    # Papermill knows no bar between kinds; in quotes, nothing has to be imported.
    cell.source = re.sub(r"^(\w+): ([^=\n]*\|[^=\n]*?) =", _without_bar, cell.source, flags=re.MULTILINE)
    return notebook


def _without_bar(line: re.Match[str]) -> str:
    kind = re.sub(r"(\w+) \| None", r"Optional[\1]", line[2])
    kind = re.sub(r"(\w+(?: \| \w+)+)", lambda kinds: f"Union[{kinds[1].replace(' |', ',')}]", kind)
    return f'{line[1]}: "{kind}" ='
