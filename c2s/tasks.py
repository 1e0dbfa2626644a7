"""What a plugin hands over: tasks, and the rewards, metrics, baselines, datasets, chapters they name."""

from __future__ import annotations

import dataclasses
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from c2s.errors import ConfigError, PluginError
from c2s.prompts import PromptTemplate
from c2s.splits import Split, recur

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    from anndata import AnnData

    from c2s.sentences import CellSentences

#: Columns every table of examples has; tasks add the ones their templates and metrics need.
EXAMPLE_SCHEMA = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("answer", pa.string()),
        pa.field("template", pa.string(), nullable=False),
        pa.field("cell_ids", pa.list_(pa.string()), nullable=False),
    ]
)


def example_table(records: Sequence[Mapping[str, object]]) -> pa.Table:
    """Build the Arrow table of examples from records, and check it.

    Parameters
    ----------
    records
        One mapping per example with ``example_id``, ``prompt``, ``answer`` (None when unknown), ``template``,
        ``cell_ids`` and whatever else the templates and metrics need; all with the same keys.

    Returns
    -------
    pyarrow.Table
        The columns of `EXAMPLE_SCHEMA` first, then the rest.

    Raises
    ------
    PluginError
        There is no example, a required column is missing, or two examples share an id.
    """
    if not records:
        raise PluginError("the task made no example.", fix="give at least one cell that has the columns it needs.")
    missing = [f.name for f in EXAMPLE_SCHEMA if f.name not in records[0]]
    if missing:
        raise PluginError(
            f"the examples lack {', '.join(missing)}.", fix="set every column of c2s.tasks.EXAMPLE_SCHEMA."
        )
    fixed = {f.name: pa.array([r[f.name] for r in records], f.type) for f in EXAMPLE_SCHEMA}
    extra = {key: pa.array([r[key] for r in records]) for key in records[0] if key not in fixed}
    if len(set(fixed["example_id"].to_pylist())) < len(records):
        raise PluginError("two examples share an example_id.", fix="make ids unique, e.g. the cell id.")
    return pa.table({**fixed, **extra})


