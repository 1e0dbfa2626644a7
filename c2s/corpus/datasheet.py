"""The datasheet of a corpus: what is in it, from where, how it was split, for a person to read."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from c2s.files import atomic_output

_BLUE, _ORANGE, _GREEN = "#0072B2", "#E69F00", "#009E73"


def write_datasheet(content: Mapping[str, Any], out: Path) -> None:
    """Write ``DATASHEET.md`` and the figures that it shows.

    Parameters
    ----------
    content
        The manifest.
    out
        The corpus's folder.
    """
    figures = {
        "tasks": _bars(
            {name: task["parts"] for name, task in content["tasks"].items()}, "examples", list(content["parts"])
        ),
        "datasets": _bars(
            {name: dataset["parts"] for name, dataset in content["datasets"].items()},
            "examples",
            list(content["parts"]),
        ),
        "lengths": _lengths(content["tasks"], content["tokenizer"]["name"]),
    }
    for name, picture in figures.items():
        with atomic_output(out / "figures" / f"{name}.svg", overwrite=True) as temporary:
            temporary.write_bytes(picture)
    with atomic_output(out / "DATASHEET.md", overwrite=True) as temporary:
        temporary.write_text(_text(content), encoding="utf-8")


def _text(content: Mapping[str, Any]) -> str:
    totals, unit = content["totals"], "words" if content["tokenizer"]["name"] == "words" else "tokens"
    lines = [
        f"# Datasheet of the corpus {content['name']}",
        "",
        f"{totals.get('rows', 0):,} examples, {totals.get('tokens', 0):,} {unit}, {totals.get('shards', 0)} "
        f"shards of {totals.get('bytes', 0) / 1e6:,.1f} MB in all. Made by c2s {content['c2s_version']} with seed "
        f"{content['seed']} from the specification in `spec.yaml`; every checksum is in `manifest.json`.",
        "",
    ]
    simulated = [name for name, d in content["datasets"].items() if d.get("simulated")]
    if simulated:
        lines += [f"**Simulated, not measured:** {', '.join(simulated)}.", ""]
    lines += ["## Parts", "", *_table(("part", "examples", unit, "shards"), _parts(content)), ""]
    lines += [content["split"]["note"], ""]
    dropped = content["duplicates"]["dropped"]
    compared = content["duplicates"]["genes_compared"]
    if compared:
        lines += [
            f"Near-duplicate cells (the same first {compared} genes in the same order, in another dataset or on "
            f"another side) were left out: {_counts(dropped) or 'none was found'}.",
            "",
        ]
    too_few = {k: v for k, v in content["cells_with_too_few_genes"].items() if v}
    if too_few:
        lines += [f"Cells that express too few genes were left out: {_counts(too_few)}.", ""]
    lines += ["## Tasks", "", "![Examples of each task, by part](figures/tasks.svg)", ""]
    head = ("task", "weight", "examples", f"{unit} each", "cells each", "genes each", "shortened to fit")
    lines += [*_table(head, _tasks(content)), ""]
    lines += [f"![Length of the examples of each task, in {unit}](figures/lengths.svg)", ""]
    lines += ["## Sources", "", "![Examples of each dataset, by part](figures/datasets.svg)", ""]
    head = ("dataset", "study", "cells", "examples", "licence", "citation", "sha256")
    lines += [*_table(head, _sources(content)), ""]
    if content["left_out"]:
        lines += [
            "## Left out for want of metadata",
            "",
            *_table(("dataset", "what", "why"), _left_out(content)),
            "",
        ]
    return "\n".join(lines)


def _parts(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (name, f"{c.get('rows', 0):,}", f"{c.get('tokens', 0):,}", str(c.get("shards", 0)))
        for name, c in content["parts"].items()
    ]


def _tasks(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for name, task in content["tasks"].items():
        c = task["counts"]
        n = max(c.get("rows", 0), 1)
        each = [f"{c.get(key, 0) / n:,.1f}" for key in ("tokens", "cells", "genes")]
        rows.append((name, f"{task['weight']:g}", f"{c.get('rows', 0):,}", *each, f"{c.get('shortened', 0):,}"))
    return rows


def _sources(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            str(d["study"]),
            f"{d['cells']:,}" if "cells" in d else "",
            f"{d['counts'].get('rows', 0):,}",
            str(d.get("licence", "not stated")),
            str(d.get("citation", d["file"])),
            f"`{d['sha256'][:12]}`",
        )
        for name, d in content["datasets"].items()
    ]


def _left_out(content: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (n["dataset"], n["task"], n["why"])
        if "task" in n
        else (
            n["dataset"],
            f"{n['cells_without']:,} cells, from tasks that need {n['column']}",
            f"no {n['column']}",
        )
        for n in content["left_out"]
    ]


def _counts(values: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} of {name}" for name, n in values.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    safe = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in [list(head), ["---"] * len(head), *safe]]


@contextmanager
def _own_look() -> Iterator[None]:
    """Draw as if nobody had told matplotlib anything: a chapter's style, say, would change a corpus's bytes."""
    import matplotlib as mpl

    own = {"svg.hashsalt": "c2s", "svg.fonttype": "none", "font.size": 9}
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({**own, "axes.spines.top": False, "axes.spines.right": False})
        yield


@_own_look()
def _bars(values: Mapping[str, Mapping[str, int]], label: str, parts: Sequence[str]) -> bytes:
    """Draw one bar per name, made of its parts."""
    figure = _figure(0.32 * len(values) + 1.2)
    ax = figure.subplots()
    names = list(values)[::-1]
    left = [0] * len(names)
    for part, colour in zip(parts, (_BLUE, _ORANGE, _GREEN), strict=False):
        widths = [values[name].get(part, 0) for name in names]
        ax.barh(names, widths, left=left, color=colour, label=part)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    ax.set_xlabel(label)
    ax.legend(frameon=False, fontsize=8)
    return _svg(figure)


@_own_look()
def _lengths(tasks: Mapping[str, Mapping[str, Any]], unit: str) -> bytes:
    """Draw how long the examples of each task are: one row per task, one column per doubling."""
    names = list(tasks)
    bins = sorted({int(b) for task in tasks.values() for b in task["lengths"]}) or [1]
    figure = _figure(0.32 * len(names) + 1.4)
    ax = figure.subplots()
    shares = []
    for name in names:
        found = tasks[name]["lengths"]
        total = max(sum(found.values()), 1)
        shares.append([found.get(str(b), 0) / total for b in bins])
    ax.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1)
    ax.invert_yaxis()
    ax.set_xticks([j + 0.5 for j in range(len(bins))], [f"≤ {b:,}" for b in bins], fontsize=8)
    ax.set_yticks([i + 0.5 for i in range(len(names))], names)
    ax.set_xlabel("words" if unit == "words" else "tokens")
    for i, row in enumerate(shares):
        for j, value in enumerate(row):
            if value >= 0.01:
                ax.text(
                    j, i, f"{value:.0%}", ha="center", va="center", fontsize=7, color="w" if value > 0.5 else "k"
                )
    return _svg(figure)


def _figure(height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(7.5, max(height, 1.8)), layout="constrained")


def _svg(figure: Any) -> bytes:
    """Return the figure; the same figure gives the same bytes."""
    picture = io.BytesIO()
    figure.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
    return picture.getvalue()
