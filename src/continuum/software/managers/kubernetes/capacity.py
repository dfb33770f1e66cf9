"""Whether machines can hold the workers that are asked of them, as far as an experiment tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuum.experiment.units import show_bytes
from continuum.software.managers.kubernetes.kubeadm import PODS_LIMIT

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment

_ROUNDING = 1e-9


def problem(experiment: Experiment) -> str | None:
    """Why the scheduler would find no place for a worker; None if it can be expected to."""
    benchmark = experiment.benchmark
    if benchmark is None or not experiment.workers_in_containers:
        return None
    tier = experiment.tiers[experiment.worker_tier]
    each = benchmark.workers_per_machine
    workers = "a worker" if each == 1 else f"{each} workers"
    place = f'each machine of tier "{experiment.worker_tier}"'
    cores = tier.cores * tier.quota
    if each > PODS_LIMIT:
        return f"{workers} on {place}; a node carries at most {PODS_LIMIT} pods"
    if benchmark.worker_cpu is not None and benchmark.worker_cpu * each > cores + _ROUNDING:
        return f"{workers} of {benchmark.worker_cpu:g} cores on {place}, which has {cores:g}"
    if benchmark.worker_memory is not None and benchmark.worker_memory * each > tier.memory:
        return (
            f"{workers} of {show_bytes(benchmark.worker_memory)} on {place}, which has "
            f"{show_bytes(tier.memory)}"
        )
    return None
