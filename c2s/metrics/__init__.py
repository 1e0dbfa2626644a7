"""Metrics, and how sure they are."""

from c2s.metrics.classification import accuracy, confusion_matrix, ece, exact_match, macro_f1
from c2s.metrics.encoder import TextEncoder, embed_texts, load_text_encoder
from c2s.metrics.genes import gene_overlaps, overlap
from c2s.metrics.statistics import (
    Interval,
    bootstrap_mean,
    evaluate_predictions,
    paired_difference,
    percentile_interval,
)
from c2s.metrics.text import bert_score_metric, bert_score_with, bert_scores, biobert_score_metric
from c2s.tasks import Metric

accuracy_metric = Metric("accuracy", accuracy)
macro_f1_metric = Metric("macro_f1", macro_f1)
exact_match_metric = Metric("exact_match", exact_match)
overlap_metric = Metric("overlap", overlap)

__all__ = [
    "Interval",
    "TextEncoder",
    "accuracy",
    "accuracy_metric",
    "bert_score_metric",
    "bert_score_with",
    "bert_scores",
    "biobert_score_metric",
    "bootstrap_mean",
    "confusion_matrix",
    "ece",
    "embed_texts",
    "evaluate_predictions",
    "exact_match",
    "exact_match_metric",
    "gene_overlaps",
    "load_text_encoder",
    "macro_f1",
    "macro_f1_metric",
    "overlap",
    "overlap_metric",
    "paired_difference",
    "percentile_interval",
]
