"""Metrics, and how sure they are.

Metrics of answers (`Metric` objects) are registered and used by ``c2s evaluate``; those of embeddings, expression
and two clouds of cells are plain functions. Each says its range and direction, and what it makes of empty,
constant or missing input.
"""

from c2s.metrics.alignment import Foscttm, foscttm
from c2s.metrics.classification import accuracy, confusion_matrix, ece, exact_match, macro_f1
from c2s.metrics.distributions import (
    energy_distance,
    median_bandwidth,
    mmd,
    wasserstein,
    wasserstein_per_gene,
)
from c2s.metrics.encoder import TextEncoder, embed_texts, load_text_encoder
from c2s.metrics.frechet import (
    FrechetExtrapolation,
    frechet_distance,
    frechet_extrapolation,
    frechet_of_moments,
    scfid,
)
from c2s.metrics.genes import gene_overlaps, overlap
from c2s.metrics.multi_reference import best_of_references, with_alternatives
from c2s.metrics.paired import McNemar, mcnemar, mcnemar_of_predictions
from c2s.metrics.ranking import kendall_tau, pearson, sentence_ranks, spearman
from c2s.metrics.resampling import mean_of_examples
from c2s.metrics.sentence_order import (
    kendall_tau_b_metric,
    kendall_tau_metric,
    rank_metric,
    sentence_correlations,
    spearman_metric,
)
from c2s.metrics.signatures import rank_zscore, ssgsea
from c2s.metrics.statistics import (
    Interval,
    bootstrap_groups,
    bootstrap_mean,
    evaluate_predictions,
    paired_difference,
    percentile_interval,
)
from c2s.metrics.text import bert_score_metric, bert_score_with, bert_scores, biobert_score_metric
from c2s.metrics.two_sample import ConditionDistances, bootstrap_distance, distance_per_condition
from c2s.tasks import Metric

accuracy_metric = Metric("accuracy", accuracy)
macro_f1_metric = Metric("macro_f1", macro_f1)
exact_match_metric = Metric("exact_match", exact_match)
overlap_metric = Metric("overlap", overlap)

__all__ = [
    "ConditionDistances",
    "Foscttm",
    "FrechetExtrapolation",
    "Interval",
    "McNemar",
    "TextEncoder",
    "accuracy",
    "accuracy_metric",
    "bert_score_metric",
    "bert_score_with",
    "bert_scores",
    "best_of_references",
    "biobert_score_metric",
    "bootstrap_distance",
    "bootstrap_groups",
    "bootstrap_mean",
    "confusion_matrix",
    "distance_per_condition",
    "ece",
    "embed_texts",
    "energy_distance",
    "evaluate_predictions",
    "exact_match",
    "exact_match_metric",
    "foscttm",
    "frechet_distance",
    "frechet_extrapolation",
    "frechet_of_moments",
    "gene_overlaps",
    "kendall_tau",
    "kendall_tau_b_metric",
    "kendall_tau_metric",
    "load_text_encoder",
    "macro_f1",
    "macro_f1_metric",
    "mcnemar",
    "mcnemar_of_predictions",
    "mean_of_examples",
    "median_bandwidth",
    "mmd",
    "overlap",
    "overlap_metric",
    "paired_difference",
    "pearson",
    "percentile_interval",
    "rank_metric",
    "rank_zscore",
    "scfid",
    "sentence_correlations",
    "sentence_ranks",
    "spearman",
    "spearman_metric",
    "ssgsea",
    "wasserstein",
    "wasserstein_per_gene",
    "with_alternatives",
]
