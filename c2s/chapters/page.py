"""The HTML page of one executed chapter, for reading outside the book.

The book's own builder knows all of MyST; nbconvert knows plain Markdown. The chapters use a small part of MyST,
and this module writes that part as plain Markdown and HTML: admonitions, dropdowns, citations, references to
chapters and the bibliography. `unsupported_markup` finds anything else, and a test keeps it out of the chapters.
"""

from __future__ import annotations

import copy
import html
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c2s.chapters.profiles import book_folder
from c2s.errors import ChapterError

if TYPE_CHECKING:
    from nbformat import NotebookNode

_ADMONITIONS = {"note", "tip", "important", "warning", "admonition", "seealso", "dropdown"}
_DIRECTIVES = _ADMONITIONS | {"footbibliography"}
_ROLES = {"footcite", "footcite:t", "footcite:p", "doc"}
_FENCE = re.compile(r"^(?P<fence>:{3,}|`{3,})\{(?P<name>[\w:-]+)\}[ \t]*(?P<title>.*)$")
_ROLE = re.compile(r"\{(?P<role>[a-z][\w:-]*)\}`(?P<text>[^`]+)`")
_TITLED = re.compile(r"^(?P<title>.*?)\s*<(?P<target>[^>]+)>$", re.DOTALL)

_CSS = """<style>
body { max-width: 62rem; margin: 0 auto !important; padding: 0 1rem !important; }
main { overflow-wrap: anywhere; }
.jp-Cell { padding: .25rem 0 !important; }
.jp-InputPrompt, .jp-OutputPrompt { display: none !important; }
.jp-RenderedHTMLCommon { font-size: 1rem; line-height: 1.6; }
.jp-OutputArea-output pre { white-space: pre-wrap; overflow-wrap: break-word; }
.jp-OutputArea-output, .jp-RenderedHTML { overflow-x: auto; max-width: 100%; }
.jp-RenderedHTMLCommon table { display: block; overflow-x: auto; max-width: 100%; margin-left: 0; }
.jp-RenderedHTMLCommon th, .jp-RenderedHTMLCommon td { overflow-wrap: normal; white-space: nowrap; }
.c2s-admonition, details.c2s-run, details.c2s-input { border-left: .3rem solid #0072B2; background: #f4f7fa;
  padding: .5rem 1rem; margin: 1rem 0; }
summary { cursor: pointer; }
img { max-width: 100%; height: auto; }
</style>"""


def chapter_page(notebook: NotebookNode) -> str:
    """Return the page of an executed chapter: one file, with its figures inside; hidden inputs are left out.

    Parameters
    ----------
    notebook
        The executed chapter; not changed.

    Raises
    ------
    ChapterError
        It uses MyST markup that the page cannot show.
    """
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    shown = copy.deepcopy(notebook)
    cited = _citations(shown)
    for cell in shown.cells:
        if cell.cell_type == "markdown":
            cell.source = plain_markdown(cell.source, cited)
    settings: dict[str, Any] = {
        "TagRemovePreprocessor": {
            "enabled": True,
            "remove_cell_tags": ["remove-cell"],
            "remove_input_tags": ["remove-input", "hide-input"],
        }
    }
    exporter = HTMLExporter(config=Config({"HTMLExporter": {"preprocessors": []}, **settings}))
    exporter.register_preprocessor("nbconvert.preprocessors.TagRemovePreprocessor", enabled=True)
    text, _ = exporter.from_notebook_node(shown, resources={"metadata": {"name": str(shown.metadata.title)}})
    return str(text).replace("</head>", f"{_CSS}</head>", 1)


def unsupported_markup(markdown: str) -> list[str]:
    """List the directives and roles of `markdown` that `chapter_page` cannot show."""
    fences = [m for m in map(_FENCE.match, markdown.splitlines()) if m]
    found = [m["name"] for m in fences if m["name"] not in _DIRECTIVES]
    return found + [m["role"] for m in _ROLE.finditer(markdown) if m["role"] not in _ROLES]


