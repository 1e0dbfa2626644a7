"""Simulated datasets as files: made once, kept in the store, read like any other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from c2s.data.manifest import Manifest
from c2s.errors import ConfigError
from c2s.files import atomic_output

if TYPE_CHECKING:
    from c2s.data.store import Store


def simulated_path(home: Path, manifest: Manifest) -> Path:
    """Return where the cells of a simulation are kept; other arguments or another c2s make another file."""
    from c2s import __version__

    assert manifest.simulation is not None  # the model holds this
    told = json.dumps([__version__, manifest.simulation.model_dump()], sort_keys=True)
    digest = hashlib.sha256(told.encode()).hexdigest()[:12]
    return home / manifest.name / f"{manifest.name}-{digest}.h5ad"


def simulated_file(place: Store, manifest: Manifest) -> Path:
    """Return the file of a simulated dataset, making it if needed.

    Raises
    ------
    DatasetUnavailable
        `c2s.data.simulate` has no such function.
    ConfigError
        It does not take these arguments.
    DatasetError
        The store folder cannot be written.
    """
    from c2s.data import simulate
    from c2s.data.store import DatasetUnavailable

    final = simulated_path(place.home, manifest)
    simulation = manifest.simulation
    assert simulation is not None  # the model holds this
    if final.is_file():
        return final
    if simulation.function not in simulate.__all__:
        raise DatasetUnavailable(
            f"dataset {manifest.name!r} is simulated by {simulation.function}, "
            "which c2s.data.simulate does not have.",
            fix=f"name one of {', '.join(simulate.__all__)} in its manifest.",
        )
    with place.alone(final):
        if final.is_file():  # another process was quicker
            return final
        try:
            made = getattr(simulate, simulation.function)(**simulation.arguments)
        except TypeError as error:
            raise ConfigError(f"dataset {manifest.name!r}", [str(error)], fix="correct its simulation.") from error
        with atomic_output(final) as temporary:
            made.adata.write_h5ad(temporary, compression="lzf")
    return final
