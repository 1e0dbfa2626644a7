"""Vectors: what they are the mean of, what they depend on, and what they do not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from c2s_embedding import embed_cells, embed_file, embed_prompts, embed_samples
from c2s_embedding.files import embed_samples_file, embed_texts_file
from c2s_embedding.templates import CELL

import c2s
from c2s.testing import simulated_cells

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s import LanguageModel


@pytest.fixture(scope="module")
def cells() -> AnnData:
    return simulated_cells(96)


@pytest.fixture(scope="module")
def folder(c2s_tiny_model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    c2s_tiny_model.model.save_pretrained(path)
    c2s_tiny_model.tokenizer.save_pretrained(path)
    return path


def test_a_vector_is_the_mean_of_the_last_hidden_state_over_the_prompt(
    c2s_tiny_model: LanguageModel, cells: AnnData
) -> None:
    sentence = c2s.to_cell_sentences(cells[:1].copy(), top_k=12).table["cell_sentence"][0].as_py()
    prompt = CELL.render({"cell_sentence": sentence})
    ids = c2s_tiny_model.tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        hidden = c2s_tiny_model.model(ids, output_hidden_states=True).hidden_states[-1]
    vector = embed_cells(c2s_tiny_model, cells[:1].copy(), top_k=12)
    np.testing.assert_allclose(vector[0], hidden[0].mean(0).numpy(), atol=1e-5)


def test_a_cells_vector_depends_on_neither_its_row_nor_its_neighbours(
    c2s_tiny_model: LanguageModel, cells: AnnData
) -> None:
    together = embed_cells(c2s_tiny_model, cells, top_k=12)
    order = np.random.default_rng(0).permutation(cells.n_obs)
    shuffled = embed_cells(c2s_tiny_model, cells[order].copy(), top_k=12, tokens_per_batch=64)
    np.testing.assert_allclose(shuffled, together[order], atol=1e-5)
    assert together.dtype == np.float32


def test_a_column_in_the_prompt_changes_the_vector_and_equal_prompts_have_equal_vectors(
    c2s_tiny_model: LanguageModel, cells: AnnData
) -> None:
    mixed = embed_cells(c2s_tiny_model, cells[:4].copy(), template="{cell_type} : {cell_sentence}", top_k=6)
    plain = embed_cells(c2s_tiny_model, cells[:4].copy(), template="{cell_sentence}", top_k=6)
    assert not np.allclose(mixed, plain, atol=1e-4)
    text = embed_cells(c2s_tiny_model, cells[:8].copy(), template="{cell_type}")
    np.testing.assert_allclose(text[0], text[4], atol=1e-5)


def test_a_text_alone_is_what_the_core_embeds(c2s_tiny_model: LanguageModel) -> None:
    found = embed_prompts(c2s_tiny_model, "{what} :", [{"what": "B cell"}, {"what": "T cell"}])
    np.testing.assert_allclose(found, c2s.embed(c2s_tiny_model, ["B cell :", "T cell :"]), atol=1e-5)


SAMPLE = "{tissue} {n_cells} {cells}"


def test_samples_hold_cells_of_one_donor_and_tissue_and_read_all_of_them(
    c2s_tiny_model: LanguageModel, cells: AnnData
) -> None:
    found = embed_samples(c2s_tiny_model, cells, n_cells=(3, 4), top_k=5, template=SAMPLE)
    for row in found.obs.itertuples():
        members = cells.obs.loc[row.cell_ids.split()]
        assert set(members["donor_id"]) == {row.donor_id}
        assert set(members["tissue"]) == {row.tissue}
        assert len(members) == row.n_cells
    again = embed_samples(c2s_tiny_model, cells[::-1].copy(), n_cells=(3, 4), top_k=5, template=SAMPLE)
    np.testing.assert_allclose(again.X, found.X, atol=1e-5)
    sentence = dict(
        zip(cells.obs_names, c2s.to_cell_sentences(cells, top_k=5).table["cell_sentence"].to_pylist(), strict=True)
    )
    first = found.obs.iloc[0]
    listed = " ".join(f"Cell {i} : {sentence[cell]} ." for i, cell in enumerate(first["cell_ids"].split(), 1))
    expected = c2s.embed(c2s_tiny_model, [f"{first['tissue']} {first['n_cells']} {listed}"])
    np.testing.assert_allclose(found.X[0], expected[0], atol=1e-5)


def test_the_file_comes_back_as_it_was_with_the_vectors(folder: Path, cells: AnnData, tmp_path: Path) -> None:
    import anndata as ad

    source = tmp_path / "in.h5ad"
    cells.write_h5ad(source)
    embed_file(source, tmp_path / "out.h5ad", folder, top_k=12, block=40, show_progress=False)
    written = ad.read_h5ad(tmp_path / "out.h5ad")
    assert (written.X != cells.X).nnz == 0
    assert list(written.obs) == list(cells.obs)
    expected = embed_cells(c2s.load_model(folder), cells, top_k=12)
    np.testing.assert_allclose(written.obsm["X_c2s"], expected, atol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.h5ad", "out.h5ad"]


def test_a_stopped_run_goes_on_where_it_was(
    folder: Path, cells: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import c2s_embedding.files as files

    source, target = tmp_path / "in.h5ad", tmp_path / "out.h5ad"
    cells.write_h5ad(source)
    whole = embed_file(source, tmp_path / "whole.h5ad", folder, top_k=12, block=32, show_progress=False)
    real, read = files.embed, []

    def dies_in_the_third_block(model: LanguageModel, texts: list[str], **more: object) -> object:
        read.append(len(texts))
        if len(read) == 3:
            raise KeyboardInterrupt
        return real(model, texts, **more)

    monkeypatch.setattr(files, "embed", dies_in_the_third_block)
    with pytest.raises(KeyboardInterrupt):
        embed_file(source, target, folder, top_k=12, block=32, show_progress=False)
    assert not target.exists()
    found = embed_file(source, target, folder, top_k=12, block=32, show_progress=False)
    assert read == [32, 32, 32, 32], "two blocks were kept, the third was read again"
    np.testing.assert_array_equal(found.obsm["X_c2s"], whole.obsm["X_c2s"])
    assert not (tmp_path / "out.h5ad.embedding").exists()


def test_samples_and_texts_of_files(folder: Path, cells: AnnData, tmp_path: Path) -> None:
    source = tmp_path / "in.h5ad"
    cells.write_h5ad(source)
    samples = embed_samples_file(
        source, tmp_path / "s.h5ad", folder, within=["donor_id"], n_cells=(2, 3), top_k=4, show_progress=False
    )
    assert samples.n_obs >= 6 and {"donor_id", "n_cells", "cell_ids"} <= set(samples.obs)
    (tmp_path / "t.txt").write_text("B cell\n\nT cell\n")
    texts = embed_texts_file(tmp_path / "t.txt", tmp_path / "t.h5ad", folder, show_progress=False)
    assert texts.obs["text"].tolist() == ["B cell", "T cell"]
    np.testing.assert_allclose(texts.X, c2s.embed(c2s.load_model(folder), ["B cell", "T cell"]), atol=1e-5)
