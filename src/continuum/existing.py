"""Deployments that are there: who made them, their machines, and how they are now.

What a command needs that looks at machines or speaks with them; the pipeline is in `workflow`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from continuum import folders, plugins, state_file
from continuum.deployment import Deployment
from continuum.errors import ContinuumError, NotFound, NotPossibleHere, UsageError
from continuum.infrastructure.damage import damage
from continuum.infrastructure.execute import is_whole, stored_plan
from continuum.state_file import Damaged

if TYPE_CHECKING:
    from continuum.events import Events
    from continuum.infrastructure.plan import InfrastructurePlan, Link
    from continuum.infrastructure.providers.contract import Provider
    from continuum.machine import Machine

_ON_THIS_HOST = ("lxc", "libvirt")
"""Providers that leave things on this host which can be found without knowing who made them."""

UNKNOWN = "unknown"
"""State of a machine whose provider is not there to look."""


@dataclass(frozen=True)
class MachineStatus:
    """One machine: `state` is `running`, `stopped`, `missing`, `unreachable` as its host is, or
    `unknown` where its provider is not there to look.

    `ssh` is the command; `host` the name of its host, "" for this one.
    """

    name: str
    tier: str
    address: str
    state: str
    ssh: str
    host: str = ""


@dataclass(frozen=True)
class DeploymentStatus:
    """A deployment as it is now.

    `links_in_force` counts those that are as asked for; None when only root can see them, or
    nobody as the provider is not there. `links_missing` are those that should be, since `up` got to
    its end and all their machines run, and are not, as `edge → endpoint`; `network_missing` what of
    the network that carries and closes the machines is gone, in sentences. `cluster`
    is the command that speaks with its cluster, "" when it has none. `leftover`: found by its
    labels alone, its folder is gone.
    """

    name: str
    provider: str
    machines: tuple[MachineStatus, ...]
    links_asked: int
    links_in_force: int | None
    last_step: str
    leftover: bool = False
    cluster: str = ""
    remarks: tuple[str, ...] = ()
    links_missing: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    """Files that cannot be read, and why."""
    network_missing: tuple[str, ...] = ()


def status(name: str | None, events: Events) -> list[DeploymentStatus]:
    """What is there now, of one deployment or of all; found by looking, not by remembering."""
    deployments = Deployment.all() if name is None else [Deployment.existing(name, damaged=True)]
    found = [_with_damage(deployment, events) for deployment in deployments]
    if name is None:
        known = {deployment.name for deployment in deployments}
        found += [
            DeploymentStatus(each, maker, (), 0, 0, "", leftover=True)
            for each, maker in leftovers(events).items()
            if each not in known
        ]
    return found


def _with_damage(deployment: Deployment, events: Events) -> DeploymentStatus:
    """One that is damaged names its files, and hides none of the others."""
    damaged = damage(deployment)
    if deployment.damage() is not None:
        return DeploymentStatus(deployment.name, "", (), 0, 0, "", damaged=_lines(damaged))
    try:
        found = _status(deployment, events)
    except OSError as error:
        problem = state_file.failure(error)
        if problem is None:
            raise
        found = DeploymentStatus(deployment.name, "", (), 0, None, "", remarks=(problem.message,))
    return replace(found, damaged=(*_lines(damaged), *found.damaged))


def _lines(damaged: Iterable[Damaged]) -> tuple[str, ...]:
    return tuple(map(str, damaged))


def _status(deployment: Deployment, events: Events) -> DeploymentStatus:
    plan_ = stored_plan(deployment)
    entries = deployment.journal.entries()
    last = f"{entries[-1].phase}: {entries[-1].step} {entries[-1].state}" if entries else ""
    if plan_ is None:
        return DeploymentStatus(deployment.name, "", (), 0, 0, last)
    names = [spec.name for spec in plan_.machines]
    try:
        provider = provider_of(deployment, events)
    except ContinuumError as error:
        # It must not hide the others.
        return DeploymentStatus(
            name=deployment.name,
            provider=plan_.provider,
            machines=_machines(plan_, dict.fromkeys(names, UNKNOWN), {}),
            links_asked=len(plan_.network.links),
            links_in_force=None,
            last_step=last,
            remarks=(f"{error.message}; {error.hint}",),
        )
    states = {state.name: state.state for state in provider.states(deployment)}
    missing = missing_links(deployment, plan_, provider)
    logins = names if provider.capabilities.ssh else ()
    return DeploymentStatus(
        name=deployment.name,
        provider=plan_.provider,
        machines=_machines(plan_, states, {each: deployment.ssh_command(each) for each in logins}),
        links_asked=len(plan_.network.links),
        links_in_force=None if missing is None else len(plan_.network.links) - len(missing),
        last_step=last,
        cluster=deployment.cluster_command(),
        remarks=tuple(provider.caveats(plan_)),
        damaged=_lines(provider.damage(deployment)),
        # Before the last `up` has come to its end there need not be any.
        links_missing=_named_links(plan_, missing or (), states) if is_whole(deployment) else (),
        network_missing=(
            tuple(network_missing(deployment, plan_, provider)) if is_whole(deployment) else ()
        ),
    )


def _machines(
    plan_: InfrastructurePlan, states: Mapping[str, str], ssh: Mapping[str, str]
) -> tuple[MachineStatus, ...]:
    return tuple(
        MachineStatus(
            name=spec.name,
            tier=spec.tier,
            address=spec.address,
            state=states.get(spec.name, "missing"),
            ssh=ssh.get(spec.name, ""),
            host=spec.host,
        )
        for spec in plan_.machines
    )


def missing_links(
    deployment: Deployment, plan_: InfrastructurePlan, provider: Provider
) -> list[Link] | None:
    """The plan's links that are not in force as they are asked for; None when only root sees."""
    if not plan_.network.links:
        return []
    if not provider.may_act():
        return None
    found = set(provider.links_in_force(deployment, plan_))
    # What has other settings is found too, and is not what was asked for.
    return [link for link in plan_.network.links if link not in found]


