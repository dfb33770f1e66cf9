"""Phase 3, configure: which worker and endpoint runs where, and the load of each. Pure."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

from continuum.benchmark import baseline
from continuum.benchmark.contract import (
    RUN_FOLDER,
    Application,
    Driver,
    Endpoint,
    Load,
    Worker,
)
from continuum.errors import NotPossibleHere
from continuum.experiment.document import dotted

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.images.containers import ContainerImage
    from continuum.infrastructure.plan import InfrastructurePlan, MachineSpec
    from continuum.software.contract import ProcessSpec


METRICS_PORT = 9110
"""The first port on each machine on which workers and endpoints tell figures of themselves."""


@dataclass(frozen=True)
class EndpointRun:
    """One endpoint in one repetition."""

    endpoint: Endpoint
    load: Load
    process: ProcessSpec


@dataclass(frozen=True)
class BenchmarkPlan:
    """Everything that phase 3 starts.

    Attributes:
        workers: with their processes, empty when endpoints answer themselves.
        repetitions: one tuple of endpoints for each repetition.
        baseline: an endpoint beside the first worker, before the first repetition; None where what
            programs add is not measured.
        driver: carries out the repetitions when there are no endpoints.
    """

    workers: tuple[tuple[Worker, ProcessSpec], ...]
    repetitions: tuple[tuple[EndpointRun, ...], ...]
    driver: Driver | None = None
    baseline: EndpointRun | None = None

    @property
    def planned(self) -> tuple[int, int]:
        """Requests of all warm-ups, and after them, of all repetitions."""
        loads = [each.load.requests for repetition in self.repetitions for each in repetition]
        return sum(warmup for warmup, _ in loads), sum(requests for _, requests in loads)


def seed_of(seed: int, repetition: int, endpoint: str) -> int:
    """A seed of its own for each endpoint in each repetition, by hashing; 63 bits."""
    text = f"{seed}/{repetition}/{endpoint}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8]) >> 1


def configure(
    experiment: Experiment, plan: InfrastructurePlan, application: Application
) -> BenchmarkPlan:
    """The plan of phase 3.

    Raises:
        NotPossibleHere: the experiment does not fit the application.
    """
    benchmark = experiment.benchmark
    assert benchmark is not None
    misfit = application.misfit(experiment)
    if misfit is not None:
        raise NotPossibleHere(
            f'application "{application.name}" does not fit this experiment: {misfit.reason}',
            where=dotted(misfit.path),
            hint=misfit.hint,
        )
    driver = application.driver(experiment, plan)
    if driver is not None:
        return BenchmarkPlan((), ((),) * benchmark.repetitions, driver)
    specs = {spec.name: spec for spec in plan.machines}
    workers = _workers(experiment, specs)
    endpoints = _endpoints(experiment, specs, workers)
    if experiment.observed:
        workers, endpoints = _with_metrics_ports(workers, endpoints)
    repetitions = tuple(
        tuple(
            _endpoint_run(experiment, application, endpoint, repetition) for endpoint in endpoints
        )
        for repetition in range(1, benchmark.repetitions + 1)
    )
    carried = worker_image(experiment, application) if workers else None
    image = carried.reference if carried is not None else ""
    beside = _beside_worker(experiment, application, specs, workers, endpoints)
    asking = (*endpoints, *((beside.endpoint,) if beside else ()))
    return BenchmarkPlan(
        workers=tuple(
            (worker, replace(application.worker(worker, _answered(asking, worker)), image=image))
            for worker in workers
        ),
        repetitions=repetitions,
        baseline=beside,
    )


def _beside_worker(
    experiment: Experiment,
    application: Application,
    specs: dict[str, MachineSpec],
    workers: tuple[Worker, ...],
    endpoints: tuple[Endpoint, ...],
) -> EndpointRun | None:
    """The endpoint that measures what programs add; none to a function, behind its gateway."""
    assert experiment.benchmark is not None
    if not application.beside_worker or not workers or workers[0].gateway:
        return None
    load = baseline.load(experiment.benchmark, len(_answered(endpoints, workers[0])))
    if load is None:
        return None
    endpoint = baseline.endpoint(workers[0], specs[workers[0].machine], endpoints)
    return EndpointRun(endpoint, load, application.endpoint(endpoint, load))


def worker_image(experiment: Experiment, application: Application) -> ContainerImage | None:
    """What workers run in; None when they run in no container.

    Raises:
        NotPossibleHere: the application's worker cannot be a function.
    """
    if not experiment.workers_in_containers:
        return None
    if not experiment.workers_as_functions:
        return application.container_image()
    image = application.function_image()
    if image is None:
        raise NotPossibleHere(
            f'a worker of application "{application.name}" cannot be a function',
            where="software.execution_model",
            hint='image_classification can, and so can your own image: application "container"',
        )
    return image


def _answered(endpoints: tuple[Endpoint, ...], worker: Worker) -> tuple[Endpoint, ...]:
    return tuple(endpoint for endpoint in endpoints if endpoint.worker == worker)


def _workers(experiment: Experiment, specs: dict[str, MachineSpec]) -> tuple[Worker, ...]:
    benchmark = experiment.benchmark
    assert benchmark is not None
    if experiment.worker_tier == benchmark.endpoints:
        return ()
    share = benchmark.workers_per_machine
    control = specs[experiment.control_machine or ""] if experiment.workers_as_functions else None
    placed = [specs[machine] for machine in experiment.worker_machines for _ in range(share)]
    return tuple(
        Worker(
            name=f"worker-{number}",
            number=number,
            machine=spec.name,
            address=spec.address,
            cpu=benchmark.worker_cpu or spec.cores * spec.quota / share,
            memory=benchmark.worker_memory or spec.memory // share,
            gateway=control.address if control else "",
        )
        for number, spec in enumerate(placed, start=1)
    )


def _endpoints(
    experiment: Experiment, specs: dict[str, MachineSpec], workers: tuple[Worker, ...]
) -> tuple[Endpoint, ...]:
    benchmark = experiment.benchmark
    assert benchmark is not None
    placed = [specs[machine] for machine in experiment.machine_names(benchmark.endpoints)]
    return tuple(
        Endpoint(
            name=spec.name,
            number=number,
            machine=spec.name,
            address=spec.address,
            cpu=benchmark.endpoint_cpu or spec.cores * spec.quota,
            memory=benchmark.endpoint_memory or spec.memory,
            worker=workers[(number - 1) % len(workers)] if workers else None,
        )
        for number, spec in enumerate(placed, start=1)
    )


def _with_metrics_ports(
    workers: tuple[Worker, ...], endpoints: tuple[Endpoint, ...]
) -> tuple[tuple[Worker, ...], tuple[Endpoint, ...]]:
    """The same, each with a port of its own on its machine."""
    free: dict[str, Iterator[int]] = defaultdict(lambda: count(METRICS_PORT))
    told = {each: replace(each, metrics_port=next(free[each.machine])) for each in workers}
    return tuple(told.values()), tuple(
        replace(
            each,
            worker=each.worker and told[each.worker],
            metrics_port=next(free[each.machine]),
        )
        for each in endpoints
    )


def _endpoint_run(
    experiment: Experiment, application: Application, endpoint: Endpoint, repetition: int
) -> EndpointRun:
    benchmark = experiment.benchmark
    assert benchmark is not None
    load = Load(
        repetition=repetition,
        seed=seed_of(benchmark.seed, repetition, endpoint.name),
        frequency=benchmark.frequency,
        warmup=benchmark.warmup,
        duration=benchmark.duration,
        answer_timeout=benchmark.answer_timeout,
        folder=f"{RUN_FOLDER}/{endpoint.name}-{repetition}",
        arrivals=benchmark.arrival_kind,
    )
    if not isinstance(benchmark.arrivals, str):
        load = replace(load, trace=benchmark.arrivals.file, column=endpoint.number - 1)
        load = replace(load, frequency=load.requests[1] / load.duration)
    return EndpointRun(endpoint, load, application.endpoint(endpoint, load))
