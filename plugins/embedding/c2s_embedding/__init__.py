"""Cells, samples and texts as vectors of a language model, and how good they are (sections 4.6.3 and 4.6.4).

Everything public is reachable from here and imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "embed_cells": "c2s_embedding.vectors",
    "embed_prompts": "c2s_embedding.vectors",
    "embed_samples": "c2s_embedding.vectors",
    "embed_file": "c2s_embedding.files",
    "BulkIntegration": "c2s_embedding.bulk",
    "BulkPairs": "c2s_embedding.bulk",
    "bulk_integration": "c2s_embedding.bulk",
    "bulk_pairs": "c2s_embedding.bulk",
    "foscttm_of_knowing": "c2s_embedding.bulk",
    "pseudo_bulk": "c2s_embedding.bulk",
    "label_transfer": "c2s_embedding.transfer",
    "separation": "c2s_embedding.structure",
    "integration_scores": "c2s_embedding.integration",
    "EmbeddingReport": "c2s_embedding.compare",
    "compare_embedders": "c2s_embedding.compare",
    "donor_halves": "c2s_embedding.compare",
    "train_tiny": "c2s_embedding.tiny",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'c2s_embedding' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


if TYPE_CHECKING:
    from c2s_embedding.bulk import (
        BulkIntegration as BulkIntegration,
        BulkPairs as BulkPairs,
        bulk_integration as bulk_integration,
        bulk_pairs as bulk_pairs,
        foscttm_of_knowing as foscttm_of_knowing,
        pseudo_bulk as pseudo_bulk,
    )
    from c2s_embedding.compare import (
        EmbeddingReport as EmbeddingReport,
        compare_embedders as compare_embedders,
        donor_halves as donor_halves,
    )
    from c2s_embedding.files import embed_file as embed_file
    from c2s_embedding.integration import integration_scores as integration_scores
    from c2s_embedding.structure import separation as separation
    from c2s_embedding.tiny import train_tiny as train_tiny
    from c2s_embedding.transfer import label_transfer as label_transfer
    from c2s_embedding.vectors import (
        embed_cells as embed_cells,
        embed_prompts as embed_prompts,
        embed_samples as embed_samples,
    )
