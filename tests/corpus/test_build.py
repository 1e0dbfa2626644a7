"""The same bytes whatever happens: workers, order of units, kills; and refusals that leave nothing behind."""

from __future__ import annotations

import json
import os
import random

import anndata as ad
import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import sparse
from small_corpora import digests, quick_spec, rows_of, write_cells, write_gene_sets

from c2s.corpus import arrange, build_corpus, build_unit, make_spec, open_corpus, plan_corpus, units
from c2s.errors import C2SWarning, ConfigError, OutputError


def test_two_builds_and_units_in_any_order_give_the_same_bytes(tmp_path):
    spec = quick_spec(tmp_path)
    build_corpus(spec, tmp_path / "one", show_progress=False)
    plan = plan_corpus(spec)
    out = tmp_path / "two"
    (out / ".work").mkdir(parents=True)
    for unit in reversed(plan.units):
        build_unit(plan, unit, out)
    second = arrange(plan, out)
    for unit in random.Random(0).sample(second.units, len(second.units)):
        build_unit(second, unit, out)
    shards = {k: v for k, v in digests(out).items() if k.endswith(".parquet")}
    assert shards and shards.items() <= digests(tmp_path / "one").items()


def test_the_style_of_whoever_builds_changes_no_figure(tmp_path):
    import matplotlib as mpl

    spec = quick_spec(tmp_path)
    build_corpus(spec, tmp_path / "plain", show_progress=False)
    with mpl.rc_context({"font.size": 17, "axes.grid": True, "axes.prop_cycle": mpl.cycler(color=["red"])}):
        build_corpus(spec, tmp_path / "styled", show_progress=False)
        assert mpl.rcParams["font.size"] == 17
    assert digests(tmp_path / "plain") == digests(tmp_path / "styled")


def test_a_finished_unit_is_not_done_again_unless_its_shard_is_damaged(tmp_path, monkeypatch):
    spec = quick_spec(tmp_path)
    plan = plan_corpus(spec)
    out = tmp_path / "out"
    (out / ".work").mkdir(parents=True)
    for unit in plan.units:
        build_unit(plan, unit, out)
    second = arrange(plan, out)
    unit = second.units[0]
    first = build_unit(second, unit, out)
    calls = []
    monkeypatch.setattr(units, "_write_shard", lambda *a: calls.append(a) or first)
    assert build_unit(second, unit, out) == first and not calls
    shard = out / first.path
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    build_unit(second, unit, out)
    assert len(calls) == 1


def test_the_corpus_of_two_processes_is_that_of_one(everything, tmp_path):
    build_corpus(everything.spec, tmp_path / "two", workers=2, show_progress=False)
    assert digests(tmp_path / "two") == digests(everything.corpus.path)


def test_rows_of_the_file_in_another_order_give_the_same_examples(tmp_path):
    spec = quick_spec(tmp_path)
    build_corpus(spec, tmp_path / "one", show_progress=False)
    cells = ad.read_h5ad(tmp_path / "a.h5ad")
    order = np.random.default_rng(1).permutation(cells.n_obs)
    cells[order].copy().write_h5ad(tmp_path / "a.h5ad")
    build_corpus(spec, tmp_path / "two", show_progress=False)
    assert rows_of(tmp_path / "one") == rows_of(tmp_path / "two")


@pytest.mark.parametrize("kind", ["zarr", "dense", "csc", "normalised"])
def test_how_the_matrix_is_stored_changes_nothing(tmp_path, kind):
    spec = quick_spec(tmp_path)
    build_corpus(spec, tmp_path / "one", show_progress=False)
    cells = ad.read_h5ad(tmp_path / "a.h5ad")
    path = tmp_path / f"other.{'zarr' if kind == 'zarr' else 'h5ad'}"
    if kind == "dense":
        cells.X = cells.X.toarray()
    if kind == "csc":
        cells.X = cells.X.tocsc()
    if kind == "normalised":
        cells.X = np.expm1(cells.X) * np.float32(0.5)
    cells.write_zarr(path) if kind == "zarr" else cells.write_h5ad(path)
    again = quick_spec(tmp_path, datasets=[{"path": str(path), "name": "a"}])
    if kind == "csc":
        with pytest.warns(match="CSC"):
            build_corpus(again, tmp_path / "two", show_progress=False)
    else:
        build_corpus(again, tmp_path / "two", show_progress=False)
    one, two = rows_of(tmp_path / "one"), rows_of(tmp_path / "two")
    assert {k: v["part"] for k, v in one.items()} == {k: v["part"] for k, v in two.items()}
    assert one == two or kind == "normalised"


