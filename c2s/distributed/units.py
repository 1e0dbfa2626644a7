"""The units of a corpus on a cluster.

Ray tasks do them, not Ray Data: a unit takes no rows and gives no rows, it reads and writes files, and is a pure
function of the plan. As a task it is retried alone when its machine goes away, its error comes back as it was
raised, and what was done before a kill is known from the files. (Rows of a table are another matter, see
`c2s.distributed.tables`.)
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c2s.corpus.plan import WORK
from c2s.distributed.connection import CONNECT_SECONDS, check_machines, connected
from c2s.errors import C2SError, ClusterError

if TYPE_CHECKING:
    from c2s.corpus import CorpusPlan, Unit, UnitResult

#: How often a unit is tried again when the machine or the process that does it goes away.
RETRIES = 5


def run_units(
    plan: CorpusPlan, out: str | Path, address: str, *, timeout: float = CONNECT_SECONDS
) -> Iterator[UnitResult]:
    """Do the units of a plan on a Ray cluster.

    The bytes are those of one process. A unit whose worker is lost is done again by another, and a unit that was
    done twice was written whole both times, with the same bytes.

    Parameters
    ----------
    plan
        From `c2s.corpus.plan_corpus` or `c2s.corpus.arrange`; it is sent to each machine once.
    out
        The corpus's folder, which every machine must see under the same path.
    address
        As for `c2s.distributed.connection.connected`.
    timeout
        Seconds to wait for the cluster to answer.

    Yields
    ------
    UnitResult
        In the order in which they are done.

    Raises
    ------
    ClusterError
        The cluster cannot be reached, a machine cannot see the folders, or a unit was lost again and again.
    C2SError
        What `c2s.corpus.build_unit` raises, as it was raised.
    """
    folder = Path(out).resolve()
    with connected(address, timeout=timeout) as ray:
        own = [plan.spec.templates] if plan.spec.templates else []
        read = [*own, *(source.path for source in plan.sources), *(path for _, path in plan.gene_sets)]
        check_machines(ray, folder / WORK, read)
        yield from _run(ray, plan, folder)
    _clear(plan, folder)


def _run(ray: Any, plan: CorpusPlan, folder: Path) -> Iterator[UnitResult]:
    work = ray.remote(num_cpus=1, max_retries=RETRIES, retry_exceptions=False)(_work)
    shared = ray.put(plan)
    waiting = iter(plan.units)
    pending: dict[Any, Unit] = {}

    def hand_out() -> None:
        # Few at a time, so that an error ends the build soon, and as many as the machines of now have use for.
        room = max(8, int(4 * ray.cluster_resources().get("CPU", 1)))
        while len(pending) < room and (unit := next(waiting, None)) is not None:
            pending[work.remote(shared, unit, str(folder))] = unit

    hand_out()
    try:
        while pending:
            ready, _ = ray.wait(list(pending), num_returns=1)
            unit = pending.pop(ready[0])
            yield _result(ray, ready[0], unit)
            hand_out()
    finally:
        for ref in pending:
            ray.cancel(ref, force=True)


def _work(plan: CorpusPlan, unit: Unit, out: str) -> UnitResult:
    """Do one unit; runs on a machine of the cluster."""
    from c2s.corpus import build_unit

    return build_unit(plan, unit, out)


def _result(ray: Any, ref: Any, unit: Unit) -> UnitResult:
    try:
        result: UnitResult = ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, C2SError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:300]
        raise ClusterError(
            f"the unit {unit.id} was lost {RETRIES + 1} times: {reason}",
            fix="look at the memory of the workers (`ray status`, `ray memory`); then run the same command again: "
            "what is done stays done.",
        ) from error
    return result


def _clear(plan: CorpusPlan, folder: Path) -> None:
    """Remove what lost workers were writing; every unit is done, so nobody writes any more."""
    for unit in plan.units:
        for left in (folder / unit.path).parent.glob(f".part-{unit.id}.parquet.*.tmp"):
            shutil.rmtree(left, ignore_errors=True)
