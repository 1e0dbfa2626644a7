"""``c2s corpus``: build, inspect and verify a pretraining corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="Build, inspect and verify a pretraining corpus.")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a corpus.")]


@app.callback()
def corpus() -> None:
    """Build, inspect and verify a pretraining corpus."""


@app.command("build")
def build(
    context: typer.Context,
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="What the corpus is made of; see corpora/.")],
    out: Annotated[Path, typer.Option(help="Folder to build in, or to go on in.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Processes on this machine; default 1.")] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster instead; 'auto' finds or starts one.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw away the corpus in DIR, if there is one, and begin again.")
    ] = False,
) -> None:
    """Build a corpus of prompts and answers (section 4.1, table 1); a stopped build goes on where it was.

    The run is recorded in DIR.run.json, beside the folder, which holds the same bytes wherever it is built.
    """
    from c2s.corpus import build_corpus, load_spec
    from c2s.errors import C2SError, ConfigError
    from c2s.provenance import RunRecord

    if ray is not None and workers is not None:
        raise ConfigError(
            "c2s corpus build",
            [f"--workers {workers} are processes of this machine, and --ray {ray} uses the cluster's instead"],
            fix="give one of the two.",
        )
    given = load_spec(spec)
    place = out.with_name(f"{out.resolve().name}.run.json")
    record = RunRecord.of_command(
        context,
        place,
        config={"workers": None if ray else workers or 1, "specification": given.model_dump(mode="json")},
    ).start()
    record.seeds["seed"] = given.seed
    try:
        report = build_corpus(given, out, workers=workers or 1, ray=ray, overwrite=overwrite)
    except (C2SError, KeyboardInterrupt) as error:
        # Not where the folder was refused: the record there is of another run.
        if (out / ".work").is_dir():
            record.finish("interrupted" if isinstance(error, KeyboardInterrupt) else "failed", error=repr(error))
        raise
    if report.units_done or not place.exists():
        record.add_data("specification", spec)
        record.add_corpus(out, rows=report.rows, tokens=report.tokens, units_done=report.units_done)
        record.finish()
    typer.echo(f"{report}{'' if report.units_done else ' (it was complete already)'}")


@app.command("info")
def info(
    folder: Folder, as_json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False
) -> None:
    """Show what a corpus holds."""
    from c2s.corpus import open_corpus

    manifest = open_corpus(folder).manifest
    if as_json:
        typer.echo(json.dumps(manifest, indent=2, ensure_ascii=False))
        return
    unit = "words" if manifest["tokenizer"]["name"] == "words" else "tokens"
    totals = manifest["totals"]
    typer.echo(f"{manifest['name']}: {totals['rows']:,} examples, {totals['tokens']:,} {unit}, "
               f"{totals['shards']} shards, {totals['bytes'] / 1e6:,.1f} MB")  # fmt: skip
    typer.echo(manifest["split"]["note"])
    for key in ("parts", "tasks", "datasets"):
        rows = [(key[:-1], "examples", unit)]
        for name, entry in manifest[key].items():
            counts: dict[str, Any] = entry.get("counts", entry)
            rows.append((name, f"{counts.get('rows', 0):,}", f"{counts.get('tokens', 0):,}"))
        width = max(len(row[0]) for row in rows)
        typer.echo("\n" + "\n".join(f"{row[0]:<{width}}  {row[1]:>12}  {row[2]:>15}" for row in rows))
    if "fingerprint" in manifest:
        width = max(map(len, manifest["fingerprint"]))
        lines = [f"{name:<{width}}  {text[:16]}" for name, text in manifest["fingerprint"].items()]
        typer.echo("\n" + "\n".join([f"made from (sha256), by c2s {manifest['c2s_version']}", *lines]))


@app.command("verify")
def verify(folder: Folder) -> None:
    """Compare every shard with the manifest; exit code 1 if any differs."""
    from c2s.corpus import open_corpus
    from c2s.progress import progress

    found = open_corpus(folder)
    with progress("shards", len(found.manifest["shards"]) + 1) as advance:
        problems = found.verify(advance=advance)
    for problem in problems:
        typer.echo(f"FAILED  {problem}")
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{len(found.manifest['shards'])} shards are as the manifest says.")
