"""The demand on a worker as a share of its capacity: arrivals times service, over its servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from continuum.benchmark.results import LoadRecord
from continuum.benchmark.statistics import values

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

ALL = "all"
_ANSWERED = ("ok", "timeout")


def loads(
    samples: pa.Table,
    servers: Mapping[str, int | None],
    seconds: float,
    *,
    interrupted: bool = False,
) -> tuple[LoadRecord, ...]:
    """The load of all workers together, then of each; empty without requests after the warm-up.

    The offered load of a queue with c servers, λ · E[S] / c (Kleinrock, *Queueing Systems*, volume
    1, 1975, section 2.1): below 1 the queue is bounded, from 1 on it grows as long as the load lasts.

    Args:
        samples: of all repetitions. λ counts all that were due, E[S] is over those that were
            processed, whether their answers came in time or not.
        servers: requests that each worker works on at a time, by its name; None where that is not
            known.
        seconds: of load in a repetition, after its warm-up.
        interrupted: whether the last repetition was; it lasted until its last request was due.
    """
    due = ~samples["warmup"].to_numpy().astype(bool)
    if not due.any():
        return ()
    names = samples["worker"].to_numpy()
    lasted = _lasted(samples, due, seconds, interrupted=interrupted)
    service = _service_ms(samples)
    order = sorted(set(names[due]), key=lambda name: (len(name), name))
    counts = [servers.get(name) for name in order]
    known = [count for count in counts if count is not None]
    whole = sum(known) if len(known) == len(counts) else None
    found = [_load(ALL, whole, due, service, lasted)]
    found += [
        _load(name, count, due & (names == name), service, lasted)
        for name, count in zip(order, counts, strict=True)
    ]
    return tuple(found)


def _load(
    name: str,
    servers: int | None,
    due: NDArray[np.bool_],
    service: NDArray[np.float64],
    seconds: float,
) -> LoadRecord:
    arrivals = int(np.count_nonzero(due)) / seconds
    processed = service[due & ~np.isnan(service)]
    mean = float(processed.mean()) if processed.size else None
    return LoadRecord(
        name=name,
        servers=servers,
        arrivals=arrivals,
        service_ms=mean,
        load=None if mean is None or servers is None else arrivals * mean / 1000 / servers,
    )


def _lasted(
    samples: pa.Table, due: NDArray[np.bool_], seconds: float, *, interrupted: bool
) -> float:
    """Seconds of load over all repetitions."""
    repetitions = samples["repetition"].to_numpy()
    whole = len(np.unique(repetitions)) * seconds
    if not interrupted:
        return whole
    known = ~samples["intended_ns"].is_null().to_numpy()
    times = (
        samples["intended_ns"]
        .fill_null(0)
        .to_numpy()[due & known & (repetitions == repetitions.max())]
    )
    span = (int(times.max()) - int(times.min())) / 1e9 if times.size > 1 else seconds
    return whole - seconds + min(seconds, max(span, 1e-3))


def _service_ms(samples: pa.Table) -> NDArray[np.float64]:
    """The time that each request was processed; not-a-number where it was not, or is not known."""
    status = samples["status"].to_numpy()
    return np.where(np.isin(status, _ANSWERED), values(samples, "processing_ms"), np.nan)
