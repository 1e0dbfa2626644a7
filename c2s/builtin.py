"""What the core itself registers, through the same door as a stranger's plugin."""

from __future__ import annotations

from c2s.hookspecs import Register, hookimpl


@hookimpl
def c2s_register_metrics(register: Register) -> None:
    """Register the metrics of labelling tasks."""
    register("accuracy", "c2s.metrics:accuracy_metric", summary="share of cells given the right label")
    register("macro_f1", "c2s.metrics:macro_f1_metric", summary="F1 of each label, averaged over labels")
    register(
        "exact_match", "c2s.metrics:exact_match_metric", summary="share of answers that are the truth verbatim"
    )
    register("overlap", "c2s.metrics:overlap_metric", summary="share of the true genes that were predicted")
    register(
        "bert_score",
        "c2s.metrics:bert_score_metric",
        summary="F1 of BERTScore, the likeness of texts to an encoder",
    )
    register("biobert_score", "c2s.metrics:biobert_score_metric", summary="BERTScore with BioBERT")


@hookimpl
def c2s_register_chapters(register: Register) -> None:
    """Register the chapters of the book."""
    register(
        "how-to-read", "c2s.chapters.shipped:HOW_TO_READ", summary="what the chapters are and how to run them"
    )
    register(
        "cells-as-sentences",
        "c2s.chapters.shipped:CELLS_AS_SENTENCES",
        summary="section 4.2: cells become sentences, and expression again",
    )
    register(
        "write-your-own-task",
        "c2s.chapters.shipped:WRITE_YOUR_OWN_TASK",
        summary="a plugin of your own, from nothing to its tests",
    )


@hookimpl
def c2s_register_datasets(register: Register) -> None:
    """Register the manifests that hold cells; the first needs neither mirror nor network."""
    register("pbmc68k_reduced", "c2s.data.datasets:pbmc68k_reduced", summary="700 blood cells, comes with scanpy")
    register("pbmc_zheng_facs", "c2s.data.datasets:pbmc_zheng_facs", summary="3,874 blood cells sorted by FACS")
    register("pbmc3k", "c2s.data.datasets:pbmc3k", summary="2,638 blood cells of one donor")
    register("liver_he2020", "c2s.data.datasets:liver_he2020", summary="2,839 liver cells of one donor")
    register("breast_wu2021", "c2s.data.datasets:breast_wu2021", summary="1,564 cells of a breast tumour")
    register("tcell_wu2020", "c2s.data.datasets:tcell_wu2020", summary="200 T cells of 14 patients, 5 tissues")
    register(
        "kang_ifnb", "c2s.data.datasets:kang_ifnb", summary="1,975 blood cells with and without interferon beta"
    )
    register("kang_control", "c2s.data.datasets:kang_control", summary="12,261 blood cells of 8 donors")
    register(
        "gbm_panobinostat", "c2s.data.datasets:gbm_panobinostat", summary="5,000 glioblastoma cells, drug or none"
    )
    register(
        "jurkat_datlinger",
        "c2s.data.datasets:jurkat_datlinger",
        summary="7,500 Jurkat cells, CRISPR x stimulation",
    )