def test_a_full_disk_leaves_nothing_half_written_and_the_build_goes_on(tmp_path, monkeypatch):
    import errno

    spec = quick_spec(tmp_path)
    build_corpus(spec, tmp_path / "good", show_progress=False)
    real, written = pq.ParquetWriter.write_table, []

    def full(self, *args, **options):
        written.append(1)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, *args, **options)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OutputError, match="disk is full"):
        build_corpus(spec, tmp_path / "out", show_progress=False)
    assert len(list((tmp_path / "out").rglob("*.parquet"))) == 2
    assert not list((tmp_path / "out").rglob(".*.tmp"))
    monkeypatch.setattr(pq.ParquetWriter, "write_table", real)
    report = build_corpus(spec, tmp_path / "out", show_progress=False)
    assert report.units_done > 0
    assert digests(tmp_path / "out") == digests(tmp_path / "good")


def test_two_builds_at_once_are_refused(tmp_path):
    from filelock import FileLock

    spec = quick_spec(tmp_path)
    with FileLock(str(tmp_path / ".out.lock")), pytest.raises(OutputError, match="another build"):
        build_corpus(spec, tmp_path / "out", show_progress=False)


def test_near_duplicates_are_kept_on_one_side_and_counted(tmp_path):
    write_cells(tmp_path, "a", 200, seed=0)
    cells = ad.read_h5ad(tmp_path / "a.h5ad")
    cells.obs_names = [f"copy-{i}" for i in range(200)]
    copied = cells[:100].copy()
    copied.write_h5ad(tmp_path / "c.h5ad")
    data = [{"path": str(tmp_path / f"{n}.h5ad"), "name": n, "study": n} for n in "ac"]
    report = build_corpus(quick_spec(tmp_path, datasets=data), tmp_path / "out", show_progress=False)
    rows = rows_of(tmp_path / "out")
    sides: dict[str, set] = {}
    for row in rows.values():
        if row["task"] == "single-cell-language-modeling":
            cell = row["cell_ids"][0]
            number = int(cell.split("-")[1])
            sides.setdefault(number, set()).add((row["dataset"], row["part"]))
    assert all(len({part for _, part in found}) == 1 for found in sides.values())
    assert all(len(found) == 1 for found in sides.values())
    dropped = open_corpus(tmp_path / "out").manifest["duplicates"]["dropped"]
    assert sum(dropped.values()) >= 100
    assert report.rows == len(rows)
    assert "left out" in (tmp_path / "out" / "DATASHEET.md").read_text()


def test_cells_that_are_not_used_do_not_take_their_near_duplicates_with_them(tmp_path):
    """Two cells of few genes alike in their first two: the one that is left out must not knock out the other."""
    write_cells(tmp_path, "a", 120, seed=0)
    cells = ad.read_h5ad(tmp_path / "a.h5ad")
    cells.obs_names = [f"c-{i:04d}" for i in range(120)]
    short = cells.copy()
    values = short.X.toarray()
    # Of the copies only the two strongest genes are left, in the same order.
    values[values < np.sort(values, axis=1)[:, -2:-1]] = 0
    short.X = sparse.csr_matrix(values)
    short = short[(values > 0).sum(axis=1) == 2].copy()
    short.write_h5ad(tmp_path / "c.h5ad")
    data = [{"path": str(tmp_path / f"{n}.h5ad"), "name": n, "study": n} for n in "ca"]
    options = {"tasks": ["single-cell-language-modeling"], "min_genes": 5, "duplicates": 2}
    options |= {"split": {"by": "cell", "fractions": {"train": 0.5, "test": 0.5}}}
    build_corpus(quick_spec(tmp_path, datasets=data[1:], **options), tmp_path / "alone", show_progress=False)
    build_corpus(quick_spec(tmp_path, datasets=data, **options), tmp_path / "both", show_progress=False)
    assert open_corpus(tmp_path / "both").manifest["cells_with_too_few_genes"]["c"] == short.n_obs > 50
    assert len(rows_of(tmp_path / "alone")) > 50
    assert rows_of(tmp_path / "both") == rows_of(tmp_path / "alone")


