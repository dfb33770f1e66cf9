"""The execution model `container`: a pod where there is a cluster, else a container by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from continuum.software.contract import ExecutionModel, ProcessSpec

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.images.recipe import InstallStep
    from continuum.machine import Machine


class Container(ExecutionModel):
    """Workers in containers, by whoever runs containers in the experiment."""

    name: ClassVar[str] = "container"

    def __init__(
        self,
        experiment: Experiment | None = None,
        machines: Mapping[str, Machine] | None = None,
    ) -> None:
        super().__init__(experiment, machines)
        self._carrier = _carrier(experiment)(experiment, machines)

    def install(self) -> tuple[InstallStep, ...]:
        """What runs the containers."""
        return self._carrier.install()

    def start(self, machine: Machine, process: ProcessSpec) -> None:
        """Start the container; replaces one of the same name."""
        self._carrier.start(machine, process)

    def state(self, machine: Machine, process: ProcessSpec) -> str:
        """`starting`, `ready`, `ended`, `failed`, or `absent`."""
        return self._carrier.state(machine, process)

    def states(self, machine: Machine, processes: Sequence[ProcessSpec]) -> dict[str, str]:
        """State by name of several on one machine."""
        return self._carrier.states(machine, processes)

    def stop(self, machine: Machine, process: ProcessSpec) -> None:
        """Stop the container, if it runs, and forget it."""
        self._carrier.stop(machine, process)

    def stop_all(self, machine: Machine, processes: Sequence[ProcessSpec]) -> None:
        """Stop and forget all of ours on the machine."""
        self._carrier.stop_all(machine, processes)

    def log(self, machine: Machine, process: ProcessSpec, lines: int = 0) -> str:
        """What it wrote; the last `lines`, 0 for all."""
        return self._carrier.log(machine, process, lines)


def _carrier(experiment: Experiment | None) -> type[ExecutionModel]:
    # Each is imported only where it is used: a command that only reads has no time for both.
    if experiment is not None and experiment.in_a_cluster:
        from continuum.software.execution_models.pod import Pod  # noqa: PLC0415

        return Pod
    from continuum.software.execution_models.plain_container import (  # noqa: PLC0415
        PlainContainer,
    )

    return PlainContainer
