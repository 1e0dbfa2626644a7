"""Inference: generate, score, embed, calibrate."""

from c2s.inference.calibrate import Calibration, entropy, reliability_curve, risk_coverage
from c2s.inference.embed import embed
from c2s.inference.generate import generate
from c2s.inference.score import Scores, score

__all__ = [
    "Calibration",
    "Scores",
    "embed",
    "entropy",
    "generate",
    "reliability_curve",
    "risk_coverage",
    "score",
]
