"""Vectors of the cells of a file, in the same file; a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from c2s import LanguageModel, default_host, load_model, read_cells, to_cell_sentences
from c2s.data import read_with_original, write_cells
from c2s.errors import C2SError, ConfigError, InputFileError, OutputError
from c2s.files import CELLS, atomic_output, check_target
from c2s.inference import embed
from c2s.inference.to_file import fingerprint
from c2s.prediction import known_words
from c2s.progress import progress
from c2s.training import TaskModel
from c2s_embedding.templates import CELL, as_template
from c2s_embedding.vectors import TOP_K, cell_prompts, embed_samples

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.provenance import RunRecord

#: Cells whose vectors are written down together; what a kill loses at most.
BLOCK = 1024
#: Says that a model folder was trained on a task, and how it was asked.
TASK_FILE = "c2s_task.json"
_FORMAT = "c2s vectors 1"


def embed_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: str | os.PathLike[str],
    *,
    key: str = "X_c2s",
    template: str | None = None,
    top_k: int | None = None,
    reading: Mapping[str, Any] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    tokens_per_batch: int | None = None,
    block: int = BLOCK,
    overwrite: bool = False,
    show_progress: bool = True,
    on_wording: Callable[[str], None] | None = None,
    record: RunRecord | None = None,
) -> AnnData:
    """Embed every cell of a file and write the file again with the vectors in ``obsm``.

    While it runs, finished vectors are kept in ``<target>.embedding``; the same call takes up a run that was
    stopped. `target` appears when all is done.

    Parameters
    ----------
    source
        Cells: ``.h5ad`` or ``.zarr``.
    target
        The ``.h5ad`` or ``.zarr`` to write.
    model
        Folder, preset or downloaded model. One that was trained on a task of single cells is asked as it was
        trained, with as many genes, unless `template` or `top_k` say otherwise; all cells with the first of its
        wordings.
    key
        Where the vectors go, ``obsm[key]``.
    template
        Prompt with ``{cell_sentence}`` and columns of ``obs``.
    top_k
        Most genes of a sentence; default the model's, else 200.
    reading
        How to read the cells, as keywords of `c2s.read_cells`.
    device, dtype, tokens_per_batch
        As for `c2s.load_model` and `c2s.embed`.
    block
        Cells whose vectors are written down together.
    overwrite
        Replace an existing `target`, and ``obsm[key]`` of the cells.
    show_progress
        Show progress.
    on_wording
        Told the name of the prompt, before the first cell is embedded.
    record
        Told the same, and ``genes`` and the model's device and dtype, as they were found out.

    Returns
    -------
    AnnData
        The cells that were written, as in `source`.

    Raises
    ------
    OutputError
        `target` exists, is `source`, cannot be written or is neither ``.h5ad`` nor ``.zarr``; or what a stopped
        run left belongs to other cells, another model or another prompt.
    ConfigError
        ``obsm[key]`` is there already, or `block` is not positive.
    C2SError
        As for reading cells, loading models and making prompts.
    """
    place, final = Path(source), Path(target)
    check_target(final, overwrite=overwrite, suffixes=CELLS, inputs=[place])
    if block < 1:
        raise ConfigError("embedding", [f"block={block} is below 1"], fix="1024 is usual.")
    original, cells = read_with_original(place, **(reading or {}))
    if key in original.obsm and not overwrite:
        raise ConfigError(
            "embedding",
            [f"{place} has obsm[{key!r}] already"],
            fix="choose another key (--key), or pass overwrite=True (--overwrite).",
        )
    reader = Reader(model, template=template, top_k=top_k, device=device, dtype=dtype)
    prompts = reader.prompts(cells)
    if on_wording is not None:
        on_wording(reader.wording)
    if record is not None:
        record.config |= {"wording": reader.wording, "genes": reader.genes}
        record.ran_with(reader.model)
    vectors = _resumable(reader.model, prompts, final, block, tokens_per_batch, show_progress)
    # The user's own file comes back as it was, with the vectors added: neither normalised nor filtered.
    original.obsm[key] = vectors
    write_cells(original, final, overwrite=overwrite)
    shutil.rmtree(_partial(final), ignore_errors=True)
    return original


def embed_samples_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: str | os.PathLike[str],
    *,
    within: Sequence[str],
    n_cells: tuple[int, int] = (5, 20),
    template: str | None = None,
    top_k: int | None = None,
    reading: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    tokens_per_batch: int | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
    record: RunRecord | None = None,
) -> AnnData:
    """Embed samples of cells of a file, see `c2s_embedding.embed_samples`; write them as samples x dimensions.

    `record` is told the settings as they were found out.

    Raises
    ------
    C2SError
        As `embed_file` and `embed_samples`.
    """
    final = Path(target)
    check_target(final, overwrite=overwrite, suffixes=CELLS, inputs=[Path(source)])
    cells = read_cells(source, **(reading or {}))
    loaded = load_model(model, device=device, dtype=dtype)
    top_k = 50 if top_k is None else top_k
    if record is not None:
        record.config["genes"] = top_k
        record.ran_with(loaded)
    found = embed_samples(
        loaded,
        cells,
        within=within,
        n_cells=n_cells,
        template=template,
        top_k=top_k,
        seed=seed,
        tokens_per_batch=tokens_per_batch,
        show_progress=show_progress,
    )
    write_cells(found, final, overwrite=overwrite)
    return found


def embed_texts_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: str | os.PathLike[str],
    *,
    device: str = "auto",
    dtype: str = "auto",
    tokens_per_batch: int | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
    record: RunRecord | None = None,
) -> AnnData:
    """Embed each line of a text file; write texts x dimensions, with the line in ``obs["text"]``.

    `record` is told the settings as they were found out.

    Raises
    ------
    InputFileError
        The file cannot be read, or holds no text.
    C2SError
        As `embed_file`.
    """
    import pandas as pd
    from anndata import AnnData

    final = Path(target)
    check_target(final, overwrite=overwrite, suffixes=CELLS, inputs=[Path(source)])
    try:
        content = Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(
            f"{source} cannot be read as text: {error}.", fix="give a UTF-8 text file."
        ) from error
    texts = [line.strip() for line in content.splitlines() if line.strip()]
    if not texts:
        raise InputFileError(f"{source} holds no text.", fix="write one text a line.")
    loaded = load_model(model, device=device, dtype=dtype)
    if record is not None:
        record.ran_with(loaded)
    vectors = embed(loaded, texts, tokens_per_batch=tokens_per_batch, show_progress=show_progress)
    found = AnnData(vectors, obs=pd.DataFrame({"text": texts}, index=[f"text{i}" for i in range(len(texts))]))
    write_cells(found, final, overwrite=overwrite)
    return found


class Reader:
    """A model, and how it is asked about cells: as it was trained, where it was trained on a task of single cells.

    All cells are asked with one wording, the first the model was trained with: which wording a cell meets in
    training follows its id, and vectors of equal cells must not differ by it.

    Parameters
    ----------
    model
        Folder, preset or downloaded model.
    template
        Prompt to use instead.
    top_k
        Most genes of a sentence; default the model's, else 200.
    device, dtype
        As for `c2s.load_model`.

    Raises
    ------
    C2SError
        As for loading models.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        template: str | None = None,
        top_k: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        self._task: TaskModel | None = None
        if (Path(model) / TASK_FILE).is_file():
            trained = TaskModel.load(model, device=device, dtype=dtype)
            self.model: LanguageModel = trained.model
            self.top_k = top_k or trained.top_k
            self._genes, self._trained_length = trained.genes, trained.top_k
            self._task = None if template else trained
        else:
            self.model = load_model(os.fspath(model), device=device, dtype=dtype)
            self.top_k = top_k
            self._genes = self._trained_length = None
        self._template = as_template(template, CELL)

    @property
    def wording(self) -> str:
        """Name of the prompt that is used now."""
        return self._template.name if self._task is None else self._task.templates[0].name

    @property
    def genes(self) -> int | None:
        """Most genes of a sentence, as it is used now."""
        return self.top_k if self._task is not None else self._own_genes

    @property
    def _own_genes(self) -> int:
        return TOP_K if self.top_k is None else self.top_k

    def settle(self, *cells: AnnData) -> Reader:
        """Leave the task's question for good if it cannot be put about all of these; return the reader.

        Cells and samples that are compared must be asked alike.
        """
        if self._task is not None and any(
            _prompts_of_task(self._task, some, self.top_k) is None for some in cells
        ):
            self._task = None
        return self

    def prompts(self, cells: AnnData) -> list[str]:
        """Return the prompt of each cell, in their order.

        Raises
        ------
        GeneError
            The model was trained on other genes, see `c2s.prediction.known_words`.
        C2SError
            As `c2s_embedding.vectors.cell_prompts`.
        """
        # Words that no training sentence was long enough to hold are not unknown.
        lengths = [n for n in (self.top_k, self._trained_length) if n is not None]
        sentences = to_cell_sentences(cells, top_k=min(lengths, default=None), expects="any")
        known_words(sentences, self._genes, then="get vectors that say little")
        if self._task is not None:
            asked = _prompts_of_task(self._task, cells, self.top_k)
            if asked is not None:
                return asked
            self._task = None
        records = cell_prompts(cells, template=self._template, top_k=self._own_genes)
        return [self._template.render(record) for record in records]

    def __call__(self, cells: AnnData) -> npt.NDArray[np.float32]:
        """Return the vector of each cell, float32 ``[cells, hidden]``."""
        return embed(self.model, self.prompts(cells))


