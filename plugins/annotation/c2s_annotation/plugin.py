"""What this plugin hands to the host; every target is imported when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from c2s import hookimpl

if TYPE_CHECKING:
    import typer

    from c2s.hookspecs import Register

c2s_requires = ">=0.1,<0.2"


@hookimpl
def c2s_register_prompts(register: Register) -> None:
    """Register the templates of the three tasks."""
    register("annotation", "c2s_annotation.templates:CELL", summary="the label of one cell")
    register("tissue", "c2s_annotation.templates:TISSUE", summary="the tissue of a sample of cells")
    register("sample-cell-types", "c2s_annotation.templates:CELL_TYPES", summary="the types of a sample of cells")


@hookimpl
def c2s_register_metrics(register: Register) -> None:
    """Register the metric of answers that list several cell types."""
    register(
        "cell_types_f1",
        "c2s_annotation.metrics:cell_types_f1_metric",
        summary="F1 between the lists of cell types, counting repeats",
    )


@hookimpl
def c2s_register_rewards(register: Register) -> None:
    """Register the reward of a label: exact is 1, shared words count in part."""
    register(
        "label_match", "c2s_annotation.rewards:label_match_reward", summary="1 if exact, else the F1 of the words"
    )


@hookimpl
def c2s_register_baselines(register: Register) -> None:
    """Register the classifiers that see the same cells and genes."""
    register(
        "majority", "c2s_annotation.baselines:MAJORITY", summary="the most frequent label of the training cells"
    )
    register("knn", "c2s_annotation.baselines:KNN", summary="15 nearest training cells in 50 principal components")
    register(
        "logistic_regression",
        "c2s_annotation.baselines:LOGISTIC_REGRESSION",
        summary="multinomial logistic regression on log-normalised expression of all genes",
    )
    register(
        "logistic_regression_hvg",
        "c2s_annotation.baselines:LOGISTIC_REGRESSION_HVG",
        summary="the same on the 2,000 most variable genes of the training cells",
    )
    register(
        "celltypist", "c2s_annotation.baselines:CELLTYPIST", summary="CellTypist trained on the same cells (extra)"
    )


@hookimpl
def c2s_register_tasks(register: Register) -> None:
    """Register the tasks of section 4.6.1 and of the two annotation rows of table 1."""
    register(
        "annotation", "c2s_annotation.cells:AnnotationTask", summary="the cell type, or any obs column, of a cell"
    )
    register("tissue", "c2s_annotation.samples:TissueTask", summary="the tissue of cells of one donor")
    register(
        "sample-cell-types", "c2s_annotation.samples:CellTypesTask", summary="the type of each cell of a sample"
    )


@hookimpl
def c2s_register_chapters(register: Register) -> None:
    """Register the chapter on cell type annotation."""
    register("annotation", "c2s_annotation.chapter:CHAPTER", summary="Cell type annotation")


@hookimpl
def c2s_register_commands(app: typer.Typer) -> None:
    """Add ``c2s labels FILE``: which columns of a file can be learned."""
    from c2s_annotation.command import labels

    app.command("labels")(labels)
