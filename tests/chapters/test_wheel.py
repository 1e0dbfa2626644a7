"""The chapters travel in the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="building a wheel needs hatchling")
ROOT = Path(__file__).parents[2]


def test_an_unpacked_wheel_reads_its_own_chapters(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    shipped = {name.removeprefix("c2s/chapters/_book/") for name in names if "/_book/" in name}
    expected = {p.relative_to(ROOT / "book").as_posix() for p in ROOT.glob("book/chapters/*.md")}
    expected |= {f"profiles/{p.name}" for p in ROOT.glob("book/profiles/*.yaml")} | {"references.bib"}
    assert expected <= shipped
    assert "c2s/py.typed" in names
    assert {f"c2s/data/_manifests/{p.name}" for p in ROOT.glob("data_manifests/*.yaml")} <= names
    script = (
        "from c2s.chapters.page import plain_markdown; from c2s.chapters import find_chapter, chapter_parameters;"
        "chapter = find_chapter('how-to-read'); print(chapter.source, chapter_parameters(chapter)['n_cells'],"
        "plain_markdown('{footcite:p}`wolf2018`'));"
        "from c2s.data.catalogue import manifest_folder, shipped_manifests;"
        "print(manifest_folder(), len(shipped_manifests()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "C2S_LOAD_PLUGINS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *chapter, about_manifests = done.stdout.splitlines()
    source, value, cited = "\n".join(chapter).split(maxsplit=2)
    n_manifests = len(list(ROOT.glob("data_manifests/*.yaml")))
    assert about_manifests == f"{tmp_path / 'site' / 'c2s' / 'data' / '_manifests'} {n_manifests}"
    assert source == str(tmp_path / "site" / "c2s" / "chapters" / "_book" / "chapters" / "how-to-read.md")
    assert (value, cited.strip()) == ("3", "(Wolf et al., 2018)")
