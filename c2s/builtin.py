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
    """Register the datasets that have a name; only the first needs no mirror."""
    register("pbmc68k_reduced", "c2s.data.datasets:PBMC68K_REDUCED", summary="700 blood cells, comes with scanpy")
    register("pbmc_zheng_facs", "c2s.data.datasets:PBMC_ZHENG_FACS", summary="3,874 blood cells sorted by FACS")
    register("pbmc3k", "c2s.data.datasets:PBMC3K", summary="2,638 blood cells of one donor")
    register("liver_he2020", "c2s.data.datasets:LIVER_HE2020", summary="2,839 liver cells of one donor")
    register("breast_wu2021", "c2s.data.datasets:BREAST_WU2021", summary="1,564 cells of a breast tumour")
    register("tcell_wu2020", "c2s.data.datasets:TCELL_WU2020", summary="200 T cells of 14 patients, 5 tissues")
    register(
        "kang_ifnb", "c2s.data.datasets:KANG_IFNB", summary="1,975 blood cells with and without interferon beta"
    )
    register("kang_control", "c2s.data.datasets:KANG_CONTROL", summary="12,261 blood cells of 8 donors")
