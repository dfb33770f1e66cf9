"""Ready files: a worker that runs is ready when it has made its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from continuum.machine import Command

if TYPE_CHECKING:
    from continuum.machine import Machine
    from continuum.software.contract import ProcessSpec


def with_ready_files(
    machine: Machine, processes: Sequence[ProcessSpec], states: Mapping[str, str]
) -> dict[str, str]:
    """The states by name, `starting` for who would be `ready` and has not made its ready file.

    One look at the machine for all of them. A process that makes no such file is ready as it is.
    """
    files = {
        process.ready_file: process.name
        for process in processes
        if process.ready_file and states[process.name] == "ready"
    }
    if not files:
        return dict(states)
    there = machine.run(Command(("stat", "--format=%n", *files))).text.splitlines()
    return {**states, **{name: "starting" for path, name in files.items() if path not in there}}
