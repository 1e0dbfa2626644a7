"""What this plugin hands over. Targets are strings, so that nothing heavy is imported before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from c2s import hookimpl

if TYPE_CHECKING:
    import typer

    from c2s.hookspecs import Register

c2s_requires = ">=0.1,<0.2"
_TEMPLATES = "c2s_generation.templates"
_BASELINES = "c2s_generation.baselines"


@hookimpl
def c2s_register_prompts(register: Register) -> None:
    """Register the templates of the six tasks."""
    for name, target, summary in (
        ("conditional-cell-generation", "CELL", "a cell of given conditions"),
        ("single-cell-language-modeling", "UNCONDITIONAL_CELL", "any cell"),
        ("multi-cell-language-modeling", "SAMPLE", "any sample"),
        ("conditional-sample-generation-tissue", "TISSUE_SAMPLE", "a sample of a tissue"),
        ("conditional-sample-generation-cell-types", "CELL_TYPES_SAMPLE", "cells of given types"),
        ("conditional-sample-generation-abstract", "ABSTRACT_SAMPLE", "a sample of a study"),
    ):
        register(name, f"{_TEMPLATES}:{target}", summary=summary)


@hookimpl
def c2s_register_metrics(register: Register) -> None:
    """Register the metric of answers that hold several cells."""
    register(
        "cells_overlap",
        "c2s_generation.metrics:CELLS_OVERLAP",
        summary="share of each true cell's genes that the cell at its place has",
    )


@hookimpl
def c2s_register_rewards(register: Register) -> None:
    """Register the rewards of a written cell against a real one."""
    register(
        "cell_overlap_f1",
        "c2s_generation.rewards:OVERLAP_F1",
        summary="F1 of the genes written, repeats counting as wrong",
    )
    register(
        "cell_rank_distance",
        "c2s_generation.rewards:RANK_DISTANCE",
        summary="minus the Bray-Curtis distance of expression by rank",
    )


@hookimpl
def c2s_register_baselines(register: Register) -> None:
    """Register the baselines: real cells drawn again, mean rankings, and genes drawn one by one."""
    for name, target, summary in (
        ("resampled_cell", "RESAMPLED", "a training cell drawn at random (a ceiling)"),
        ("mean_ranking", "MEAN", "the genes of the best mean rank"),
        ("independent_genes", "INDEPENDENT", "each gene's rank from a training cell of its own"),
        ("resampled_cell_of_type", "RESAMPLED_OF_TYPE", "a training cell of the cell type (a ceiling)"),
        ("mean_ranking_of_type", "MEAN_OF_TYPE", "the genes of the best mean rank in the cell type"),
        (
            "independent_genes_of_type",
            "INDEPENDENT_OF_TYPE",
            "each gene's rank from a cell of the type of its own",
        ),
    ):
        register(name, f"{_BASELINES}:{target}", summary=summary)


@hookimpl
def c2s_register_tasks(register: Register) -> None:
    """Register the generating rows of table 1."""
    for name, target, summary in (
        (
            "conditional-cell-generation",
            "cells:ConditionalCellTask",
            "a cell of a cell type, or of any conditions",
        ),
        ("single-cell-language-modeling", "cells:UnconditionalCellTask", "any cell"),
        ("multi-cell-language-modeling", "samples:UnconditionalSampleTask", "cells of any sample"),
        ("conditional-sample-generation-tissue", "samples:TissueSampleTask", "cells of a tissue"),
        ("conditional-sample-generation-cell-types", "samples:CellTypesSampleTask", "one cell of each named type"),
        (
            "conditional-sample-generation-abstract",
            "samples:AbstractSampleTask",
            "cells of a study, by its abstract",
        ),
    ):
        register(name, f"c2s_generation.{target}", summary=summary)


@hookimpl
def c2s_register_chapters(register: Register) -> None:
    """Register the chapter."""
    register("generating-cells", "c2s_generation.chapter:CHAPTER", summary="section 4.6.2: cells that are written")


@hookimpl
def c2s_register_commands(app: typer.Typer) -> None:
    """Add ``c2s generate``."""
    from c2s_generation.command import generate

    app.command("generate", help="Write cells with a trained model, as .h5ad.")(generate)
