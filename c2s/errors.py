"""Every error the project raises on purpose.

The message says what was wrong and where, and ends with the command or the argument that fixes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class C2SError(Exception):
    """Base of all errors raised by ``c2s`` and its plugins.

    Parameters
    ----------
    problem
        What was wrong and where (file, column, cell, gene).
    fix
        The command or argument that mends it; printed after ``Fix:``.
    remedy
        The same for programs: keywords of `c2s.read_cells` that mend it.
    """

    exit_code = 2

    def __init__(self, problem: str, *, fix: str = "", remedy: Mapping[str, Any] | None = None) -> None:
        self.problem = problem.rstrip()
        self.fix = fix.strip()
        self.remedy = dict(remedy or {})
        super().__init__(self.problem + (f" Fix: {self.fix}" if self.fix else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors come back from other processes and machines whole, whatever arguments their class takes.
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[C2SError], args: tuple[Any, ...], state: dict[str, Any]) -> C2SError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class C2SWarning(UserWarning):
    """Something was unusual, was counted and was worked around; the message says what and how many."""


class InputFileError(C2SError):
    """An input file is missing, unreadable, truncated or of another format."""


class OutputError(C2SError):
    """An output cannot be written: it exists, the disk is full, the folder is not writable."""


class MatrixError(C2SError):
    """The expression matrix holds what it must not: NaN, negatives, raw counts, a wrong shape."""


class GeneError(C2SError):
    """Gene names are duplicated, colliding, Ensembl ids, or absent."""


class ObsError(C2SError):
    """A column of ``obs`` is missing, constant or incomplete."""


class SentenceError(C2SError):
    """A table of cell sentences, or a rank-expression model, is not what it says it is."""


class PromptError(C2SError):
    """A prompt template is malformed, or an example lacks a field the template needs."""


class ModelError(C2SError):
    """A model or its tokenizer is missing, unsafe to load or incomplete."""


class ContextError(C2SError):
    """A prompt and its answer do not fit the model's context."""


class TrainingError(C2SError):
    """Training cannot start, diverged, or cannot be resumed."""


class RewardError(C2SError):
    """A reward gave what reinforcement learning cannot use: a wrong length, NaN, a value outside its range."""


class MetricError(C2SError):
    """A metric was given what it is not defined for."""


class DatasetError(C2SError):
    """A named dataset is unknown, not available offline, or corrupt."""


class PluginError(C2SError):
    """A plugin is broken: import error, unknown hook, wrong type, incompatible version."""


class RegistryError(C2SError):
    """A name is unknown to a registry, or two owners claim it."""


class ClusterError(C2SError):
    """A cluster of machines cannot be reached, or its machines cannot do the work."""


class ChapterError(C2SError):
    """A chapter is malformed, or was given a parameter it does not declare."""


class ConfigError(C2SError):
    """A configuration is invalid; all its problems are reported at once.

    Parameters
    ----------
    subject
        What was being configured, e.g. ``"profile 'laptop' of chapter 'annotation'"``.
    problems
        One line per problem.
    fix
        How to mend it.
    """

    def __init__(self, subject: str, problems: Sequence[str], *, fix: str = "") -> None:
        self.problems = list(problems)
        listed = "; ".join(self.problems)
        super().__init__(f"{subject}: {listed}.", fix=fix)
