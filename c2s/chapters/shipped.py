"""The chapters of the book that the core registers; their sources and profiles lie in ``book/``."""

from __future__ import annotations

from c2s.tasks import Chapter

HOW_TO_READ = Chapter("how-to-read", "How to read this book", "how-to-read.md")
CELLS_AS_SENTENCES = Chapter("cells-as-sentences", "Cells as sentences", "cells-as-sentences.md")
CORPUS_AND_PROMPTS = Chapter("corpus-and-prompts", "Corpus and prompts", "corpus-and-prompts.md")
WRITE_YOUR_OWN_TASK = Chapter("write-your-own-task", "Write your own task plugin", "write-your-own-task.md")
LAPTOP_TO_CLUSTER = Chapter("laptop-to-cluster", "From laptop to cluster", "laptop-to-cluster.md")
SCALING = Chapter("scaling", "Scaling", "scaling.md")
LIMITS = Chapter("limits", "Limits", "limits.md")
MODELS_AND_TRAINING = Chapter("models-and-training", "Models and training", "models-and-training.md")
GRPO = Chapter("grpo", "GRPO from the formula up", "grpo.md")
