"""What this plugin hands to the host; every target is imported when first used.

There is no task: an embedding has no answer, and the paper trains none for it (section 4.6.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from c2s import hookimpl

if TYPE_CHECKING:
    import typer

    from c2s.hookspecs import Register

c2s_requires = ">=0.1,<0.2"


@hookimpl
def c2s_register_embedders(register: Register) -> None:
    """Register the model that is made on the spot, and its control."""
    register("c2s_tiny", "c2s_embedding.tiny:TINY", summary="a small language model trained on the training cells")
    register("c2s_untrained", "c2s_embedding.tiny:UNTRAINED", summary="the same model before its first step")


@hookimpl
def c2s_register_chapters(register: Register) -> None:
    """Register the chapter on embeddings and bulk."""
    register("embeddings", "c2s_embedding.chapter:CHAPTER", summary="sections 4.6.3 and 4.6.4: vectors of cells")


@hookimpl
def c2s_register_commands(app: typer.Typer) -> None:
    """Add ``c2s embed`` and ``c2s embedding-report``."""
    from c2s_embedding.commands import embed, embedding_report

    app.command("embed", help="Write vectors of cells, samples or texts, as .h5ad.")(embed)
    app.command("embedding-report", help="Compare embedders on the donors of a dataset.")(embedding_report)