def test_studies_stay_whole_and_stated_overlaps_stay_together(tmp_path):
    data = []
    for i, name in enumerate("abc"):
        write_cells(tmp_path, name, 60, seed=i)
        data.append({"path": str(tmp_path / f"{name}.h5ad"), "name": name, "study": f"study {name}"})
    spec = quick_spec(tmp_path, datasets=data, split={"by": "study"})
    build_corpus(spec, tmp_path / "out", show_progress=False)
    sides: dict[str, set] = {}
    for row in rows_of(tmp_path / "out").values():
        sides.setdefault(row["study"], set()).add(row["part"])
    assert sorted(map(len, sides.values())) == [1, 1, 1]
    assert set.union(*sides.values()) == {"train", "validation", "test"}

    import dataclasses

    from c2s.corpus.arrangement import _owners

    plan = plan_corpus(spec)
    first = dataclasses.replace(plan.sources[0], overlaps=("c",))
    owners = _owners(dataclasses.replace(plan, sources=(first, *plan.sources[1:])))
    assert owners["a"]["name"] == owners["c"]["name"] != owners["b"]["name"]
    assert owners["a"]["whole"] and not owners["b"]["whole"]


def test_missing_metadata_is_an_error_or_is_left_out_and_said(tmp_path):
    path = write_cells(tmp_path, "a", 120)
    cells = ad.read_h5ad(path)
    cells.obs["cell_type"] = cells.obs["cell_type"].astype(object)
    cells.obs.iloc[:7, cells.obs.columns.get_loc("cell_type")] = np.nan
    del cells.obs["tissue"]
    cells.write_h5ad(path)
    tasks = {"cell-type-annotation": 1, "single-cell-language-modeling": 1, "tissue-annotation": 1}
    from c2s.errors import ObsError

    with pytest.raises(
        ObsError, match=r"has no tissue.*\(cell_type\) says nothing for 7 of 120 cells, first 'a-0000'"
    ):
        plan_corpus(quick_spec(tmp_path, tasks=tasks))
    build_corpus(quick_spec(tmp_path, tasks=tasks, missing="skip"), tmp_path / "out", show_progress=False)
    corpus = open_corpus(tmp_path / "out")
    counts = {name: task["counts"].get("rows", 0) for name, task in corpus.manifest["tasks"].items()}
    assert counts["single-cell-language-modeling"] - counts["cell-type-annotation"] == 7
    assert counts["tissue-annotation"] == 0
    sheet = (corpus.path / "DATASHEET.md").read_text()
    assert "it has no tissue" in sheet and "7 cells" in sheet


def test_verify_finds_every_kind_of_damage(tmp_path):
    build_corpus(quick_spec(tmp_path), tmp_path / "out", show_progress=False)
    corpus = open_corpus(tmp_path / "out")
    assert corpus.verify() == []
    one, two, three = corpus.files("train")[:3]
    one.unlink()
    two.write_bytes(two.read_bytes()[:-1] + b"x")
    (tmp_path / "out" / "train" / "more.parquet").write_bytes(three.read_bytes())
    assert len(corpus.verify()) == 3


def test_manifest_index_and_shards_agree(everything):
    manifest, path = everything.corpus.manifest, everything.corpus.path
    index = pq.read_table(path / "index.parquet").to_pylist()
    total = 0
    for shard in manifest["shards"]:
        file = pq.ParquetFile(path / shard["path"])
        groups = [g for g in index if g["path"] == shard["path"]]
        assert [g["rows"] for g in groups] == [
            file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)
        ]
        assert sum(g["rows"] for g in groups) == shard["rows"] == file.metadata.num_rows
        total += shard["rows"]
    assert total == manifest["totals"]["rows"] == len(everything.rows)
    for key in ("tasks", "datasets"):
        for name, entry in manifest[key].items():
            mine = [r for r in everything.rows if r[key[:-1]] == name]
            assert entry["counts"]["rows"] == len(mine)
            assert entry["counts"]["tokens"] == sum(r["n_tokens"] for r in mine)
            assert entry["counts"]["genes"] == sum(r["n_genes"] for r in mine)
    assert json.loads((path / "manifest.json").read_text()) == manifest
    assert not (path / ".work").exists()
    sheet = (path / "DATASHEET.md").read_text()
    for figure in ("tasks", "datasets", "lengths"):
        assert f"figures/{figure}.svg" in sheet and (path / "figures" / f"{figure}.svg").stat().st_size > 1000