@dataclass(frozen=True)
class Task(ABC):
    """One thing a language model is asked to do with cells; subclass as a frozen dataclass.

    The dataclass fields of a subclass are the task's options (``label="cell_type"``); they are plain JSON values
    and are saved beside a trained model, so that prediction needs nothing else. Class variables describe it.

    Attributes
    ----------
    name, version, title, paper_section
        ``paper_section`` names the section of the C2S-Scale paper, or is empty.
    prompts
        Name of the registered list of templates.
    metrics, rewards, baselines
        Names in the registries. The first metric is the headline.
    profiles
        Defaults per profile (``smoke``, ``laptop``, ``paper``) that `c2s train` starts from: any of ``top_k``
        and the fields of `c2s.training.SFTConfig` and, for the tiny model, `c2s.models.TinyConfig`.
    """

    name: ClassVar[str]
    version: ClassVar[str] = "0.1.0"
    title: ClassVar[str]
    paper_section: ClassVar[str] = ""
    prompts: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    rewards: ClassVar[tuple[str, ...]] = ()
    baselines: ClassVar[tuple[str, ...]] = ()
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {"smoke": {}, "laptop": {}, "paper": {}}

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Columns of ``obs`` that must be there to make examples with answers."""

    @property
    def optional_columns(self) -> tuple[str, ...]:
        """Columns of ``obs`` that are used when they are there (a donor column, say)."""
        return ()

    @property
    def output_column(self) -> str:
        """Column of ``obs`` that predictions are written to."""
        return f"c2s_{self.name}"

    @property
    def longest_answer(self) -> int:
        """Most tokens of a generated answer; of no use to a task whose candidates are scored."""
        return 64

    @abstractmethod
    def split(self, obs: pd.DataFrame, *, seed: int = 0) -> Split:
        """Assign cells to train, validation and test; by donor or study where there is one."""

    @abstractmethod
    def examples(
        self,
        sentences: CellSentences,
        templates: Sequence[PromptTemplate],
        *,
        seed: int = 0,
        answers: bool = True,
    ) -> pa.Table:
        """Make the table of examples (see `example_table`) of these cells, and of these only.

        A split is applied by passing the cells of one part. With ``answers=False`` no answer column is needed
        and the answers are None.
        """

    def parse(self, answer: str) -> str | None:
        """Read a generated answer; None when it holds none. A correct answer parses to itself."""
        return " ".join(answer.split()) or None

    def candidates(self, examples: pa.Table) -> list[str] | None:
        """List the allowed answers, sorted, when they are few enough to score each; else None."""
        return None

    def majority(self, known: Mapping[str, int], examples: pa.Table) -> list[str] | None:
        """Answer as someone would who looks at no cell: with the most frequent of the known answers.

        Parameters
        ----------
        known
            How often each answer occurs, in the training part say.
        examples
            What is to be answered.

        Returns
        -------
        list of str
            One answer per example; the first by name of those that are as frequent. None where answers neither are
            candidates nor recur, as whole cells do not: the most frequent one would be any.
        """
        if not known or (self.candidates(examples) is None and not recur(known)):
            return None
        return [min(known, key=lambda answer: (-known[answer], answer))] * examples.num_rows

    def next_command(self, model: str, obs: pd.DataFrame) -> str:
        """Return a command to try with a trained model, which `c2s train` prints at its end; it must run as it is.

        Parameters
        ----------
        model
            The model folder.
        obs
            What is known of the training cells, for values to ask for.
        """
        return shlex.join(["c2s", "evaluate", "--model", model])

    def example_cells(self) -> AnnData | None:
        """Return a few cells with the columns of this task, for its checks.

        None stands for `c2s.testing.simulated_cells`; override where these lack a column of the task.
        """
        return None

    def options(self) -> dict[str, Any]:
        """Return the options as plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Task:
        """Build the task from its options; every unknown option is named.

        Raises
        ------
        ConfigError
            An option is unknown.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        unknown = [f"unknown option {key!r}" for key in options if key not in known]
        if unknown:
            raise ConfigError(f"task {cls.name!r}", unknown, fix=f"it takes {', '.join(known) or 'no options'}.")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})


@dataclass(frozen=True)
class Reward:
    """A score of answers, for reinforcement learning (GRPO, section 4.5.2).

    Attributes
    ----------
    name
        Registered name.
    function
        Pure and batched: ``(prompts, answers, **columns) -> list[float | None]``, one value per answer; None
        means that the reward does not apply. ``columns`` are those of the examples, ``answer`` holding the truth.
    range
        Lowest and highest value.
    """

    name: str
    function: Callable[..., list[float | None]]
    range: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Metric:
    """A measure of predictions against references.

    Attributes
    ----------
    name
        Registered name, and the key of the headline value.
    function
        Pure: ``(predictions, references, **columns) -> dict[str, float]`` with `name` among the keys.
        Predictions may be None (nothing could be parsed).
    higher_is_better
        Direction of the headline value.
    range
        Lowest and highest value.
    bootstrap
        Whether an interval by resampling examples makes sense.
    """

    name: str
    function: Callable[..., dict[str, float]]
    higher_is_better: bool = True
    range: tuple[float, float] = (0.0, 1.0)
    bootstrap: bool = True


@dataclass(frozen=True)
class Baseline:
    """A predictor without a language model, on the same cells and genes.

    Attributes
    ----------
    name
        Registered name.
    function
        ``(train: AnnData, answers: Sequence[str], test: AnnData, *, seed: int) -> list[str]``.
    requires
        Extra packages it imports, named in the error when they are missing.
    """

    name: str
    function: Callable[..., list[str]]
    requires: tuple[str, ...] = ()


#: ``AnnData -> float32 [cells, dimensions]``, a row per cell in the order of the cells.
Transform = Callable[["AnnData"], "npt.NDArray[np.float32]"]


@dataclass(frozen=True)
class Embedder:
    """A way to make a vector of each cell.

    Attributes
    ----------
    name
        Registered name.
    fit
        ``(train: AnnData | None, *, seed: int, **options) -> Transform``. Everything that is learnt from cells is
        learnt here; the transform then treats each cell alone.
    summary
        One line on what the vectors are.
    needs_training
        Whether it learns from training cells (principal components do, a pretrained model does not).
    options
        Names of the options of `fit`.
    requires
        Packages beside those of the core, named in the error when they are missing.
    citation
        Whom to cite.
    """

    name: str
    fit: Callable[..., Transform]
    summary: str = ""
    needs_training: bool = False
    options: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    citation: str = ""

    def fitted(self, train: AnnData | None = None, *, seed: int = 0, **options: Any) -> Transform:
        """Return the embedding as a function of cells, fitted where it needs to be.

        Parameters
        ----------
        train
            Training cells; never those that are embedded to be compared.
        seed
            Of whatever is random in the fit.
        options
            As `options` lists them.

        Returns
        -------
        Transform
            Its output is checked: one finite float32 vector per cell.

        Raises
        ------
        ConfigError
            An option is unknown, or the embedder learns from cells and there are none.
        C2SError
            From the fit: a package or a checkpoint is missing (with the command that gets it), say.
        """
        problems = [f"unknown option {key!r}" for key in options if key not in self.options]
        if self.needs_training and train is None:
            problems.append("it learns from training cells, and there are none")
        if problems:
            fix = f"its options are {', '.join(self.options) or 'none'}" + "; pass train=." * self.needs_training
            raise ConfigError(f"embedder {self.name!r}", problems, fix=fix)
        transform = self.fit(train, seed=seed, **options)

        def checked(adata: AnnData) -> npt.NDArray[np.float32]:
            return _checked_vectors(transform(adata), adata.n_obs, self.name)

        return checked


def _checked_vectors(vectors: Any, n_cells: int, name: str) -> npt.NDArray[np.float32]:
    import numpy as np

    array = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2 or len(array) != n_cells or not array.shape[1]:
        raise PluginError(
            f"the embedder {name!r} returned the shape {array.shape} for {n_cells} cells.",
            fix="mend it: one vector per cell.",
        )
    if not np.isfinite(array).all():
        bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
        raise PluginError(
            f"the embedder {name!r} returned NaN or infinity for {len(bad)} cell(s), first cell {bad[0]}.",
            fix="leave these cells out, or mend the embedder.",
        )
    return array


@dataclass(frozen=True)
class Dataset:
    """Cells that a name stands for.

    Attributes
    ----------
    name, title, citation, licence
        What it is and what a page must say about it.
    load
        ``() -> AnnData``: normalised, log1p, with the standard columns; raises `DatasetError` when it is not
        available here.
    label, donor
        Default label and donor columns; donor is None where there is none.
    simulated
        Shown wherever the data are shown.
    """

    name: str
    title: str
    load: Callable[[], AnnData]
    citation: str = ""
    licence: str = ""
    label: str = "cell_type"
    donor: str | None = None
    simulated: bool = False


@dataclass(frozen=True)
class Chapter:
    """An executable chapter.

    Attributes
    ----------
    name
        What stands after ``c2s://``.
    title
        Its heading.
    source
        Path of the text notebook (MyST Markdown).
    profiles
        Parameters per profile; ``laptop`` is what the parameters cell says.
    """

    name: str
    title: str
    source: str
    profiles: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
