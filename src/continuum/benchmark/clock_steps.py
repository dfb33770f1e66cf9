"""Clocks that were set during a repetition: every machine's with a clock of its own, and this host's.

`CLOCK_REALTIME − CLOCK_MONOTONIC` of each is read at both ends; it changes when the clock is set, and
by nothing else. Where machines share this host's clock, one reading is that of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from continuum.benchmark.reasons import Code, Reason
from continuum.errors import ContinuumError
from continuum.images.recipe import RUNTIME_FOLDER
from continuum.machine import Command
from continuum.parallel import for_each
from continuum_runtime import steady_clock

if TYPE_CHECKING:
    from continuum.machine import Machine

MOST_MS = 1.0
"""As of a watched host: reading both clocks takes far less."""
THIS_HOST = "this host"
_COMMAND = Command(
    ("python3", "-S", "-m", "continuum_runtime.steady_clock"),
    environment={"PYTHONPATH": RUNTIME_FOLDER},
    only_reads=True,
)


def offsets(machines: Sequence[Machine]) -> dict[str, int]:
    """The wall clock minus the monotonic one, in ns: of this host, and of machines that answer."""
    told = for_each(_offset, machines)
    of_machines = {
        machine.name: offset
        for machine, offset in zip(machines, told, strict=True)
        if offset is not None
    }
    return {THIS_HOST: steady_clock.offset_ns(), **of_machines}


def _offset(machine: Machine) -> int | None:
    """None where it cannot be had: the reading of the clock itself tells why."""
    try:
        return int(machine.run(_COMMAND).check().text)
    except (ContinuumError, ValueError):
        return None


def reasons(repetition: int, before: Mapping[str, int], after: Mapping[str, int]) -> list[Reason]:
    """One for each clock that was set between two readings."""
    found = []
    for name, now_ns in after.items():
        step_ms = round((now_ns - before.get(name, now_ns)) / 1e6, 3)
        if abs(step_ms) > MOST_MS:
            found.append(
                Reason(
                    code=Code.CLOCK,
                    sentence=f"the clock of {name} was set by {step_ms:+.3g} ms in repetition "
                    f"{repetition}: times before and after do not compare",
                    figures={"repetition": repetition, "clock_step_ms": step_ms},
                )
            )
    return found