def _prompts_of_task(trained: TaskModel, cells: AnnData, top_k: int | None) -> list[str] | None:
    """Return the task's own question about each cell; None if it is not about single cells that are shown."""
    try:
        task = default_host().tasks.get(trained.task_name).from_options(trained.options)
        sentences = to_cell_sentences(cells, top_k=top_k, expects="any")
        # One wording for all: of several, each cell's id would choose.
        rows = task.examples(sentences, trained.templates[:1], seed=trained.seed, answers=False).to_pylist()
    except C2SError:
        # The plugin is not here, or its task needs more than the cells: the usual prompt will do.
        return None
    prompt = {row["cell_ids"][0]: row["prompt"] for row in rows if len(row["cell_ids"]) == 1}
    texts = dict(zip(sentences.table["cell_id"].to_pylist(), sentences.table["cell_sentence"].to_pylist()))
    if set(prompt) != set(texts) or any(texts[cell] not in prompt[cell] for cell in texts):
        return None
    return [prompt[cell] for cell in texts]


def _partial(final: Path) -> Path:
    return final.with_name(final.name + ".embedding")


def _resumable(
    model: LanguageModel,
    prompts: Sequence[str],
    final: Path,
    block: int,
    tokens_per_batch: int | None,
    show_progress: bool,
) -> npt.NDArray[np.float32]:
    """Embed block by block, each block in a file of its own; take up those that are there."""
    folder = _partial(final)
    told = hashlib.blake2b("\x1e".join(prompts).encode(), digest_size=16).hexdigest()
    settings = {"format": _FORMAT, "model": fingerprint(model), "prompts": told, "block": block}
    _begin(folder, settings)
    starts = range(0, len(prompts), block)
    parts = [folder / f"vectors-{number:06d}.npy" for number in range(len(starts))]
    with progress("embedding", len(prompts), enabled=show_progress) as advance:
        for start, part in zip(starts, parts, strict=True):
            some = prompts[start : start + block]
            if not part.exists():
                vectors = embed(model, some, tokens_per_batch=tokens_per_batch)
                with atomic_output(part) as temporary:
                    np.save(temporary, vectors)
            advance(len(some))
    return np.concatenate([np.load(part, allow_pickle=False) for part in parts])


def _begin(folder: Path, settings: dict[str, Any]) -> None:
    """Make the folder of a run, or check that a stopped run was the same."""
    note = folder / "settings.json"
    if not folder.exists():
        with atomic_output(folder) as temporary:
            temporary.mkdir()
            (temporary / note.name).write_text(json.dumps(settings) + "\n", encoding="utf-8")
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise OutputError(f"{folder} is in the way and was not left by this command.", fix="move it away.")
    differing = [name for name in settings if found.get(name) != settings[name]]
    if differing:
        raise OutputError(
            f"{folder} was left by a run that was stopped, with another {' and another '.join(differing)}.",
            fix="delete that folder to begin anew, or give what that run was given.",
        )
