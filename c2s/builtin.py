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
