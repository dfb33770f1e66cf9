"""Whether virtual machines fit on a host: they take their memory whole; pure but for one fact."""

from __future__ import annotations

import math
from pathlib import Path

from continuum.errors import NotPossibleHere
from continuum.experiment.units import show_bytes
from continuum.host_facts import host_facts
from continuum.infrastructure.plan import InfrastructurePlan

LEAST = 256 * 2**20
"""Bytes of memory with which a machine still boots."""

OWN = 64 * 2**20
"""Bytes that QEMU itself takes for each machine, roughly."""

KEPT = 512 * 2**20
"""Bytes that are left to the host."""

_STEP = 64 * 2**20


def memory_of_host(root: Path = Path("/")) -> int | None:
    """Bytes of memory; None when it cannot be found out."""
    found = host_facts(root)["memory_bytes"]
    return None if found is None else int(found)


def refuse(plan: InfrastructurePlan, memory: int | None) -> None:
    """Raise when the machines together want more memory than the host has.

    Raises:
        NotPossibleHere: with the numbers, and the settings that would fit.
    """
    small = [spec for spec in plan.machines if spec.memory < LEAST]
    if small:
        tier = small[0].tier
        raise NotPossibleHere(
            f"{small[0].name} has {show_bytes(small[0].memory)} of memory; a virtual machine needs "
            f"{show_bytes(LEAST)}",
            where=f"tiers.{tier}.memory",
            hint=f"--set tiers.{tier}.memory={_written(LEAST)}",
        )
    wanted = sum(spec.memory for spec in plan.machines)
    if memory is None or wanted + KEPT + OWN * len(plan.machines) <= memory:
        return
    tiers = {spec.tier: spec for spec in plan.machines}
    counts = {tier: sum(spec.tier == tier for spec in plan.machines) for tier in tiers}
    parts = ", ".join(
        f"{counts[tier]} × {show_bytes(spec.memory)} ({tier})" for tier, spec in tiers.items()
    )
    raise NotPossibleHere(
        f"virtual machines take their memory whole: {show_bytes(wanted)} in all is more than this "
        f"host can give ({show_bytes(memory)}, of which {show_bytes(KEPT)} are left to itself and "
        f"{show_bytes(OWN)} go to each machine's QEMU)",
        where=parts,
        hint=_advice(plan, memory),
    )


def _advice(plan: InfrastructurePlan, memory: int) -> str:
    """What fits: the same shares of what there is, or fewer machines."""
    free = memory - KEPT - OWN * len(plan.machines)
    wanted = sum(spec.memory for spec in plan.machines)
    tiers = {spec.tier: spec.memory for spec in plan.machines}
    if free > 0:
        fitting = {
            tier: math.floor(size * free / wanted / _STEP) * _STEP for tier, size in tiers.items()
        }
        if min(fitting.values()) >= LEAST:
            settings = (f"--set tiers.{tier}.memory={_written(s)}" for tier, s in fitting.items())
            return " ".join(settings)
    counts = {tier: sum(spec.tier == tier for spec in plan.machines) for tier in tiers}
    tier = max(counts, key=lambda name: counts[name] * tiers[name])
    others = sum(spec.memory + OWN for spec in plan.machines if spec.tier != tier)
    count = max(0, (memory - KEPT - others) // (tiers[tier] + OWN))
    return f"--set tiers.{tier}.machines={count}" if count else "use fewer and smaller machines"


def _written(size: int) -> str:
    return f"{size // 2**20}MiB"
