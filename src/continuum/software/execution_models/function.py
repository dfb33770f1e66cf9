"""The execution model `function`: workers deployed through OpenFaaS' REST API.

Each worker is a function of its own, called as the worker, on the machine where the experiment puts
it. Whose implementation of the API answers is the distribution's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from continuum import interruption
from continuum.errors import ContinuumError, StepFailed
from continuum.experiment.model import Serverless
from continuum.secret import opened
from continuum.software.contract import ExecutionModel, ProcessSpec, Start
from continuum.software.execution_models import pod
from continuum.software.execution_models.looks import Patience, SharedLook
from continuum.software.managers.kubernetes.kubectl import Kubectl
from continuum.software.serverless import names, openfaas

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.images.recipe import InstallStep
    from continuum.machine import Machine

START_LIMIT = 60.0
"""Seconds for each thing that is waited for while starts are measured."""

GONE_LIMIT = 30.0
"""Seconds for a function's pods to go once it is removed."""

_MEASURE_LIMIT = 4 * START_LIMIT + 60.0
_POLL = 0.2
_ON = "continuum.machine"

KINDS = ("cold", "zero", "out")


class Function(ExecutionModel):
    """Functions, by the gateway of the cluster."""

    name: ClassVar[str] = "function"

    def __init__(
        self,
        experiment: Experiment | None = None,
        machines: Mapping[str, Machine] | None = None,
    ) -> None:
        super().__init__(experiment, machines)
        self._without_place = Patience(pod.PLACE_LIMIT)
        self._functions = SharedLook(self._look_at_functions)
        self._pods = SharedLook(lambda: self._kubectl.get("pods", namespace=names.FUNCTIONS))

    def install(self) -> tuple[InstallStep, ...]:
        """Nothing: the gateway comes with the software of the experiment."""
        return ()

    def start(self, machine: Machine, process: ProcessSpec) -> None:
        """Deploy it, or make it as it is to be.

        Raises:
            StepFailed: it has no image, or the gateway refuses it.
        """
        if not process.image:
            raise StepFailed(
                f'"{process.name}" has no container image',
                where=f"{machine.name}: function {process.name}",
            )
        self._api.deploy(self._deployed(machine, process))

    def state(self, machine: Machine, process: ProcessSpec) -> str:
        """`starting`, `ready` (a replica takes calls), `ended`, `failed`, or `absent`.

        One without replicas is `starting`: the next call makes it start.
        """
        return self.states(machine, (process,))[process.name]

    def states(self, machine: Machine, processes: Sequence[ProcessSpec]) -> dict[str, str]:
        """State by name of several on one machine."""
        del machine
        functions = {each["name"]: each for each in self._functions()}
        pods = self._pods()
        found = {}
        for process in processes:
            own = _pods_of(pods, process.name)
            state = function_state(functions.get(process.name), own)
            lost = self._without_place.is_over(process.name, pod.finds_no_place(own))
            found[process.name] = "failed" if lost else state
        return found

    def stop(self, machine: Machine, process: ProcessSpec) -> None:
        """Remove it, and wait until its pods are gone."""
        del machine
        self._api.remove(process.name)
        self._await_gone({process.name})

    def stop_all(self, machine: Machine, processes: Sequence[ProcessSpec]) -> None:
        """Remove all of ours on the machine."""
        del processes  # Who labels a function with the machine's name is us.
        ours = {
            each["name"]
            for each in self._functions()
            if (each.get("labels") or {}).get(_ON) == machine.name
        }
        for name in sorted(ours):
            self._api.remove(name)
        self._await_gone(ours)

    @property
    def tells_ready(self) -> bool:
        """A replica is asked for its health."""
        return True

    @property
    def measures_starts(self) -> bool:
        """Unless the experiment asks for none."""
        return self._settings.starts > 0

    def starts(
        self,
        machine: Machine,
        process: ProcessSpec,
        progress: Callable[[str], None],
    ) -> Iterator[Start]:
        """Cold start, start from zero replicas, and scaling out; each as often as is asked for.

        Raises:
            StepFailed: something did not come about in time.
        """
        settings = self._settings
        kinds = KINDS if settings.replicas > 1 else KINDS[:-1]
        for number in range(1, settings.starts + 1):
            for kind in kinds:
                progress(f"{_MEANINGS[kind]} of {process.name}, {number} of {settings.starts}")
                told = self._api.run(
                    "function_starts",
                    {
                        "kind": kind,
                        "function": self._deployed(machine, process),
                        "content": process.trial,
                        "replicas": settings.replicas,
                        "limit": START_LIMIT,
                    },
                    seconds=_MEASURE_LIMIT,
                )
                if "error" in told:
                    raise StepFailed(
                        f"the {_MEANINGS[kind]} of {process.name} could not be measured: "
                        f"{told['error']}",
                        where=f"{machine.name}: function {process.name}",
                    )
                yield Start(
                    worker=process.name,
                    kind=kind,
                    number=number,
                    seconds=told["seconds"],
                    replicas=settings.replicas if kind == "out" else 1,
                    moments=tuple(told["moments"]),
                )

    def log(self, machine: Machine, process: ProcessSpec, lines: int = 0) -> str:
        """What it wrote, as the gateway tells it; what an earlier life wrote, and its end."""
        selector = f"{names.FUNCTION_LABEL}={process.name}"
        found = []
        try:
            if pod.answers(machine):
                earlier = self._kubectl.run(
                    *("logs", f"--namespace={names.FUNCTIONS}", f"--selector={selector}"),
                    *(f"--tail={lines or -1}", "--previous"),
                )
                found += [earlier.text] if earlier.exit_code == 0 else []
                found.append(self._api.log(process.name, lines))
            pods = self._kubectl.get("pods", namespace=names.FUNCTIONS, selector=selector)
        except ContinuumError as error:
            return "\n".join([*found, f"{error.message}: {error.output}"])
        return "\n".join([*found, *(reason for each in pods for reason in pod.reasons(each))])

    @property
    def _settings(self) -> Serverless:
        software = self.experiment.software if self.experiment else None
        return (software.serverless if software else None) or Serverless()

    @cached_property
    def _kubectl(self) -> Kubectl:
        return Kubectl(self._control)

    @cached_property
    def _api(self) -> openfaas.Api:
        return openfaas.Api(self._control, openfaas.credentials(self._kubectl))

    @property
    def _control(self) -> Machine:
        assert self.experiment is not None
        control = self.experiment.control_machine
        assert control is not None
        return self.machines[control]

    @cached_property
    def _shares(self) -> dict[str, tuple[float, float]]:
        assert self.experiment is not None
        return pod.shares(self.experiment, self._kubectl.get("nodes"))

    def _deployed(self, machine: Machine, process: ProcessSpec) -> dict[str, Any]:
        share = self._shares.get(machine.name, (1.0, 1.0))
        return deployed(process, share, self._settings.replicas)

    def _look_at_functions(self) -> list[dict[str, Any]]:
        return self._api.functions()

    def _await_gone(self, functions: set[str]) -> None:
        """Wait until no pod of these functions is there; what stays is struck off."""
        until = time.monotonic() + GONE_LIMIT
        while left := [name for name in functions if _pods_of(self._pods(), name, going=True)]:
            if time.monotonic() > until:
                for name in left:
                    self._kubectl.run(
                        *("delete", "pods", f"--namespace={names.FUNCTIONS}"),
                        *(
                            f"--selector={names.FUNCTION_LABEL}={name}",
                            "--force",
                            "--grace-period=0",
                        ),
                    ).check(f"pods of function {name} could not be deleted")
                return
            interruption.pause(_POLL)


