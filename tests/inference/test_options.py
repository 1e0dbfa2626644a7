"""What holds for every way of asking a model: options have names, and nothing is shown unasked."""

from __future__ import annotations

import dataclasses
import sys

import pyarrow as pa
import pytest

from c2s.inference import Calibration, embed, generate, score
from c2s.inference.predict import PREDICTION_SCHEMA, predict_examples

from .conftest import LABELS, make_prompts

PROMPTS = make_prompts(2)
EXAMPLES = pa.table(
    {
        "example_id": ["e0", "e1"],
        "prompt": PROMPTS,
        "cell_ids": pa.array([["a"], ["b"]], pa.list_(pa.string())),
    }
)
WAYS = {
    "scoring": lambda model, *more, **options: score(model, PROMPTS, LABELS, *more, **options),
    "embedding": lambda model, *more, **options: embed(model, PROMPTS, *more, **options),
    "generating": lambda model, *more, **options: generate(model, PROMPTS, *more, **options),
}


@pytest.mark.parametrize("what", WAYS)
def test_options_are_given_by_name(neox, what):
    with pytest.raises(TypeError, match="positional argument"):
        WAYS[what](neox, 100)


def test_options_of_a_prediction_are_given_by_name(neox):
    with pytest.raises(TypeError, match="positional argument"):
        predict_examples(neox, EXAMPLES, LABELS)


@pytest.mark.parametrize("what", [*WAYS, "scoring of examples", "generating for examples"])
def test_progress_is_shown_only_when_asked_for(neox, what, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    def run(**options):
        if what in WAYS:
            return WAYS[what](neox, **options)
        if "scoring" in what:
            options["candidates"] = LABELS
        return predict_examples(neox, EXAMPLES, tokens_per_batch=500, **options)

    run()
    assert capsys.readouterr().err == ""
    run(show_progress=True)
    assert what.split()[0] in capsys.readouterr().err


def test_results_are_not_changed_by_accident(neox):
    scores = score(neox, PROMPTS, LABELS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        scores.candidates = ("x",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Calibration(1.0, 0.1, 0.1, 5).temperature = 2.0


def test_a_row_of_predictions_always_has_its_example_its_cells_and_its_verdict():
    assert [f.name for f in PREDICTION_SCHEMA if not f.nullable] == ["example_id", "cell_ids", "abstained"]
