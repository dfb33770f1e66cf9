"""Whether the nodes can hold the pods, as far as that is known before there are any."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from continuum.experiment.units import show_bytes
from continuum.software.managers.kubernetes.kubeadm import KEPT_FREE, PODS_LIMIT

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment, Tier

NODE_MEMORY = 200 * 2**20
POD_MEMORY = 7 * 2**20
"""Bytes that a node's own programs take, and what comes with each pod: the process that watches
over its containers above all."""

CONTAINERS_LIMIT = 500
"""Containers of one pod: the object that names them all must stay well below a request's size."""


def problem(experiment: Experiment, each: int, *, in_one_pod: bool) -> str | None:
    """Why a machine cannot hold so many containers, each in a pod or all in one; None if it can."""
    benchmark = experiment.benchmark
    assert benchmark is not None
    tier = experiment.tiers[experiment.worker_tier]
    pods = 1 if in_one_pod else each
    noun = "containers" if in_one_pod else "pods"
    if pods > PODS_LIMIT:
        return f"{each} pods on each machine; a node carries at most {PODS_LIMIT}"
    if in_one_pod and each > CONTAINERS_LIMIT:
        return f"{each} containers in one pod; at most {CONTAINERS_LIMIT}"
    if benchmark.worker_cpu is not None:
        cores = tier.cores * tier.quota
        if benchmark.worker_cpu * each > cores + 1e-9:
            return (
                f"{each} {noun} of {benchmark.worker_cpu:g} cores on each machine, which has "
                f"{cores:g}"
            )
    offered = tier.memory - KEPT_FREE
    if benchmark.worker_memory is not None and benchmark.worker_memory * each > offered:
        return (
            f"{each} {noun} of {show_bytes(benchmark.worker_memory)} on each machine, which has "
            f"{show_bytes(offered)} for them"
        )
    taken = NODE_MEMORY + pods * POD_MEMORY
    if taken > tier.memory:
        return (
            f"{each} {noun} on each machine take about {show_bytes(taken)} with what runs them; "
            f"the machine has {show_bytes(tier.memory)}"
        )
    return None


def host_size() -> tuple[int, int]:
    """Processors and bytes of memory of this host."""
    return os.cpu_count() or 1, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def share_of_host(tier: Tier, host_cores: int, host_memory: int) -> tuple[float, float]:
    """The share of a machine's cores and memory that its node can offer, each at most 1.

    A node that is a container offers no more than its host has; what pods take up is scaled by
    these, so that as many fit as on a machine that really is so large.
    """
    return (
        min(1.0, host_cores / (tier.cores * tier.quota)),
        min(1.0, (host_memory - KEPT_FREE) / (tier.memory - KEPT_FREE)),
    )
