"""The content manifest of a corpus, its index and its datasheet: put together when every unit is done."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from c2s import __version__
from c2s.corpus.budget import TOKENIZER
from c2s.corpus.fingerprint import contents
from c2s.corpus.plan import CorpusPlan, Unit
from c2s.corpus.units import UnitResult, finished
from c2s.errors import InputFileError, OutputError
from c2s.files import atomic_output
from c2s.provenance import checksum

MANIFEST, INDEX = "manifest.json", "index.parquet"
FORMAT = 1


def write_manifest(plan: CorpusPlan, reading: Sequence[Unit], out: Path) -> None:
    """Write ``index.parquet``, the datasheet with its figures and, last, ``manifest.json``.

    Parameters
    ----------
    plan
        The plan whose units wrote the shards.
    reading
        The units of the first stage, which know the sources' checksums.
    out
        The corpus's folder.

    Raises
    ------
    OutputError
        A unit is not done.
    """
    from c2s.corpus.datasheet import write_datasheet

    results = [(unit, _result(unit, out)) for unit in plan.units]
    sums = {u.source: _result(u, out).sha256 for u in reading if u.kind == "checksum"}
    content = _content(plan, results, sums)
    _write_index(results, out)
    content["index"] = {"path": INDEX, "sha256": checksum(out / INDEX)}
    if plan.spec.context.tokenizer is not None:
        content["tokenizer"]["sha256"] = checksum(out / TOKENIZER / "tokenizer.json")
    write_datasheet(content, out)
    with atomic_output(out / MANIFEST, overwrite=True) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Read the manifest of a corpus.

    Raises
    ------
    InputFileError
        The folder holds no complete corpus.
    """
    file = Path(path) / MANIFEST
    if not file.is_file():
        unfinished = (Path(path) / ".work").is_dir()
        raise InputFileError(
            f"{path} holds no corpus" + (" yet: its build was stopped." if unfinished else "."),
            fix="run the same `c2s corpus build` again." if unfinished else "check the path.",
        )
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        known = content["format"] == FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise InputFileError(f"{file} is damaged ({error}).", fix="build the corpus again.") from error
    if not known:
        raise InputFileError(
            f"{file} has format {content['format']}, and this version of c2s reads {FORMAT}.", fix="update c2s."
        )
    return content


def _result(unit: Unit, out: Path) -> UnitResult:
    result = finished(unit, out)
    if result is None:
        raise OutputError(
            f"the unit {unit.id} of {out} is not done, though it was.",
            fix="run the same `c2s corpus build` again.",
        )
    return result


def _content(plan: CorpusPlan, results: Sequence[tuple[Unit, UnitResult]], sums: dict[str, str]) -> dict[str, Any]:
    parts: dict[str, Counter[str]] = {part: Counter() for part in plan.spec.split.fractions}
    datasets: dict[str, dict[str, Any]] = {}
    tasks: dict[str, dict[str, Any]] = {
        name: {"title": task.title, "kind": task.kind, "weight": plan.spec.tasks[name], "counts": Counter()}
        | {"parts": Counter(), "lengths": Counter()}
        for name, task in plan.tasks.items()
    }
    for source in plan.sources:
        facts = {"kind": "cells", "study": source.study, **source.facts, "sha256": sums[source.name]}
        facts |= {"cells": source.n_cells, "genes": source.n_genes}
        datasets[source.name] = facts | {"counts": Counter(), "tasks": Counter(), "parts": Counter()}
    for name, path in plan.gene_sets:
        facts = {"kind": "gene sets", "study": name, **plan.set_facts.get(name, {})}
        facts |= {"file": Path(path).name, "sha256": sums[name]}
        datasets[name] = facts | {"counts": Counter(), "tasks": Counter(), "parts": Counter()}
    totals: Counter[str] = Counter()
    for unit, result in results:
        counts = {"rows": result.rows, "tokens": result.tokens, "genes": result.genes, "bytes": result.bytes}
        counts["shards"] = 1
        totals.update(counts)
        parts[unit.part].update(counts)
        datasets[unit.source]["counts"].update(counts)
        datasets[unit.source]["parts"][unit.part] += result.rows
        for name, values in result.tasks.items():
            tasks[name]["counts"].update(values)
            tasks[name]["parts"][unit.part] += values["rows"]
            tasks[name]["lengths"].update(result.lengths[name])
            datasets[unit.source]["tasks"][name] += values["rows"]
    for task in tasks.values():
        task["lengths"] = {k: task["lengths"][k] for k in sorted(task["lengths"], key=int)}
    return {
        "format": FORMAT,
        "name": plan.spec.name,
        "c2s_version": __version__,
        "spec_sha256": plan.spec.digest(),
        "fingerprint": contents(plan, sums),
        "seed": plan.spec.seed,
        "tokenizer": {"name": plan.spec.context.tokenizer or "words", "limit": plan.spec.context.tokens},
        "totals": totals,
        "parts": parts,
        "tasks": tasks,
        "datasets": datasets,
        **plan.facts,
        "left_out": [dict(note) for note in plan.notes],
        "shards": [
            {"path": r.path, "part": u.part, "source": u.source, "kind": u.kind, "sha256": r.sha256}
            | {"bytes": r.bytes, "rows": r.rows, "tokens": r.tokens, "genes": r.genes}
            | {"tasks": {name: values["rows"] for name, values in r.tasks.items()}}
            for u, r in results
        ],
    }


def _write_index(results: Iterable[tuple[Unit, UnitResult]], out: Path) -> None:
    """Write one row per row group: which shard, which rows, of what."""
    rows = []
    for unit, result in results:
        first = 0
        for group, n in enumerate(result.row_groups):
            rows.append((unit.part, result.path, unit.source, unit.kind, group, first, n))
            first += n
    names = ("part", "path", "source", "kind", "row_group", "first_row", "rows")
    types = (pa.string(),) * 4 + (pa.int32(), pa.int64(), pa.int64())
    columns = [pa.array([row[i] for row in rows], t) for i, t in enumerate(types)]
    with atomic_output(out / INDEX, overwrite=True) as temporary:
        pq.write_table(pa.table(columns, names=list(names)), temporary, compression="zstd")
