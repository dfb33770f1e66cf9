"""Carry out the software phase: Ansible where something differs, then wait for the services."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from continuum import folders, interruption, plugins, state_file
from continuum.digest_key import digest_key
from continuum.errors import NotFound, TimedOut
from continuum.machine import Command
from continuum.parallel import for_each
from continuum.software import ansible
from continuum.software.capabilities import may_be_slow
from continuum.software.configure import manager_of

if TYPE_CHECKING:
    from continuum.deployment import Deployment
    from continuum.events import Events
    from continuum.experiment.model import Experiment
    from continuum.machine import Machine
    from continuum.software.configure import SoftwarePlan
    from continuum.software.contract import ResourceManager, Service

PHASE = "software"
APPLIED = "/var/lib/continuum/software"
"""On every machine: the mark of the plan that was last applied to it as a whole."""

READY_TIMEOUT = 60.0
"""Seconds for services and the resource manager to answer after their roles have been applied."""

SLOW = 5
"""By how much more on machines that may be slow."""

PATIENCE = 3.0
"""Seconds for a service to answer that ought to run: it may just have been started again."""

_POLL = 0.1


def execute(  # noqa: PLR0913  what to do, with what, and whom to tell
    deployment: Deployment,
    experiment: Experiment,
    plan: SoftwarePlan,
    machines: Sequence[Machine],
    events: Events,
    *,
    ssh: bool = True,
) -> bool:
    """Bring the machines to what the plan says. True when anything was changed.

    The machines themselves are asked which plan was applied to them and whether their services
    and their resource manager answer; Ansible runs only when one of them says otherwise. `ssh` is
    False for machines that have no SSH: roles then count as applied.

    Raises:
        StepFailed: a task of a role failed.
        MachineUnreachable: a machine does not answer.
        TimedOut: a service or the resource manager does not answer after its role has been
            applied.
    """
    if not plan.plays and not plan.services:
        return False
    by_name = {machine.name: machine for machine in machines}
    slower = SLOW if may_be_slow(experiment) else 1
    manager = manager_of(experiment)
    awaited: list[_Awaited] = _services(plan, by_name)
    if ssh:
        awaited.append(_Manager(manager, experiment, by_name))
    configured = [by_name[name] for name in plan.machines]
    mark = plan.mark(digest_key).encode()
    with deployment.journal.step(
        events, PHASE, "configure machines", fingerprint=plan.fingerprint
    ) as step:
        ansible.write_files(deployment, plan.files)
        step.changed = False
        applied = all(for_each(lambda machine: _applied(machine, mark), configured))
        if applied and not _missing(awaited, PATIENCE, step.progress):
            _keep(deployment, manager, experiment, by_name, ssh=ssh)
            return False
        step.changed = True
        if plan.plays and ssh:
            # Until the end they are neither as the plan wants them nor as the last one did.
            for_each(lambda machine: machine.put(b"", APPLIED), configured)
            result = ansible.run_playbook(
                deployment,
                step.progress,
                timeout=ansible.TIMEOUT * slower,
                secrets=plan.secrets,
                variables=plan.secret_variables,
                log_of=lambda name: "\n".join(each.log(name) for each in awaited),
            )
            step.changed = result.changed
        for_each(lambda machine: machine.put(mark, APPLIED), configured)
        changed = step.changed
    names = ", ".join(dict.fromkeys(each.name for each in awaited if each.name))
    if names:
        with deployment.journal.step(
            events, PHASE, "start services", waits_for=f"{names} to answer"
        ) as step:
            step.changed = changed
            seconds = READY_TIMEOUT * slower
            missing = _missing(awaited, seconds, step.progress)
            if missing:
                raise _timed_out(missing, seconds)
    _keep(deployment, manager, experiment, by_name, ssh=ssh)
    return changed


def _keep(
    deployment: Deployment,
    manager: ResourceManager,
    experiment: Experiment,
    machines: Mapping[str, Machine],
    *,
    ssh: bool,
) -> None:
    """Put what the manager has for the user into the deployment's folder."""
    for name, content in manager.keep(experiment, machines).items() if ssh else ():
        path = deployment.folder / name
        if state_file.read_bytes(path) != content:
            folders.write_file(path, content, folders.PRIVATE_FILE)


def end_leftovers(deployment: Deployment) -> None:
    """End what an earlier `execute` that was killed may have left running on this host."""
    ansible.end_leftovers(deployment)


class _Awaited(ABC):
    """Something that must answer before the phase is over."""

    name: str

    @abstractmethod
    def missing(self) -> list[str]:
        """What does not answer, for a person; empty when all does."""

    @abstractmethod
    def log(self, machine: str = "") -> str:
        """The end of its log, if it is on that machine; "" for wherever it is."""

    where = ""


class _Service(_Awaited):
    """A service on one machine."""

    def __init__(self, service: Service, machine: Machine) -> None:
        self.name = service.name
        self.where = f"{machine.name}: {', '.join(service.logs)}"
        self._service, self._machine = service, machine

    def missing(self) -> list[str]:
        ready = self._service.ready(self._machine)
        return [] if ready else [f"{self.name} on {self._machine.name}"]

    def log(self, machine: str = "") -> str:
        if machine not in ("", self._machine.name):
            return ""
        units = tuple(f"--unit={unit}" for unit in self._service.logs)
        command = Command(("journalctl", "--no-pager", "--output=cat", "--lines=20", *units))
        return self._machine.run(command).last_output


class _Manager(_Awaited):
    """The resource manager, on all its machines."""

    def __init__(
        self, manager: ResourceManager, experiment: Experiment, machines: Mapping[str, Machine]
    ) -> None:
        self._manager, self._experiment = manager, experiment
        control = manager.control_machine(experiment)
        self.name = manager.name if control else ""
        self.where = control or ""
        self._machines = machines

    def missing(self) -> list[str]:
        return self._manager.missing(self._experiment, self._machines)

    def log(self, machine: str = "") -> str:
        chosen = {machine: self._machines[machine]} if machine else self._machines
        return self._manager.log(self._experiment, chosen)


def _services(plan: SoftwarePlan, machines: Mapping[str, Machine]) -> list[_Awaited]:
    """Every service with every machine that carries it."""
    services = {name: plugins.load("services", name)() for name in plan.services}
    return [
        _Service(services[name], machines[machine])
        for name, names in plan.services.items()
        for machine in names
    ]


def _applied(machine: Machine, mark: bytes) -> bool:
    try:
        return machine.get(APPLIED) == mark
    except NotFound:
        return False


def _missing(
    awaited: list[_Awaited], seconds: float, progress: Callable[[str, float | None], None]
) -> list[tuple[_Awaited, str]]:
    """Ask until everything answers, at most so long; returns what does not."""
    until = time.monotonic() + seconds
    waiting = awaited
    while True:
        answers = for_each(lambda each: each.missing(), waiting)
        missing = [
            (each, what) for each, found in zip(waiting, answers, strict=True) for what in found
        ]
        waiting = [each for each, found in zip(waiting, answers, strict=True) if found]
        if not missing or time.monotonic() > until:
            return missing
        progress(_named(missing), 1 - len(waiting) / len(awaited))
        interruption.pause(_POLL)


def _timed_out(missing: list[tuple[_Awaited, str]], seconds: float) -> TimedOut:
    first, _ = missing[0]
    return TimedOut(
        f"not ready within {seconds:g} s: {_named(missing)}",
        where=first.where,
        output=first.log(),
        hint="continuum logs",
    )


def _named(missing: list[tuple[_Awaited, str]]) -> str:
    return ", ".join(what for _, what in missing[:5]) + (
        f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    )
