"""Manifests: what a dataset is, where its files are and what their checksums are, one YAML file each.

`read_manifest` reports every problem of a file at once, each with its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from c2s.errors import ConfigError

#: Names that every reader of cells understands; a manifest maps them to columns of ``obs``, or to one value.
STANDARD_COLUMNS = (
    "cell_type",
    "tissue",
    "donor_id",
    "disease",
    "organism",
    "development_stage",
    "sex",
    "batch",
    "abstract_id",
)

Loader = Literal["h5ad", "zarr", "gct", "gmt", "table", "interactions", "parquet", "archive", "simulated", "none"]
#: Loaders whose result is cells.
CELL_LOADERS = ("h5ad", "zarr", "gct", "simulated")
MatrixScale = Literal["raw", "log1p_e", "log1p_10", "level3", "none"]

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_LARGEST = 1 << 20

Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
DatasetName = Annotated[str, Field(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$", max_length=64)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=160)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Constant(_Strict):
    """The same value for every cell.

    Attributes
    ----------
    value
        What the whole dataset has in common, e.g. ``"blood"``.
    """

    value: Text


class ManifestFile(_Strict):
    """One file of a dataset.

    Attributes
    ----------
    name
        Name in the store, without folders.
    urls
        Where it can be had, in the order in which they are tried; empty: only from a mirror, or put into the store
        by hand.
    sha256
        Checksum, 64 hexadecimal digits, or None when nobody states it.
    sha256_reason
        Why there is no checksum.
    bytes
        Size, where it is known.
    role
        What the file is within the dataset, e.g. ``"cells"``, ``"samples"``, ``"complexes"``.
    package
        ``"scanpy:datasets/x.h5ad"``: the file lies in the folder of an installed package.
    """

    name: FileName
    urls: list[str] = []
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    sha256_reason: Text | None = None
    bytes: Annotated[int, Field(gt=0)] | None = None
    role: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "data"
    package: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*:[\w.+/-]+$")] | None = None

    @field_validator("name")
    @classmethod
    def _kept_names(cls, name: str) -> str:
        if name == "recorded.json" or name.endswith((".part", ".lock", ".tmp")) or ".refused-" in name:
            raise ValueError(f"{name!r} is a name that the store uses itself")
        return name

    @field_validator("urls")
    @classmethod
    def _allowed(cls, urls: list[str], info: ValidationInfo) -> list[str]:
        loopback = bool(info.context and info.context.get("loopback_http"))
        problems = [problem for url in urls if (problem := url_problem(url, loopback_http=loopback))]
        if len(set(urls)) < len(urls):
            problems.append("an address is given twice")
        if problems:
            raise ValueError("; ".join(problems))
        return urls

    @field_validator("package")
    @classmethod
    def _inside(cls, package: str | None) -> str | None:
        inside = PurePosixPath((package or ":x").partition(":")[2])
        if inside.is_absolute() or ".." in inside.parts:
            raise ValueError(f"{package!r} leaves the folder of its package")
        return package

    @model_validator(mode="after")
    def _reasons(self) -> ManifestFile:
        if self.sha256 is None and self.sha256_reason is None:
            raise ValueError("sha256 is null without a sha256_reason")
        if self.sha256 is not None and self.sha256_reason is not None:
            raise ValueError("sha256_reason is for a sha256 that is null")
        if self.package is not None and (self.sha256 is not None or self.urls):
            raise ValueError("a file of a package has neither sha256 nor urls: its package answers for it")
        return self


class Simulation(_Strict):
    """How simulated cells are made: a function of `c2s.data.simulate` and its arguments."""

    function: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    arguments: dict[str, bool | int | float | str] = {}


class Manifest(_Strict):
    """What is known about a dataset.

    Attributes
    ----------
    name
        What ``--data NAME`` takes; also the name of the YAML file.
    title, citation, licence, homepage, note
        For people; the licence as the source states it.
    doi
        Of the publication; None where there is none.
    species
        ``"Homo sapiens"``, ``"Mus musculus"``, or a list in words.
    matrix
        Scale of the values: counts, log1p with base e or 10, L1000 level 3, or none where there is no matrix or
        nobody states it. What is read is recognised from the values; a contradiction is warned of.
    loader
        How the files are read.
    files
        The files.
    columns
        Standard name to column of ``obs``, or to a `Constant`.
    study
        Id of the study; datasets of one study may never be on two sides of a split. Default: `name`.
    overlaps
        Datasets that hold some of the same cells.
    fallbacks
        What to use when this is not available, best first.
    label
        Column that ``c2s train`` and ``evaluate`` take as the label when none is named.
    symbols
        Column of ``var`` with gene symbols, where ``var_names`` are something else.
    layer
        Layer to take as the matrix; ``"raw"`` is ``adata.raw``.
    simulation
        For the loader ``simulated``.
    """

    name: DatasetName
    title: Text
    citation: Text
    doi: Annotated[str, Field(pattern=r"^10\.\d{4,9}/\S+$")] | None
    licence: Text
    homepage: Text
    species: Text
    matrix: MatrixScale
    loader: Loader
    files: list[ManifestFile] = []
    columns: dict[str, Text | Constant] = {}
    study: Text = ""
    overlaps: list[DatasetName] = []
    fallbacks: list[DatasetName] = []
    label: Text = "cell_type"
    symbols: Text | None = None
    layer: Text | None = None
    note: Text | None = None
    simulation: Simulation | None = None

    @field_validator("homepage")
    @classmethod
    def _https(cls, homepage: str) -> str:
        if urlsplit(homepage).scheme != "https":
            raise ValueError(f"{homepage!r} does not begin with https://")
        return homepage

    @field_validator("columns")
    @classmethod
    def _standard(cls, columns: dict[str, str | Constant]) -> dict[str, str | Constant]:
        unknown = [name for name in columns if name not in STANDARD_COLUMNS]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not a standard name; those are {', '.join(STANDARD_COLUMNS)}")
        return columns

    @model_validator(mode="after")
    def _whole(self) -> Manifest:
        names = [file.name.casefold() for file in self.files]
        problems = [f"two files are called {name!r}" for name in sorted({n for n in names if names.count(n) > 1})]
        if self.loader == "simulated":
            if self.simulation is None or self.files:
                problems.append("simulated data has a simulation and no files")
        elif self.simulation is not None:
            problems.append("a simulation is for the loader 'simulated'")
        elif not self.files and self.loader != "none":
            problems.append(f"the loader {self.loader!r} needs files")
        if self.loader in {"h5ad", "zarr"} and sum(file.role == "cells" for file in self.files) != 1:
            problems.append("exactly one file must have the role 'cells'")
        for listed in (self.fallbacks, self.overlaps):
            if self.name in listed or len(set(listed)) < len(listed):
                problems.append("fallbacks and overlaps name other datasets, each once")
        if problems:
            raise ValueError("; ".join(problems))
        if not self.study:
            object.__setattr__(self, "study", self.name)
        return self

    @property
    def simulated(self) -> bool:
        """Whether the cells are made up."""
        return self.loader == "simulated"

    def file(self, name: str | None = None) -> ManifestFile:
        """Return the file `name`, or the only one.

        Raises
        ------
        ConfigError
            There is no such file, or there are several and none was named.
        """
        found = [file for file in self.files if name in {None, file.name}]
        if len(found) == 1:
            return found[0]
        listed = ", ".join(file.name for file in self.files) or "none"
        wanted = "several files" if found else "no files" if name is None else f"no file {name!r}"
        raise ConfigError(f"dataset {self.name!r}", [f"it has {wanted}"], fix=f"its files are: {listed}.")

    def with_role(self, role: str) -> ManifestFile | None:
        """Return the first file with this role."""
        return next((file for file in self.files if file.role == role), None)


def url_problem(url: str, *, loopback_http: bool = False) -> str | None:
    """Say why an address is not allowed, or None.

    Parameters
    ----------
    url
        The address.
    loopback_http
        Also allow ``http`` to this machine itself, for tests with a server of their own.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return f"{url!r} is not an address"
    if parts.scheme == "file":
        sound = not parts.netloc and parts.path.startswith("/") and ".." not in PurePosixPath(parts.path).parts
        return None if sound else f"{url!r} is not of the form file:///folder/file"
    if parts.username or parts.password:
        return f"{url!r} holds a user name or password"
    if parts.scheme == "http" and loopback_http and host in _LOOPBACK:
        return None
    if parts.scheme != "https" or not host:
        return f"{url!r} is not allowed: only https and file addresses are"
    return None


