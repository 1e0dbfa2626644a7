"""Grids: what is run, what is refused, and all of it at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from c2s.errors import ConfigError, InputFileError
from c2s.scaling import load_grid, plan_grid
from c2s.scaling.grid import make_grid

ROOT = Path(__file__).parents[2]
GOOD: dict[str, Any] = {
    "corpus": "corpus", "tasks": ["cell-type-annotation"], "sizes": [20_000, 50_000], "samples": [64, 32],
}  # fmt: skip


@pytest.mark.parametrize("file", sorted((ROOT / "grids").glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_grids_are_valid_and_name_corpora_that_are_there(file: Path) -> None:
    grid = load_grid(file)
    assert Path(grid.corpus).is_file()
    assert len(plan_grid(grid)) >= len(grid.units())


def test_units_are_all_combinations_by_seed_and_size() -> None:
    grid = make_grid(GOOD | {"ways": ["full", "lora"], "seeds": [0, 1], "pretrain": {"samples": 64}})
    names = [unit.name for unit in grid.units()]
    assert len(names) == len(set(names)) == 2 * 2 * 2 * 2
    assert names[:4] == [
        "20000-full-32-seed0",
        "20000-full-64-seed0",
        "20000-lora-32-seed0",
        "20000-lora-64-seed0",
    ]
    assert {unit.base for unit in grid.units()} == {f"{s}-base-seed{r}" for s in (20000, 50000) for r in (0, 1)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sizes": [10]}, "10 parameters are too few"),
        ({"sizes": ["pythia-3t"]}, "no preset 'pythia-3t'"),
        ({"sizes": [20_000, 20_000]}, "sizes names 20000 twice"),
        ({"tasks": ["poetry"]}, "unknown task 'poetry'"),
        ({"samples": [8]}, "8 samples do not fill a step of 16"),
        ({"ways": ["lora"]}, "adapters on weights that were drawn at random"),
        ({"ways": ["full", "lora"], "learning_rate": {"full": 1e-3}}, "learning_rate says nothing of 'lora'"),
        ({"learning_rate": {"full": 0}}, "the learning rate of 'full' is 0"),
        ({"pretrain": {"samples": 3}}, "3 samples of pretraining do not fill a step"),
        ({"tasks": ["cell-type-annotation", "tissue-annotation", "interpretation"], "held_out": 2}, "2 held-out"),
        ({"colour": "blue"}, "unknown option 'colour'"),
        ({"samples": []}, "samples"),
    ],
)
def test_a_bad_grid_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_grid(GOOD | change)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        make_grid(GOOD | {"tasks": ["poetry", "poetry"], "samples": [8]})
    assert all(words in str(caught.value) for words in ("unknown task", "tasks names", "do not fill"))


def test_files_that_are_no_grid(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="no grid"):
        load_grid(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("sizes: [1, 2")
    with pytest.raises(InputFileError, match="not readable YAML"):
        load_grid(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="not a mapping"):
        load_grid(tmp_path / "list.yaml")


def test_the_corpus_is_found_from_the_grids_folder(tmp_path: Path) -> None:
    (tmp_path / "grids").mkdir()
    file = tmp_path / "grids" / "one.yaml"
    file.write_text(yaml.safe_dump(GOOD | {"corpus": "../corpora/x.yaml"}))
    assert load_grid(file).corpus == str(tmp_path / "corpora" / "x.yaml")


def test_a_plan_counts_steps_tokens_and_operations() -> None:
    grid = make_grid(
        GOOD | {"sizes": [20_000, "pythia-70m"], "ways": ["full", "lora"], "samples": [100]}
        | {"pretrain": {"samples": 50}, "context_length": 100}
    )  # fmt: skip
    plan = plan_grid(grid).set_index(["size", "way"])
    assert plan.loc[("20000", "full"), "steps"] == 6
    assert plan.loc[("20000", "full"), "tokens"] == 6 * 16 * 100
    assert plan.loc[("20000", "full"), "flops"] == 6 * 20_000 * 9600
    assert plan.loc[("20000", "lora"), "flops"] == 4 * 20_000 * 9600
    assert plan.loc[("20000", "pretrain"), "tokens"] == 3 * 16 * 100
    assert plan.loc[("pythia-70m", "full"), "parameters"] == 70_426_624
    assert plan_grid(grid, tokens_per_sample=10)["tokens"].max() == 960
