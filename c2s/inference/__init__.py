"""Inference: generate, score, embed, calibrate, with constraints on what answers may say."""

from c2s.inference.calibrate import Calibration, entropy, reliability_curve, risk_coverage
from c2s.inference.constrain import Genes, Labels
from c2s.inference.embed import embed
from c2s.inference.engine import Engine
from c2s.inference.generate import generate
from c2s.inference.score import Scores, score
from c2s.inference.to_file import generate_to

__all__ = [
    "Calibration",
    "Engine",
    "Genes",
    "Labels",
    "Scores",
    "embed",
    "entropy",
    "generate",
    "generate_to",
    "reliability_curve",
    "risk_coverage",
    "score",
]
