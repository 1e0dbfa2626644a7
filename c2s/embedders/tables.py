"""Tables of genes that come with other projects' models: JSON, or a pickle of nothing but a dictionary."""

from __future__ import annotations

import importlib.util
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from c2s.errors import InputFileError, ModelError

#: What a pickle may name beside plain values: numbers of NumPy, and kinds of dictionaries.
_PLAIN = {
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy", "dtype"),
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("builtins", "int"),
    ("builtins", "float"),
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in _PLAIN:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")
        return super().find_class(module_name, global_name)


def read_table(path: Path) -> dict[str, Any]:
    """Read a dictionary with text keys from a ``.json`` or ``.pkl`` file; nothing in the file is run.

    Raises
    ------
    InputFileError
        The file cannot be read, holds something else, or its pickle would run code.
    """
    try:
        if path.suffix == ".json":
            table = json.loads(path.read_text(encoding="utf-8"))
        else:
            with path.open("rb") as file:
                table = _PlainUnpickler(file).load()
    except (OSError, ValueError, EOFError, pickle.UnpicklingError, AttributeError, TypeError) as error:
        raise InputFileError(
            f"{path} cannot be read as a plain table: {error}.", fix="give the file as its authors publish it."
        ) from error
    if not isinstance(table, dict) or not table or not all(isinstance(key, str) for key in table):
        raise InputFileError(f"{path} is no table of genes by name.", fix="give a dictionary with text keys.")
    return dict(table)


def find_table(folders: Sequence[Path], patterns: Sequence[str], what: str) -> Path:
    """Return the first file that fits a pattern in a folder.

    Raises
    ------
    ModelError
        There is none.
    """
    for folder in folders:
        for pattern in patterns:
            if found := sorted(folder.glob(pattern)):
                return found[0]
    looked = ", ".join(str(folder) for folder in folders) or "(nowhere)"
    raise ModelError(
        f"no {what} ({' or '.join(patterns)}) in {looked}.",
        fix="copy it from the model's own package, and name its folder.",
    )


def package_folder(name: str) -> Path | None:
    """Return where an installed package is, without importing it; None if it is not installed."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(found.origin).parent if found is not None and found.origin else None
