"""Predictors without a language model, on the same cells and the same genes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from c2s import Baseline
from c2s.errors import PluginError

if TYPE_CHECKING:
    from anndata import AnnData


def majority(train: AnnData, answers: Sequence[str], test: AnnData, *, seed: int = 0) -> list[str]:
    """Answer the most frequent training label (the first by name when several are)."""
    counts = Counter(answers)
    return [min(counts, key=lambda label: (-counts[label], label))] * test.n_obs


def knn(train: AnnData, answers: Sequence[str], test: AnnData, *, seed: int = 0) -> list[str]:
    """Vote of the 15 nearest training cells, in 50 principal components fitted on the training cells."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline

    dimensions = max(1, min(50, train.n_obs - 1, train.n_vars - 1))
    neighbours = KNeighborsClassifier(n_neighbors=min(15, train.n_obs))
    model = make_pipeline(TruncatedSVD(dimensions, random_state=seed), neighbours)
    return _fit_predict(model, train, answers, test)


def logistic_regression(train: AnnData, answers: Sequence[str], test: AnnData, *, seed: int = 0) -> list[str]:
    """Multinomial logistic regression (L2, C = 1) on the log-normalised expression of all genes."""
    from sklearn.linear_model import LogisticRegression

    return _fit_predict(LogisticRegression(max_iter=1000, random_state=seed), train, answers, test)


def logistic_regression_hvg(
    train: AnnData, answers: Sequence[str], test: AnnData, *, seed: int = 0, n_top_genes: int = 2000
) -> list[str]:
    """`logistic_regression` on the most variable genes of the training cells; on all if there are no more."""
    import scanpy as sc

    if train.n_vars > n_top_genes:
        found = sc.pp.highly_variable_genes(train.copy(), n_top_genes=n_top_genes, inplace=False)
        variable = found["highly_variable"].to_numpy()
        train, test = train[:, variable], test[:, variable]
    return logistic_regression(train, answers, test, seed=seed)


def celltypist(train: AnnData, answers: Sequence[str], test: AnnData, *, seed: int = 0) -> list[str]:
    """CellTypist trained on the same cells; needs the extra ``c2s-annotation[celltypist]``."""
    try:
        import celltypist as ct
    except ImportError:
        raise PluginError(
            "the baseline 'celltypist' needs the package celltypist, which is not installed.",
            fix="python -m pip install 'c2s-annotation[celltypist]'.",
        ) from None
    model = ct.train(train.copy(), labels=list(answers), feature_selection=False, check_expression=False)
    result = ct.annotate(test.copy(), model=model)
    return [str(label) for label in result.predicted_labels["predicted_labels"]]


def _fit_predict(model: Any, train: AnnData, answers: Sequence[str], test: AnnData) -> list[str]:
    if list(train.var_names) != list(test.var_names):
        raise PluginError("training and test cells have different genes.", fix="give both the same var_names.")
    return [str(label) for label in model.fit(train.X, list(answers)).predict(test.X)]


MAJORITY = Baseline("majority", majority)
KNN = Baseline("knn", knn)
LOGISTIC_REGRESSION = Baseline("logistic_regression", logistic_regression)
LOGISTIC_REGRESSION_HVG = Baseline("logistic_regression_hvg", logistic_regression_hvg)
CELLTYPIST = Baseline("celltypist", celltypist, requires=("celltypist",))
