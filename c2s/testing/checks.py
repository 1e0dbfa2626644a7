"""What every task must hold: functions that raise `AssertionError` with a sentence for the author.

None of them trains anything; `c2s.testing.running` does. ``c2s plugins check`` and
`c2s.testing.TaskContract` both call these.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from c2s.errors import C2SError, ConfigError
from c2s.prompts import GeneDropout
from c2s.splits import PARTS
from c2s.testing.case import Case

# "200 genes", "the 200 most highly expressed genes"; but not "5 cells given by their genes".
_STATED_GENES = re.compile(r"(?<![\w.-])(\d+)(?!\s+cells?\b)(?:[\s-]+[a-z-]+){0,4}?[\s-]+genes\b")

EXAMPLES_FIX = "derive every choice from ids and the seed with c2s.prompts.stable_hash"


def options_survive_json(case: Case) -> None:
    """The options are plain values: through JSON and back they make an equal task; unknown ones are refused."""
    try:
        text = json.dumps(case.task.options())
    except TypeError as error:
        raise AssertionError(f"the options are not plain JSON values: {error}") from None
    back = type(case.task).from_options(json.loads(text))
    require(back == case.task, f"after a round trip through JSON the task is {back}, before it was {case.task}")
    try:
        type(case.task).from_options({"no_such_option": 1})
    except ConfigError:
        return
    raise AssertionError("an unknown option was accepted; leave Task.from_options as it is, or call it")


def profiles_are_known(case: Case) -> None:
    """The profiles smoke, laptop and paper are there, and hold only settings that training accepts."""
    from c2s.models import TinyConfig
    from c2s.training import SFTConfig

    missing = sorted({"smoke", "laptop", "paper"} - set(case.task.profiles))
    require(not missing, f"the task has no profile {', '.join(missing)}; an empty one will do")
    configs = (SFTConfig, TinyConfig)
    known = {"top_k", *(name for config in configs for name in config.model_fields)}
    for profile, settings in case.task.profiles.items():
        unknown = sorted(set(settings) - known)
        require(not unknown, f"profile {profile!r} sets {', '.join(unknown)}, which c2s train does not know")
        for config in configs:
            own: dict[str, Any] = {key: value for key, value in settings.items() if key in config.model_fields}
            try:
                config.of(**own)
            except C2SError as error:
                raise AssertionError(f"profile {profile!r} is refused: {error}") from None


def same_seed_same_examples(case: Case) -> None:
    """The same cells and seed give the same examples and the same split when asked twice."""
    first = examples_digest(case.task, case.sentences, case.templates)
    second = examples_digest(case.task, case.sentences, case.templates)
    require(first == second, f"two calls of examples() with seed 0 differ; {EXAMPLES_FIX}")
    _same_split(case.split().assignment, case.split().assignment, "two calls of split() with seed 0 differ")


def same_examples_in_another_process(case: Case) -> None:
    """Python's own ``hash`` differs between processes; the examples must not."""
    with tempfile.TemporaryDirectory() as folder:
        cells = Path(folder) / "cells.parquet"
        case.sentences.write_parquet(cells)
        order = {
            "module": type(case.task).__module__,
            "class": type(case.task).__qualname__,
            "options": case.task.options(),
            "templates": [[t.name, t.text, t.answer] for t in case.templates],
            "cells": str(cells),
            "path": [p for p in sys.path if p],
        }
        environment = {
            **os.environ,
            "PYTHONHASHSEED": "4711" if os.environ.get("PYTHONHASHSEED") != "4711" else "1",
        }
        done = subprocess.run(
            [sys.executable, "-m", "c2s.testing.digest"],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
    require(done.returncode == 0, f"examples() failed in a process of its own: {done.stderr.strip()[-500:]}")
    there = done.stdout.strip().splitlines()[-1]
    here = examples_digest(case.task, case.sentences, case.templates)
    require(there == here, f"another process makes other examples (hash() or a set's order?); {EXAMPLES_FIX}")


def row_order_does_not_matter(case: Case) -> None:
    """Shuffled cells give the same examples and the same split."""
    ids = case.sentences.table["cell_id"].to_pylist()
    shuffled = sorted(ids, key=lambda cell_id: hashlib.sha256(cell_id.encode()).digest())
    other = case.task.examples(case.sentences.select(shuffled), case.templates, seed=0)
    before, after = _by_id(case.examples()), _by_id(other)
    require(set(before) == set(after), f"shuffling the cells changes which examples are made; {EXAMPLES_FIX}")
    changed = [i for i in before if repr(before[i]) != repr(after[i])]
    require(
        not changed, f"shuffling the cells changes {len(changed)} examples, first {changed[:1]}; {EXAMPLES_FIX}"
    )
    obs = case.obs
    moved = case.task.split(obs.loc[shuffled], seed=0).assignment.loc[obs.index]
    _same_split(case.split().assignment, moved, "shuffling the cells changes the split")


def split_is_complete(case: Case) -> None:
    """Every cell is in exactly one part, and no part is without cells."""
    assignment = case.split().assignment
    require(
        assignment.index.is_unique and set(assignment.index) == set(case.obs.index),
        "split() does not assign each cell of obs exactly once",
    )
    unknown = sorted(set(assignment) - set(PARTS))
    require(not unknown, f"split() made parts called {unknown}; they are {', '.join(PARTS)}")
    empty = [part for part in PARTS if not (assignment == part).any()]
    require(
        not empty, f"split() left {' and '.join(empty)} empty: use c2s.split_cells, or give more example cells"
    )
    require(bool(case.split().note.strip()), "the split has no note: one sentence for the page, how it was made")


def split_does_not_leak(case: Case) -> None:
    """No value of the split's unit, nor of the column that must be kept whole, is on two sides."""
    split = case.split()
    if split.unit != "cell":
        require(split.unit in case.obs, f"the split's unit {split.unit!r} is no column of obs")
        _not_cut(split.assignment, case, split.unit, f"the split claims to keep {split.unit} whole")
    if case.kept_whole is not None and case.kept_whole in case.obs:
        _not_cut(
            split.assignment,
            case,
            case.kept_whole,
            f"the cells have a {case.kept_whole}, so split by it "
            f"(state it in optional_columns; or set kept_whole = None in the contract and say why)",
        )


def examples_stay_in_their_part(case: Case) -> None:
    """Examples made of the cells of one part show cells of that part only."""
    split = case.split()
    for part in PARTS:
        ids = split.ids(part)
        if not ids:
            continue
        shown = {i for cells in case.part(part)["cell_ids"].to_pylist() for i in cells}
        strangers = sorted(shown - set(ids))
        require(not strangers, f"examples of {part} show {len(strangers)} cells of other parts: {strangers[:3]}")


def examples_have_their_columns(case: Case) -> None:
    """The table of examples is complete, and each prompt can be rendered again from its row."""
    from c2s.tasks import EXAMPLE_SCHEMA

    examples = case.examples()
    missing = [name for name in EXAMPLE_SCHEMA.names if name not in examples.column_names]
    require(not missing, f"the examples lack {', '.join(missing)}; build them with c2s.example_table")
    require(examples.num_rows > 0, "no example was made of the cells")
    templates, known = {t.name: t for t in case.templates}, set(case.obs.index)
    for row in examples.to_pylist():
        where = f"example {row['example_id']!r}"
        require(row["template"] in templates, f"{where} names the template {row['template']!r}, not among its own")
        require(row["prompt"] == row["prompt"].rstrip(), f"the prompt of {where} ends in white space")
        require(bool(row["answer"]), f"{where} has no answer")
        require(row["answer"] == row["answer"].strip(), f"the answer of {where} has white space around it")
        require(bool(row["cell_ids"]) and set(row["cell_ids"]) <= known, f"{where} names unknown cells, or none")
        try:
            again = templates[row["template"]].render(row)
        except C2SError as error:
            raise AssertionError(f"{where} cannot be rendered again from its row: {error}") from None
        require(
            again == row["prompt"],
            f"{where} rendered again from its row reads differently (does the prompt state a number or a field "
            "that is not true of the row?)",
        )


def stated_gene_counts_are_true(case: Case) -> None:
    """A number of genes stated in a prompt is the number of genes in it, also after gene dropout."""
    vocabulary = set(case.sentences.genes)
    rows = case.examples().to_pylist()
    dropout = GeneDropout(0.5, case.templates)
    if dropout.reaches(case.examples().column_names):
        rows += [dropout(row, np.random.default_rng(i)) for i, row in enumerate(rows)]
    for row in rows:
        words = [word.strip(".,:;!?()[]\"'") for word in row["prompt"].split()]
        total = sum(word in vocabulary for word in words)
        true = {total, *_runs(word in vocabulary for word in words)}
        for stated in _STATED_GENES.findall(row["prompt"]):
            require(
                int(stated) in true,
                f"the prompt of {row['example_id']!r} says {stated} genes and shows {total}; "
                "write {n_genes}, which is counted",
            )


def answers_parse_to_themselves(case: Case) -> None:
    """A correct answer, with or without white space around it, is read as itself."""
    for answer in answers_of(case):
        for text in (answer, f" {answer}", f"{answer}\n"):
            require(
                case.task.parse(text) == answer, f"parse({text!r}) is {case.task.parse(text)!r}, not {answer!r}"
            )


def candidates_cover_the_answers(case: Case) -> None:
    """If the allowed answers are listed, they are sorted, distinct, and hold every true answer."""
    candidates = case.task.candidates(case.examples())
    if candidates is None:
        return
    require(candidates == sorted(set(candidates)), "candidates() is not sorted, or lists an answer twice")
    absent = sorted(set(answers_of(case)) - set(candidates))
    require(not absent, f"candidates() lacks true answers: {absent[:3]}")


def stated_columns_are_needed(case: Case) -> None:
    """Each stated column exists; without it, the error names it; columns not stated are not used."""
    obs = case.obs
    absent = [column for column in case.task.columns if column not in obs]
    require(not absent, f"the task states the column {', '.join(absent)}, which the cells do not have")
    for column in case.task.columns:
        try:
            case.task.examples(case.without([column]), case.templates, seed=0)
        except C2SError as error:
            require(column in str(error), f"the error for a missing {column!r} does not name it: {error}")
        except Exception as error:
            raise AssertionError(
                f"without the column {column!r} examples() raised {type(error).__name__}, not a C2SError: {error}"
            ) from error
        else:
            raise AssertionError(f"the task states the column {column!r} but makes examples without it")
    stated = {*case.task.columns, *case.task.optional_columns}
    others = [column for column in obs.columns if column not in {*stated, "n_genes"}]
    try:
        fewer = case.task.examples(case.without(others), case.templates, seed=0)
        moved = case.task.split(obs.drop(columns=others), seed=0).assignment
    except Exception as error:
        raise AssertionError(
            f"with only its stated columns ({', '.join(sorted(stated)) or 'none'}) the task fails: {error}"
        ) from error
    require(
        _by_id(fewer).keys() == _by_id(case.examples()).keys(), "columns that are not stated change the examples"
    )
    _same_split(case.split().assignment, moved, "columns that are not stated change the split")


def prompts_do_not_need_answers(case: Case) -> None:
    """With ``answers=False`` the answers are None and an example of the same id has the same prompt."""
    blind = _by_id(case.task.examples(case.sentences, case.templates, seed=0, answers=False))
    seen = _by_id(case.examples())
    told = [i for i, row in blind.items() if row["answer"] is not None]
    require(not told, f"with answers=False {len(told)} examples have an answer")
    # A task on several cells may group them by the answer's column, and so make other examples without it.
    changed = [i for i in seen if i in blind and blind[i]["prompt"] != seen[i]["prompt"]]
    require(not changed, f"with answers=False {len(changed)} prompts change, first {changed[:1]}")


CHECKS = (
    options_survive_json,
    profiles_are_known,
    examples_have_their_columns,
    same_seed_same_examples,
    row_order_does_not_matter,
    split_is_complete,
    split_does_not_leak,
    examples_stay_in_their_part,
    stated_gene_counts_are_true,
    answers_parse_to_themselves,
    candidates_cover_the_answers,
    stated_columns_are_needed,
    prompts_do_not_need_answers,
)


def examples_digest(task: Any, sentences: Any, templates: Any) -> str:
    """Return a hash of the examples that `task` makes with seed 0: of every value, in order."""
    rows = task.examples(sentences, templates, seed=0).to_pylist()
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def answers_of(case: Case) -> list[str]:
    """Return the distinct true answers, sorted."""
    return sorted(set(case.examples()["answer"].to_pylist()))


def _by_id(examples: Any) -> dict[str, dict[str, Any]]:
    return {row["example_id"]: row for row in examples.to_pylist()}


def _runs(flags: Iterable[bool]) -> set[int]:
    """Lengths of the runs of true values."""
    lengths, length = set(), 0
    for flag in (*flags, False):
        if not flag and length:
            lengths.add(length)
        length = length + 1 if flag else 0
    return lengths


def _not_cut(assignment: Any, case: Case, column: str, why: str) -> None:
    sides = assignment.groupby(case.obs[column].astype(str).loc[assignment.index].to_numpy()).nunique()
    cut = sorted(sides.index[sides > 1])
    require(not cut, f"{why}, but {len(cut)} values of {column} are on two sides: {', '.join(cut[:3])}")


def _same_split(one: Any, other: Any, message: str) -> None:
    require(bool((one == other.loc[one.index]).all()), f"{message}; use c2s.split_cells")


def require(holds: bool, message: str) -> None:
    """Raise `AssertionError` with `message` unless `holds`."""
    if not holds:
        raise AssertionError(message)
