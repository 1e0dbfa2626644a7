"""What the bytes of a corpus depend on: its inputs' contents, and a quicker look at them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from c2s.corpus.plan import CorpusPlan
from c2s.corpus.prompt_files import metadata_wording
from c2s.provenance import checksum


def contents(plan: CorpusPlan, sums: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a checksum of everything that a corpus is made from; the same on every machine.

    Parameters
    ----------
    plan
        From `plan_corpus`.
    sums
        Checksum of each source by name, where they are known; else each is read.

    Returns
    -------
    dict
        ``specification``, ``templates``, ``abstracts``, ``tokenizer`` and ``source NAME`` for each source.
    """
    found = {"specification": plan.spec.digest(), **_texts(plan)}
    for name, path in _sources(plan):
        found[f"source {name}"] = sums[name] if sums is not None else checksum(path)
    return found


def quick_look(plan: CorpusPlan) -> dict[str, str]:
    """Return the same as far as it is quickly told, by size and time, with the versions that write the bytes."""
    import pyarrow as pa

    from c2s import __version__

    found = {"version of c2s": __version__, "version of pyarrow": pa.__version__, **_texts(plan)}
    for name, path in _sources(plan):
        found[f"source {name}"] = f"{path} {stamp(path)}"
    return found


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the keys whose values differ, or that only one has."""
    return sorted(key for key in {*before, *now} if before.get(key) != now.get(key))


def stamp(path: str | Path) -> str:
    """Return size and time of a file; of a folder (zarr) a checksum over those of every file in it."""
    place = Path(path)
    if not place.is_dir():
        stat = place.stat()
        return f"{stat.st_size} {stat.st_mtime_ns}"
    digest = hashlib.sha256()
    for file in sorted(p for p in place.rglob("*") if p.is_file()):
        stat = file.stat()
        digest.update(f"{file.relative_to(place).as_posix()}\0{stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _sources(plan: CorpusPlan) -> list[tuple[str, str]]:
    return [*((s.name, s.path) for s in plan.sources), *plan.gene_sets]


def _texts(plan: CorpusPlan) -> dict[str, str]:
    """Return checksums of what is small: templates, abstracts, and a tokenizer that is not learned here."""
    templates = repr([*plan.tasks.values(), metadata_wording(plan.spec.templates)])
    found = {
        "templates": hashlib.sha256(templates.encode()).hexdigest(),
        "abstracts": hashlib.sha256(repr(sorted(plan.abstracts.items())).encode()).hexdigest(),
    }
    name = plan.spec.context.tokenizer
    if name is None or name == "tiny":
        return found | {"tokenizer": name or "words"}
    folder = Path(name)
    if not folder.is_dir():
        from c2s.models.loading import find_model_folder

        folder, _ = find_model_folder(name)
    files = [folder / "tokenizer.json", folder / "tokenizer_config.json"]
    return found | {"tokenizer": " ".join(checksum(file) if file.is_file() else "none" for file in files)}
