"""Carry out the software phase: Ansible where something differs, then wait for the services."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from continuum import plugins
from continuum.errors import NotFound, TimedOut
from continuum.machine import Command
from continuum.parallel import for_each
from continuum.software import ansible

if TYPE_CHECKING:
    from continuum.deployment import Deployment
    from continuum.events import Events
    from continuum.machine import Machine
    from continuum.software.configure import SoftwarePlan
    from continuum.software.contract import Service

PHASE = "software"
APPLIED = "/var/lib/continuum/software"
"""On every machine: the fingerprint of the plan that was last applied to it as a whole."""

READY_TIMEOUT = 30.0
"""Seconds for services to answer after their roles have been applied."""

PATIENCE = 3.0
"""Seconds for a service to answer that ought to run: it may just have been started again."""

_POLL = 0.1


def execute(
    deployment: Deployment,
    plan: SoftwarePlan,
    machines: Sequence[Machine],
    events: Events,
    *,
    ssh: bool = True,
) -> bool:
    """Bring the machines to what the plan says. True when anything was changed.

    The machines themselves are asked which plan was applied to them and whether their services
    answer; Ansible runs only when one of them says otherwise. `ssh` is False for machines that
    have no SSH: roles then count as applied.

    Raises:
        StepFailed: a task of a role failed.
        MachineUnreachable: a machine does not answer.
        TimedOut: a service does not answer after its role has been applied.
    """
    if not plan.plays and not plan.services:
        return False
    by_name = {machine.name: machine for machine in machines}
    waiting = _waiting(plan, by_name)
    configured = [by_name[name] for name in plan.machines]
    with deployment.journal.step(
        events, PHASE, "configure machines", fingerprint=plan.fingerprint
    ) as step:
        ansible.write_files(deployment, plan.files)
        step.changed = False
        applied = all(for_each(lambda machine: _applied(machine, plan), configured))
        if applied and not _missing(waiting, PATIENCE, step.progress):
            return False
        step.changed = True
        if plan.plays and ssh:
            result = ansible.run_playbook(
                deployment,
                step.progress,
                secrets=plan.secrets,
                log_of=lambda name: "\n".join(
                    _log(service, machine) for service, machine in waiting if machine.name == name
                ),
            )
            step.changed = result.changed
        for_each(lambda machine: machine.put(plan.fingerprint.encode(), APPLIED), configured)
        changed = step.changed
    if waiting:
        names = ", ".join(plan.services)
        with deployment.journal.step(
            events, PHASE, "start services", waits_for=f"{names} to answer"
        ) as step:
            step.changed = changed
            missing = _missing(waiting, READY_TIMEOUT, step.progress)
            if missing:
                raise _timed_out(missing)
    return changed


def end_leftovers(deployment: Deployment) -> None:
    """End what an earlier `execute` that was killed may have left running on this host."""
    ansible.end_leftovers(deployment)


_Waiting = tuple["Service", "Machine"]


def _waiting(plan: SoftwarePlan, machines: Mapping[str, Machine]) -> list[_Waiting]:
    """Every service with every machine that carries it."""
    services = {name: plugins.load("services", name)() for name in plan.services}
    return [
        (services[name], machines[machine])
        for name, names in plan.services.items()
        for machine in names
    ]


def _applied(machine: Machine, plan: SoftwarePlan) -> bool:
    try:
        return machine.get(APPLIED) == plan.fingerprint.encode()
    except NotFound:
        return False


def _ready(waiting: _Waiting) -> bool:
    service, machine = waiting
    return service.ready(machine)


def _missing(
    waiting: list[_Waiting], seconds: float, progress: Callable[[str, float | None], None]
) -> list[_Waiting]:
    """Ask until every service answers, at most so long; returns those that do not."""
    until = time.monotonic() + seconds
    missing = waiting
    while True:
        answers = for_each(_ready, missing)
        missing = [pair for pair, ready in zip(missing, answers, strict=True) if not ready]
        if not missing or time.monotonic() > until:
            return missing
        progress(_named(missing), 1 - len(missing) / len(waiting))
        time.sleep(_POLL)


def _timed_out(missing: list[_Waiting]) -> TimedOut:
    service, machine = missing[0]
    return TimedOut(
        f"no answer within {READY_TIMEOUT:g} s from {_named(missing)}",
        where=f"{machine.name}: {', '.join(service.logs)}",
        output=_log(service, machine),
        hint="continuum logs",
    )


def _log(service: Service, machine: Machine) -> str:
    """The end of a service's log."""
    units = tuple(f"--unit={unit}" for unit in service.logs)
    command = Command(("journalctl", "--no-pager", "--output=cat", "--lines=20", *units))
    return machine.run(command).last_output


def _named(missing: list[_Waiting]) -> str:
    return ", ".join(f"{service.name} on {machine.name}" for service, machine in missing[:5]) + (
        f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    )
