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
    register("how-to-read", "c2s.chapters.shipped:HOW_TO_READ", summary="what the chapters are and how to run them")
    register(
        "cells-as-sentences",
        "c2s.chapters.shipped:CELLS_AS_SENTENCES",
        summary="section 4.2: cells become sentences, and expression again",
    )
    register(
        "annotation", "c2s.chapters.shipped:ANNOTATION", summary="section 4.6.1: a model names the types of cells"
    )
    register(
        "write-your-own-task",
        "c2s.chapters.shipped:WRITE_YOUR_OWN_TASK",
        summary="a plugin of your own, from nothing to its tests",
    )
