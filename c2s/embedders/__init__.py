"""Embedders: cells as vectors, from a language model, a fit on expression, or a model that the user has installed.

Each is a `c2s.Embedder`, registered by name. None of them is imported before it is asked for.
"""

from c2s.embedders.sentences import embed_sentences
from c2s.tasks import Embedder, Transform

__all__ = ["Embedder", "Transform", "embed_sentences"]