def network_missing(
    deployment: Deployment, plan_: InfrastructurePlan, provider: Provider
) -> list[str]:
    """Parts that are gone of the network that carries and closes the machines; only root sees it."""
    return provider.network_missing(deployment, plan_) if provider.may_act() else []


def _named_links(
    plan_: InfrastructurePlan, links: Iterable[Link], states: Mapping[str, str]
) -> tuple[str, ...]:
    """Those of some links whose machines all run."""
    from continuum.infrastructure.links.rules import (  # noqa: PLC0415  few have any to name
        ends,
    )

    running = {name for name, state in states.items() if state == "running"}
    missing = list(links)
    known = ends(plan_.network.links, plan_.machines) if missing else {}
    return tuple(str(link) for link in missing if known[link].all_run(running))


def provider_of(deployment: Deployment, events: Events) -> Provider:
    """The provider that made a deployment, ready to look at its machines."""
    return providers_of(deployment, events)[0]


def machines(name: str, selected: Sequence[str], events: Events) -> list[Machine]:
    """Handles of a deployment's machines: all, or those of the named machines and tiers.

    Raises:
        NotFound: no such deployment, machine or tier.
    """
    deployment = Deployment.existing(name)
    plan_ = stored_plan(deployment)
    if plan_ is None:
        raise NotFound(f'deployment "{name}" has no machines yet', hint=f"continuum down {name}")
    handles = provider_of(deployment, events).machines(deployment, plan_)
    if not selected:
        return handles
    known = {machine.name for machine in handles} | {machine.tier for machine in handles}
    unknown = [each for each in selected if each not in known]
    if unknown:
        raise NotFound(
            f'no machine or tier "{unknown[0][:60]}" in deployment "{name}"',
            hint=f"there are: {', '.join(machine.name for machine in handles)}",
        )
    return [each for each in handles if each.name in selected or each.tier in selected]


def providers_of(deployment: Deployment, events: Events) -> list[Provider]:
    """The provider that made it; all of ours when nothing says which.

    Raises:
        NotPossibleHere: the provider is not there, or has nothing to do with what it kept.
    """
    stored = stored_plan(deployment)
    names = [stored.provider] if stored else [*_ON_THIS_HOST, "fake"]
    found = []
    for name in names:
        provider = _made_by(deployment, name, stored.settings if stored else {}, events)
        if stored and stored.hosts:
            from continuum.infrastructure.hosts import several  # noqa: PLC0415

            provider = several.over(provider, stored.hosts)
        found.append(provider)
    return found


def _made_by(
    deployment: Deployment, name: str, settings: Mapping[str, Any], events: Events
) -> Provider:
    last_resort = f"; if there is none any more, remove what it made by its own means, and {deployment.folder}"
    try:
        kind: type[Provider] = plugins.load("providers", name)
        return kind(kind.settings_type.of_stored(settings), events)
    except UsageError as error:
        raise NotPossibleHere(
            f'deployment "{deployment.name}" was made by provider "{name[:40]}", '
            "which is not installed",
            where=str(deployment.folder),
            hint=f"install the plug-in that brings it{last_resort}",
        ) from error
    except ValidationError as error:
        raise NotPossibleHere(
            f'deployment "{deployment.name}" was made by another version of provider '
            f'"{name[:40]}", whose settings this one cannot read',
            where=str(deployment.folder),
            output=str(error),
            hint=f"install that version{last_resort}",
        ) from error


def leftovers(events: Events) -> dict[str, str]:
    """Deployments of this state folder whose things are there, by labels alone: the provider, or
    the first that it may be, by name.
    """
    found: dict[str, str] = {}
    for name in _ON_THIS_HOST:
        kind: type[Provider] = plugins.load("providers", name)
        for each in kind(kind.settings_type(), events).leftovers(folders.state_folder()):
            found.setdefault(each, name)
    return found