def test_gene_sets_alone_make_a_corpus(tmp_path):
    spec = make_spec(
        gene_sets=[str(write_gene_sets(tmp_path))], tasks={"gene-set-naming": 2}, context={"tokens": 34}
    )
    build_corpus(spec, tmp_path / "out", show_progress=False)
    rows = rows_of(tmp_path / "out").values()
    assert len(rows) == 60
    assert any(row["n_genes"] < row["n_genes_given"] for row in rows)
    assert all(len(f"{row['prompt']} {row['answer']}".split()) == row["n_tokens"] <= 34 for row in rows)


def test_relative_paths_mean_the_same_from_everywhere(tmp_path, monkeypatch):
    quick_spec(tmp_path)
    monkeypatch.chdir(tmp_path)
    spec = quick_spec(tmp_path, datasets=[{"path": "a.h5ad", "name": "a"}], abstracts="abstracts.parquet")
    first = build_corpus(spec, "out", show_progress=False)
    assert first.units_done > 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    stated = tmp_path / "out" / "spec.yaml"
    assert build_corpus(stated, tmp_path / "out", show_progress=False).units_done == 0


def test_cells_of_an_unknown_donor_are_on_no_side(tmp_path):
    path = write_cells(tmp_path, "a")
    cells = ad.read_h5ad(path)
    donors = cells.obs["donor_id"].astype(object)
    donors.iloc[::10] = None
    cells.obs["donor_id"] = donors
    cells.write_h5ad(path)
    spec = quick_spec(tmp_path, tasks={"single-cell-language-modeling": 1}, split={"by": "donor"})
    build_corpus(spec, tmp_path / "out", show_progress=False)
    used = {cell for row in rows_of(tmp_path / "out").values() for cell in row["cell_ids"]}
    assert used and used.isdisjoint(f"a:{name}" for name in cells.obs_names[::10])
    assert used.isdisjoint(cells.obs_names[::10])
    assert "30 cells of a name no donor" in json.dumps(open_corpus(tmp_path / "out").manifest)


def test_numbers_that_name_donors_keep_all_their_digits(tmp_path):
    path = write_cells(tmp_path, "a")
    cells = ad.read_h5ad(path)
    names = cells.obs["donor_id"].astype("category").cat.codes.to_numpy()
    cells.obs["donor_id"] = 1_000_000.0 + names
    cells.write_h5ad(path)
    source = plan_corpus(quick_spec(tmp_path)).sources[0]
    assert set(source.categories["donor_id"]) == {str(1_000_000 + int(n)) for n in np.unique(names)}


def test_a_corpus_of_nothing_is_refused(tmp_path):
    spec = quick_spec(tmp_path, tasks={"tissue-annotation": 1}, cells=(200, 400))
    with pytest.raises(ConfigError, match="no example can be made"):
        build_corpus(spec, tmp_path / "out", show_progress=False)


def test_a_part_without_an_example_is_warned_of_and_told_of(tmp_path):
    fractions = {"train": 0.8998, "validation": 0.0002, "test": 0.1}
    with pytest.warns(
        C2SWarning, match="No example of the corpus is in the validation part, split by cell; name fewer"
    ):
        build_corpus(quick_spec(tmp_path, split={"by": "cell", "fractions": fractions}), tmp_path / "out")
    note = open_corpus(tmp_path / "out").manifest["split"]["note"]
    assert note.endswith("Nothing is in the validation part.")
    assert note in (tmp_path / "out" / "DATASHEET.md").read_text()


def test_abstracts_that_all_parts_share_are_told_of(everything, tmp_path):
    assert "shared by its parts: score" in everything.corpus.manifest["split"]["note"]
    build_corpus(quick_spec(tmp_path), tmp_path / "out", show_progress=False)
    assert "shared by its parts" not in open_corpus(tmp_path / "out").manifest["split"]["note"]


def test_two_collections_of_one_name_are_refused(tmp_path):
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        write_gene_sets(tmp_path / folder)
    files = [str(tmp_path / folder / "sets.gmt") for folder in ("one", "other")]
    with pytest.raises(ConfigError, match="two collections are called 'sets'"):
        plan_corpus(quick_spec(tmp_path, gene_sets=files, tasks={"gene-set-naming": 1}))