_MEANINGS = {
    "cold": "cold start",
    "zero": "start from zero",
    "out": "scaling out",
}


def deployed(process: ProcessSpec, share: tuple[float, float], replicas: int = 1) -> dict[str, Any]:
    """What the API is given for a worker; a pure function.

    Args:
        process: the worker.
        share: of its machine's cores and memory, how much its node offers.
        replicas: that must find room on the machine, beside one that is on its way out: each asks
            for a part.
    """
    part = (share[0] / (replicas + 1), share[1] / (replicas + 1))
    return {
        "service": process.name,
        "image": process.image,
        "namespace": names.FUNCTIONS,
        "envVars": {**process.environment, **opened(process.secrets)},
        "constraints": [f"kubernetes.io/hostname={process.machine}"],
        "labels": {
            _ON: process.machine,
            "com.openfaas.scale.min": "1",
            "com.openfaas.scale.max": str(replicas),
        },
        **pod.resources(process, part),
    }


def function_state(function: Mapping[str, Any] | None, pods: Sequence[Mapping[str, Any]]) -> str:
    """How a function is, by what the gateway says of it and by its pods."""
    if function is None:
        return "absent"
    state = pod.state_of(pods)
    if state in {"failed", "ended"}:
        return state
    return "ready" if function.get("availableReplicas", 0) > 0 else "starting"


def _pods_of(
    pods: Sequence[Mapping[str, Any]], name: str, *, going: bool = False
) -> list[Mapping[str, Any]]:
    """A function's pods; with `going` also those on their way out."""
    return [
        each
        for each in pods
        if (each["metadata"].get("labels") or {}).get(names.FUNCTION_LABEL) == name
        and (going or "deletionTimestamp" not in each["metadata"])
    ]
