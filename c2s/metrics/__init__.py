"""Metrics, and how sure they are."""

from c2s.metrics.classification import accuracy, confusion_matrix, ece, exact_match, macro_f1
from c2s.metrics.statistics import (
    Interval,
    bootstrap_mean,
    evaluate_predictions,
    paired_difference,
    percentile_interval,
)
from c2s.tasks import Metric

accuracy_metric = Metric("accuracy", accuracy)
macro_f1_metric = Metric("macro_f1", macro_f1)
exact_match_metric = Metric("exact_match", exact_match)

__all__ = [
    "Interval",
    "accuracy",
    "accuracy_metric",
    "bootstrap_mean",
    "confusion_matrix",
    "ece",
    "evaluate_predictions",
    "exact_match",
    "exact_match_metric",
    "macro_f1",
    "macro_f1_metric",
    "paired_difference",
    "percentile_interval",
]
