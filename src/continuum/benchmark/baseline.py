"""Programs', broker's and kernel's part in a request: the same exchange where no link is crossed.

Before the first repetition an endpoint of its own runs for a moment beside the first worker, on the
worker's machine: the same programs and broker, and messages of the same sizes, that go through the
machine's loopback interface, where nothing is emulated.

It is no measure of what the programs take when they are busy, nor of another machine's: the endpoint
shares the cores of the worker's machine, as far as it may use cores on its own, and nobody else sends.
So a link is blamed for nothing by which single requests vary here already. The wait at the worker is
no part of it: requests come faster here, and wait for each other.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from continuum.benchmark.contract import RUN_FOLDER, Endpoint, Load, Worker
from continuum.benchmark.results import Baseline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from continuum.experiment.model import Benchmark
    from continuum.infrastructure.plan import MachineSpec

FREQUENCY = 20.0
"""Requests a second at most; else as many as all endpoints of that worker make."""
LONGEST = 3.0
SHARE = 0.05
"""The longest time for it, in seconds, and the largest share of the measured time."""
FEWEST = 10
"""Requests without which there is no baseline: a short run has none."""
_WARMUP = 4
_ANSWER_TIMEOUT = 5.0
_PARTS = (
    ("forward_ms", "sent_ns", "received_ns"),
    ("return_ms", "finished_ns", "answered_ns"),
)


def load(benchmark: Benchmark, endpoints: int) -> Load | None:
    """The load of the endpoint beside a worker of so many; None in a run that is too short."""
    frequency = min(FREQUENCY, endpoints * benchmark.frequency)
    seconds = min(LONGEST, SHARE * benchmark.duration * benchmark.repetitions)
    if seconds * frequency < FEWEST - 1e-9:
        return None
    return Load(
        repetition=1,
        seed=benchmark.seed,
        frequency=frequency,
        warmup=_WARMUP / frequency,
        duration=seconds,
        answer_timeout=min(_ANSWER_TIMEOUT, benchmark.answer_timeout),
        folder=f"{RUN_FOLDER}/baseline",
    )


def endpoint(worker: Worker, machine: MachineSpec, endpoints: Sequence[Endpoint]) -> Endpoint:
    """The endpoint beside a worker, with as many cores as the others, as far as there are."""
    like = endpoints[0]
    return replace(
        like,
        name="baseline",
        number=len(endpoints) + 1,
        machine=worker.machine,
        address=worker.address,
        cpu=min(like.cpu, machine.cores * machine.quota),
        memory=min(like.memory, machine.memory),
        worker=worker,
        metrics_port=None,
    )


def summary(samples: Iterable[Mapping[str, Any]]) -> list[Baseline]:
    """Mean and deviation of each part of a request, where enough were answered."""
    answered = [each for each in samples if each["status"] == "ok" and not each["warmup"]]
    found = []
    for quantity, first, second in _PARTS:
        taken = [
            (each[second] - each[first]) / 1e6
            for each in answered
            if each.get(first) is not None and each.get(second) is not None
        ]
        if len(taken) >= FEWEST:
            found.append(
                Baseline(
                    quantity=quantity,
                    n=len(taken),
                    mean=round(statistics.mean(taken), 4),
                    deviation=round(statistics.stdev(taken), 4),
                )
            )
    return found