def read_manifest(path: Path, *, loopback_http: bool = False) -> Manifest:
    """Read and check one manifest.

    Parameters
    ----------
    path
        The YAML file; its name without ending is the dataset's name.
    loopback_http
        As for `url_problem`.

    Raises
    ------
    ConfigError
        The file cannot be read or breaks the schema; every problem is named with its line.
    """
    subject = f"manifest {path}"
    try:
        raw = path.read_bytes()
        if len(raw) > _LARGEST:
            raise ConfigError(subject, [f"it is {len(raw):,} bytes long"], fix="a manifest is a page of text.")
        node = yaml.compose(raw.decode("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise ConfigError(subject, [error.strerror or "cannot be read"], fix="check the path.") from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(subject, [f"line {line}: not UTF-8"], fix="save it as UTF-8.") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        what = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(subject, [f"{where}not YAML ({what})"], fix="correct the syntax there.") from error
    problems = list(_unsound(node))
    if problems:
        raise ConfigError(subject, [f"line {line}: {text}" for line, text in problems], fix=f"correct {path}.")
    loader = yaml.SafeLoader("")
    try:
        content = loader.construct_document(node) if node is not None else None
    except (yaml.YAMLError, ValueError) as error:  # a date that does not exist, a tag that is not allowed
        raise ConfigError(subject, [" ".join(str(error).split())], fix=f"correct {path}.") from error
    try:
        manifest = Manifest.model_validate(content, context={"loopback_http": loopback_http})
    except ValidationError as error:
        located = [(_line(node, e["loc"]), _words(e)) for e in error.errors()]
        raise ConfigError(
            subject, [f"line {line}: {text}" for line, text in sorted(located)], fix=f"correct {path}."
        ) from error
    if manifest.name != path.stem:
        line = _line(node, ("name",))
        raise ConfigError(
            subject,
            [f"line {line}: name: {manifest.name!r}, but the file is called {path.name}"],
            fix=f"call the file {manifest.name}.yaml.",
        )
    return manifest


def _unsound(node: yaml.Node | None) -> Iterator[tuple[int, str]]:
    """Yield what YAML allows and a manifest does not: keys given twice, aliases (which can grow without end)."""
    seen: set[int] = set()
    left = [node] if node is not None else []
    while left:
        current = left.pop()
        if id(current) in seen:
            yield current.start_mark.line + 1, "an alias (*name) leads here; write the value out"
            continue
        seen.add(id(current))
        if isinstance(current, yaml.SequenceNode):
            left.extend(current.value)
        elif isinstance(current, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in current.value:
                if not isinstance(key, yaml.ScalarNode):
                    yield key.start_mark.line + 1, "a key must be a word"
                    continue
                if key.value in keys:
                    yield key.start_mark.line + 1, f"the key {key.value!r} is given twice"
                keys.add(key.value)
                left.append(value)


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """Return the line, from 1, of the deepest part of `location` that is in the file."""
    current = node
    line = node.start_mark.line if node is not None else 0
    for step in location:
        if isinstance(current, yaml.MappingNode):
            for key, value in current.value:
                if key.value == step:
                    current, line = value, key.start_mark.line
                    break
        elif isinstance(current, yaml.SequenceNode) and isinstance(step, int) and step < len(current.value):
            current = current.value[step]
            line = current.start_mark.line
    return line + 1


def _words(error: Any) -> str:
    """Say what pydantic found, after the place within the manifest."""
    place = ".".join(
        str(step) for step in error["loc"] if not re.match(r"^(constrained-str|Constant|str)$", str(step))
    )
    text = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        text = "unknown key"
    elif error["type"] == "string_pattern_mismatch":
        text = f"{error['input']!r} does not have the form {error['ctx']['pattern']}"
    return f"{place}: {text}" if place else text
