"""What this plugin hands over. Targets are strings, so that nothing heavy is imported before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from c2s import hookimpl

if TYPE_CHECKING:
    from c2s.hookspecs import Register


@hookimpl
def c2s_register_prompts(register: Register) -> None:
    """Register the templates of both tasks."""
    register("gene-set-enumeration", "c2s_genesets.templates:ENUMERATION", summary="from a name to genes")
    register("gene-set-naming", "c2s_genesets.templates:NAMING", summary="from genes to a name")


@hookimpl
def c2s_register_rewards(register: Register) -> None:
    """Register the rewards."""
    register(
        "gene_set_overlap",
        "c2s_genesets.rewards:OVERLAP",
        summary="genes in common, divided by the longer of the two lists",
    )
    register(
        "gene_set_name_bert_score",
        "c2s_genesets.rewards:NAME_BERT_SCORE",
        summary="F1 of BERTScore between the given and the true name",
    )


@hookimpl
def c2s_register_baselines(register: Register) -> None:
    """Register the baselines, those of enumeration first."""
    register(
        "most_frequent_genes",
        "c2s_genesets.baselines:MOST_FREQUENT_GENES",
        summary="the genes that are in most training sets",
    )
    register(
        "genes_of_nearest_name",
        "c2s_genesets.baselines:GENES_OF_NEAREST_NAME",
        summary="the genes of the training set whose name is most similar by embedding",
    )
    register(
        "name_of_nearest_set",
        "c2s_genesets.baselines:NAME_OF_NEAREST_SET",
        summary="the name of the training set that shares most genes",
    )
    register(
        "name_of_most_similar_text",
        "c2s_genesets.baselines:NAME_OF_MOST_SIMILAR_TEXT",
        summary="the name of the training set whose genes are most similar by embedding",
    )
    register(
        "any_known_name", "c2s_genesets.baselines:ANY_KNOWN_NAME", summary="a training name drawn without looking"
    )


@hookimpl
def c2s_register_datasets(register: Register) -> None:
    """Register the collections; only the first needs neither mirror nor network."""
    register(
        "textbook_gene_sets",
        "c2s_genesets.collections:TEXTBOOK",
        summary="168 gene families, pathways and markers, part of this plugin",
    )
    register("hallmark", "c2s_genesets.collections:HALLMARK", summary="MSigDB Hallmark, 50 sets")
    register("c2_cp", "c2s_genesets.collections:C2_CP", summary="MSigDB canonical pathways, 2,982 sets")
    register("go_bp", "c2s_genesets.collections:GO_BP", summary="Gene Ontology processes, 6,036 sets")


@hookimpl
def c2s_register_tasks(register: Register) -> None:
    """Register the tasks."""
    register(
        "gene-set-enumeration",
        "c2s_genesets.enumeration:EnumerationTask",
        summary="the genes of a named set (table 1)",
    )
    register("gene-set-naming", "c2s_genesets.naming:NamingTask", summary="the name of a set of genes (table 1)")


@hookimpl
def c2s_register_chapters(register: Register) -> None:
    """Register the chapter."""
    register("gene-sets", "c2s_genesets.chapter:CHAPTER", summary="table 1: gene set enumeration and naming")