def plain_markdown(markdown: str, cited: Sequence[str] = ()) -> str:
    """Write the chapters' MyST as Markdown that nbconvert shows.

    Parameters
    ----------
    markdown
        Source of a cell.
    cited
        Keys of the works that the whole chapter cites, for the bibliography.

    Raises
    ------
    ChapterError
        A directive or role is not one of those that `chapter_page` knows.
    """
    unknown = unsupported_markup(markdown)
    if unknown:
        raise ChapterError(
            f"the chapter uses the MyST markup {', '.join(unknown)}, which its own page cannot show.",
            fix=f"keep to {', '.join(sorted(_DIRECTIVES | _ROLES))}.",
        )
    text = re.sub(r"^\([\w-]+\)=\s*\n", "", markdown, flags=re.MULTILINE)
    return _ROLE.sub(_role, _blocks(text.splitlines(), cited))


def _blocks(lines: Sequence[str], cited: Sequence[str]) -> str:
    """Turn fenced directives into HTML around their Markdown; directives may be nested."""
    result: list[str] = []
    i = 0
    while i < len(lines):
        opened = _FENCE.match(lines[i])
        if not opened:
            result.append(lines[i])
            i += 1
            continue
        end = next((j for j in range(i + 1, len(lines)) if lines[j].strip() == opened["fence"]), len(lines))
        body = list(lines[i + 1 : end])
        while body and re.match(r"^:[\w-]+:", body[0]):
            body.pop(0)
        result += ["", *_directive(opened["name"], opened["title"].strip(), body, cited), ""]
        i = end + 1
    return "\n".join(result)


def _directive(name: str, title: str, body: Sequence[str], cited: Sequence[str]) -> list[str]:
    if name == "footbibliography":
        return [f"- {_reference(key)}" for key in cited]
    if name not in {"dropdown", "admonition"} and title:
        # A note's first line is its text, as in MyST.
        title, body = "", [title, *body]
    inner = _blocks(body, cited).strip("\n")
    heading = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(title or name.capitalize()))
    if name == "dropdown":
        return [
            f'<details class="c2s-admonition"><summary><strong>{heading}</strong></summary>',
            "",
            inner,
            "",
            "</details>",
        ]
    return [f'<div class="c2s-admonition"><p><strong>{heading}</strong></p>', "", inner, "", "</div>"]


def _role(match: re.Match[str]) -> str:
    role, text = match["role"], match["text"]
    if role == "doc":
        titled = _TITLED.match(text)
        return f"*{titled['title'] if titled else text.rsplit('/', 1)[-1].replace('-', ' ')}*"
    keys = [key.strip() for key in text.split(",")]
    if role == "footcite:t":
        return ", ".join(f"{_author(key)} ({_field(key, 'year')})" for key in keys)
    return "(" + "; ".join(f"{_author(key)}, {_field(key, 'year')}" for key in keys) + ")"


def _citations(notebook: NotebookNode) -> list[str]:
    """List the keys that a chapter cites, each once, in order."""
    roles = [m for c in notebook.cells if c.cell_type == "markdown" for m in _ROLE.finditer(c.source)]
    keys = [key.strip() for m in roles if m["role"].startswith("footcite") for key in m["text"].split(",")]
    return list(dict.fromkeys(keys))


@cache
def _bibliography() -> dict[str, Any]:
    from pybtex.database import parse_file

    places = (book_folder() / "references.bib", Path(__file__).parents[2] / "book" / "references.bib")
    return dict(parse_file(str(next(p for p in places if p.is_file()))).entries)


def _entry(key: str) -> Any:
    try:
        return _bibliography()[key]
    except KeyError:
        raise ChapterError(
            f"the chapter cites {key!r}, which book/references.bib does not hold.", fix="add the entry."
        ) from None


def _plain(text: str) -> str:
    """Drop the braces of BibTeX."""
    return text.replace("{", "").replace("}", "")


def _field(key: str, name: str) -> str:
    return _plain(str(_entry(key).fields.get(name, "")))


def _author(key: str) -> str:
    people = _entry(key).persons.get("author", [])
    names = [_plain(" ".join(p.last_names)) for p in people]
    return names[0] + (" et al." if len(names) > 2 else f" and {names[1]}" if len(names) == 2 else "")


def _reference(key: str) -> str:
    where = _field(key, "journal") or _field(key, "publisher") or _field(key, "howpublished")
    doi, url = _field(key, "doi"), _field(key, "url")
    link = f" [{doi}](https://doi.org/{doi})" if doi else f" <{url}>" if url else ""
    return f"{_author(key).rstrip('.')}. {_field(key, 'title')}. {where} ({_field(key, 'year')}).{link}"
