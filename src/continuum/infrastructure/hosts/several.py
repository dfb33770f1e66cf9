"""A provider over several hosts: this one's share by itself, the others' by agents, side by side."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from continuum import plugins, state_file
from continuum.deployment import Deployment
from continuum.errors import (
    ContinuumError,
    MachineUnreachable,
    NotPossibleHere,
    StepFailed,
    TimedOut,
)
from continuum.experiment.model import Experiment
from continuum.host_facts import host_facts
from continuum.images import store
from continuum.images.recipe import Recipe
from continuum.infrastructure import configure, execute
from continuum.infrastructure.host import (
    machine_files,
    overlay,
    path_delay,
    share,
    ssh_access,
    ssh_wait,
)
from continuum.infrastructure.host.processor import Consumer
from continuum.infrastructure.host.sentinel import Stall
from continuum.infrastructure.host.share import HostShare, HostWatch
from continuum.infrastructure.hosts import agent, frames, paths
from continuum.infrastructure.hosts.connection import Connection
from continuum.infrastructure.links.choose import order
from continuum.infrastructure.links.contract import LinkEmulator, Window
from continuum.infrastructure.placement import Room
from continuum.infrastructure.plan import (
    HostPlan,
    InfrastructurePlan,
    Link,
    MachineSpec,
    NetworkPlan,
)
from continuum.infrastructure.providers.contract import (
    Capabilities,
    Check,
    MachineState,
    Provider,
    Surveyed,
)
from continuum.infrastructure.ssh_machine import SshMachine
from continuum.machine import Command, Machine, started_on_host
from continuum.parallel import for_each

BOOT_LIMIT = 60.0
"""Seconds until SSH must answer on all machines of other hosts; more for many."""

OWN_KERNEL_LIMIT = 60.0
"""Seconds more for each that starts a kernel: without KVM on a busy host that takes long."""

LARGEST_PACKET = 1500


@dataclass(frozen=True)
class _PathDelay:
    """The delay of the path between two hosts, as it is kept."""

    hosts: tuple[str, str]
    delay_ms: float


_DELAYS = "links/hosts.json"
_DELAYS_KEPT = TypeAdapter(tuple[_PathDelay, ...])
_PHASE = "infrastructure"


def hosts_of(experiment: Experiment) -> tuple[HostPlan, ...]:
    """The hosts that an experiment names; their addresses are not known yet."""
    return tuple(
        HostPlan(name, each.ssh, each.ssh_config or "", each.folder or "")
        for name, each in zip(experiment.host_names, experiment.hosts, strict=True)
    )


def over(
    inner: Provider,
    hosts: Sequence[HostPlan],
    *,
    former: Sequence[HostPlan] = (),
    this_host: bool = True,
) -> SeveralHosts:
    """A provider like `inner`, over this host and others.

    Args:
        inner: makes this host's machines.
        hosts: the others.
        former: hosts that may carry machines of the deployment, but are not to any more.
        this_host: whether this host carries machines too.
    """
    # By `ssh` alone: a name may be that of another host by now.
    ways = {host.ssh for host in hosts}
    gone = [each for each in former if each.ssh not in ways]
    kind = type(
        "SeveralHosts",
        (SeveralHosts,),
        {
            "name": inner.name,
            "settings_type": inner.settings_type,
            "capabilities": _capabilities(inner.capabilities),
            "programs": inner.programs,
        },
    )
    made: SeveralHosts = kind(inner, hosts, gone, this_host=this_host)
    return made


def _capabilities(inner: Capabilities) -> Capabilities:
    # Every host has a kernel, and so a clock, of its own.
    return replace(inner, one_clock=False)


class SeveralHosts(Provider):
    """Carries out the shares of a plan. A host that is mentioned in an error is named in it."""

    def __init__(
        self,
        inner: Provider,
        hosts: Sequence[HostPlan],
        gone: Sequence[HostPlan],
        *,
        this_host: bool,
    ) -> None:
        super().__init__(inner.settings, inner.events)
        self.inner = inner
        self.this_host = this_host
        self.connections = {host.name: Connection(host, inner.events) for host in hosts}
        self.gone = [Connection(host, inner.events) for host in gone]
        self._emulator_name = ""
        self._cores: dict[str, int] = {}

    # -- looking ---------------------------------------------------------------------------------

    def survey(self) -> Surveyed:
        """What the hosts have; they are all connected to."""
        if not self.connections:
            return Surveyed()
        connections = list(self.connections.values())
        for_each(lambda each: each.open(), connections)
        _refuse_ipv6(connections)
        facts = for_each(
            lambda each: each.call("facts", {"towards": each.addresses[1]}), connections
        )
        seen = {agent.host_id(): "this host"} if agent.host_id() else {}
        for each, found in zip(connections, facts, strict=True):
            name = f"host {each.host.name}"
            if found["id"] in seen:
                raise NotPossibleHere(
                    f"{name} is the same computer as {seen[found['id']]}", where=each.host.ssh
                )
            if found["id"]:
                seen[found["id"]] = name
        rooms = [
            Room(each.host.name, found["cores"], found["memory"])
            for each, found in zip(connections, facts, strict=True)
        ]
        if self.this_host:
            memory = host_facts()["memory_bytes"]
            rooms.insert(0, Room("", os.cpu_count() or 1, int(memory or 0)))
        self._cores = {room.host: room.cores for room in rooms}
        least = min(
            *(found["mtu"] for found in facts),
            *(agent.mtu_towards(each.addresses[0]) for each in connections),
        )
        mtu = least - overlay.HEADERS
        return Surveyed(
            hosts=tuple(
                replace(each.host, address=each.addresses[0], seen_from=each.addresses[1])
                for each in connections
            ),
            rooms=tuple(rooms),
            mtu=mtu if mtu < LARGEST_PACKET else None,
        )

    def check(self) -> list[Check]:
        """Every prerequisite on every host."""
        found = self.inner.check()
        for name, each in self.connections.items():
            try:
                told = each.call("check", self._arguments())
            except ContinuumError as error:
                found.append(Check(f"host {name}", ok=False, detail=error.message, mend=error.hint))
            else:
                found += [
                    replace(check, name=f"host {name}: {check.name}")
                    for check in (Check(**one) for one in told)
                ]
        return found

    def blocks_in_use(self) -> list[str]:
        """Blocks that any of the hosts uses."""
        return self._blocks(self.inner.blocks_in_use(), None, "")

    def block_user(self, block: str) -> str:
        """As far as this host knows: the others tell their blocks alone."""
        return self.inner.block_user(block)

    def foreign_blocks(self, deployment: Deployment, own: NetworkPlan | None) -> list[str]:
        """The same without the deployment's own."""
        before = execute.stored_plan(deployment) if own is not None else None
        plan = configure.to_json(before) if before else ""
        return self._blocks(self.inner.foreign_blocks(deployment, own), deployment, plan)

    def _blocks(self, here: list[str], deployment: Deployment | None, plan: str) -> list[str]:
        asked = {**self._arguments(deployment), "plan": plan}
        told = for_each(lambda each: each.call("blocks", asked), self.connections.values())
        return sorted({*here, *(block for blocks in told for block in blocks)})

    def refuse(self, deployment: Deployment, plan: InfrastructurePlan) -> None:
        """Raise when a host cannot carry its share, or no emulator can be used on all of them."""
        if plan.network.links and self.may_act():
            plan = self._with_emulator(plan)
        self.inner.refuse(deployment, plan.share(""))
        self._on_hosts("refuse", deployment, plan)

    def image_fingerprint(self, recipe: Recipe) -> str:
        """Of this host's: the image is built here, and brought to the others."""
        return self.inner.image_fingerprint(recipe)

    def image_versions(self, plan: InfrastructurePlan) -> dict[str, str]:
        """Versions of the important parts of the image."""
        return self.inner.image_versions(plan)

    def machines(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Machine]:
        """This host's as the provider reaches them, the others' by SSH."""
        here = {each.name: each for each in self.inner.machines(deployment, plan.share(""))}
        return [
            here[spec.name] if spec.name in here else _elsewhere(deployment, spec)
            for spec in plan.machines
        ]

    def caveats(self, plan: InfrastructurePlan) -> list[str]:
        """Those of every host that carries machines; of one that is gone nothing is known."""

        def there(name: str) -> list[str]:
            if not name:
                return self.inner.caveats(plan.share(""))
            asked = {**self._arguments(), "plan": configure.to_json(plan.share(name))}
            try:
                told = self.connections[name].call("caveats", asked)
            except MachineUnreachable:
                return []
            return [f"host {name}: {each}" for each in told]

        carrying = dict.fromkeys(spec.host for spec in plan.machines)
        told = for_each(there, [each for each in carrying if not each or each in self.connections])
        return [caveat for caveats in told for caveat in caveats]

    def network_missing(self, deployment: Deployment, plan: InfrastructurePlan) -> list[str]:
        """Those of every host that answers; of the others their machines' states tell."""
        here = self.inner.network_missing(deployment, plan.share(""))
        told = self._answers("network_missing", deployment, plan)
        return [*here, *(f"host {name}: {each}" for name, lacks in told.items() for each in lacks)]

    def isolation(self, deployment: Deployment, plan: InfrastructurePlan) -> Mapping[str, str]:
        """Of the machines on all hosts that answer."""
        found = dict(self.inner.isolation(deployment, plan.share("")))
        for told in self._answers("isolation", deployment, plan).values():
            found |= told
        return found

    def host_cores(self) -> Mapping[str, int]:
        """Cores of every host that carries machines."""
        return self._cores

    def consumers(self, deployment: Deployment, plan: InfrastructurePlan) -> Mapping[str, Consumer]:
        """Those of this host's machines."""
        return self.inner.consumers(deployment, plan.share(""))

    def host_watches(self, deployment: Deployment, plan: InfrastructurePlan) -> list[HostWatch]:
        """This host's, and one for each of the others that carries machines, carried out there."""
        carrying = {spec.host for spec in plan.machines}
        here = self.inner.host_watches(deployment, plan.share("")) if "" in carrying else []
        arguments = self._arguments(deployment)
        return [
            *here,
            *(
                OtherHost(each, {**arguments, "plan": configure.to_json(plan.share(name))})
                for name, each in self.connections.items()
                if name in carrying
            ),
        ]

    def answer_delays(self, plan: InfrastructurePlan) -> dict[str, float]:
        """Those of this host's machines; what is added to the others' links is measured as a path."""
        return self.inner.answer_delays(plan)

    def states(self, deployment: Deployment) -> list[MachineState]:
        """Machines on all hosts; those of a host that is gone are `unreachable`."""
        found = self.inner.states(deployment)
        before = execute.stored_plan(deployment)

        def there(connection: Connection) -> list[MachineState]:
            try:
                told = connection.call("states", self._arguments(deployment))
            except MachineUnreachable:
                name = connection.host.name
                return [
                    MachineState(spec.name, "unreachable", "")
                    for spec in (before.machines if before else ())
                    if spec.host == name
                ]
            return [MachineState(**each) for each in told]

        for states in for_each(there, self.connections.values()):
            found += states
        return found

    def emulator_in_use(self, deployment: Deployment, plan: InfrastructurePlan) -> str:
        """The one that all hosts use."""
        del deployment
        return self._with_emulator(plan).network.emulator if plan.network.links else ""

    def may_act(self) -> bool:
        """Whether this process may change this host; on the others an agent is root."""
        return self.inner.may_act()

    def leftovers(self, state_folder: Path) -> list[str]:
        """What is on this host; what is on others only their own labels tell."""
        return self.inner.leftovers(state_folder)

    # -- changing --------------------------------------------------------------------------------

    def build_image(self, recipe: Recipe) -> str:
        """Build the image here, and bring to each host the layers that it lacks."""
        fingerprint = self.inner.build_image(recipe)
        keys = self.inner.image_layers(fingerprint)
        asked = {
            "fingerprint": fingerprint,
            "layers": {key: store.record(key) for key in keys},
            "whole": keys == Provider.image_layers(self.inner, fingerprint),
        }

        def bring(connection: Connection) -> int:
            name = connection.host.name
            with self.events.step(_PHASE, f"image on host {name}", "its layers") as step:

                def give(key: str) -> Iterator[bytes]:
                    title = store.record(key)["title"]
                    sent = 0
                    for part in packed(store.images_folder() / key / "root"):
                        sent += len(part)
                        step.progress(f"{title}: {sent / 1e6:.0f} MB")
                        yield part

                taken: int = connection.call("image", asked, progress=step.progress, give=give)
                step.changed = taken > 0
            return taken

        for_each(bring, self.connections.values())
        return fingerprint

    def leave_former(self, deployment: Deployment) -> None:
        """Remove what the hosts carry that the experiment does not name any more.

        Raises:
            MachineUnreachable: some could not be reached; they are named.
        """
        self._remove_from(self.gone, deployment)

    def create_network(self, deployment: Deployment, plan: InfrastructurePlan) -> bool:
        """The network on all hosts."""
        here = self.inner.create_network(deployment, plan.share(""))
        return any([here, *self._on_hosts("create_network", deployment, plan)])

    def create(
        self, deployment: Deployment, plan: InfrastructurePlan, progress: Callable[[str], None]
    ) -> list[str]:
        """All shares side by side; then wait until SSH answers on the others' machines too."""
        ssh_access.write(deployment, plan.share(""))

        def there(name: str) -> list[str]:
            def tell(detail: str) -> None:
                progress(f"host {name or 'this'}: {detail}")

            if not name:
                return self.inner.create(deployment, plan.share(""), tell)
            asked = {
                **self._arguments(deployment),
                "plan": configure.to_json(plan.share(name)),
                "keys": _keys(deployment, plan.share(name)),
            }
            made: list[str] = self.connections[name].call("create", asked, progress=tell)
            return made

        changed = for_each(there, ("", *self.connections))
        self._await_ssh(deployment, plan, progress)
        if self.capabilities.own_kernels:
            # Their files cannot be written from outside, and only from here are they reached.
            for_each(
                lambda spec: _elsewhere(deployment, spec).put(
                    machine_files.hosts_file(plan.share(spec.host)).encode(), "/etc/hosts"
                ),
                [spec for spec in plan.machines if spec.host],
            )
        return [name for names in changed for name in names]

    def _await_ssh(
        self, deployment: Deployment, plan: InfrastructurePlan, progress: Callable[[str], None]
    ) -> None:
        others = {spec.name: spec for spec in plan.machines if spec.host}

        def stopped(waiting: set[str]) -> set[str]:
            states = {each.name: each.state for each in self.states(deployment)}
            return {name for name in waiting if states.get(name) != "running"}

        silent = ssh_wait.wait_for_banners(
            {name: spec.address for name, spec in others.items()},
            BOOT_LIMIT + (OWN_KERNEL_LIMIT if self.capabilities.own_kernels else 1) * len(others),
            progress=lambda count: progress(f"SSH answers on {count} of {len(others)} elsewhere"),
            give_up=stopped,
        )
        if silent:
            name = min(silent)
            host = others[name].host
            raise TimedOut(
                f"SSH does not answer on {len(silent)} machines of other hosts: "
                f"{', '.join(sorted(silent)[:5])}",
                where=f"machine {name} on host {host}",
                hint=f"UDP port {overlay.port_of(plan.identity)} must be open between the hosts",
            )

    def apply_links(self, deployment: Deployment, plan: InfrastructurePlan) -> bool:
        """Every host's part of the links, without the delay that the paths have by themselves."""
        if plan.network.links:
            plan = self._with_emulator(plan)
            self._measure_paths(deployment, plan)
            for sentence in paths.too_long(plan, self._delays(deployment)):
                self.events.note(sentence, "warning")

        def there(name: str) -> bool:
            share = self._share_of_links(deployment, plan, name)
            if not name or self.capabilities.own_kernels:
                return self.inner.apply_links(deployment, share)
            asked = {**self._arguments(deployment), "plan": configure.to_json(share)}
            return bool(self.connections[name].call("apply_links", asked))

        return any(for_each(there, self._that_carry_links(plan)))

    def links_in_force(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Link]:
        """The links that all hosts enforce as they should; none while a host is gone."""
        try:
            plan = self._with_emulator(plan)
        except MachineUnreachable:
            return []

        def there(name: str) -> set[int]:
            share = self._share_of_links(deployment, plan, name)
            try:
                if not name or self.capabilities.own_kernels:
                    found = self.inner.links_in_force(deployment, share)
                else:
                    asked = {**self._arguments(deployment), "plan": configure.to_json(share)}
                    told = self.connections[name].call("links_in_force", asked)
                    found = list(configure.from_json(told).network.links)
            except MachineUnreachable:
                return set()
            return {place for place, link in enumerate(share.network.links) if link in found}

        everywhere = set.intersection(*for_each(there, self._that_carry_links(plan)))
        return [link for place, link in enumerate(plan.network.links) if place in everywhere]

    def link_windows(
        self, deployment: Deployment, plan: InfrastructurePlan, since_ns: int, until_ns: int
    ) -> list[Window]:
        """The counts of the emulators of all hosts."""
        plan = self._with_emulator(plan)

        def there(name: str) -> list[Window]:
            share = self._share_of_links(deployment, plan, name)
            if not name or self.capabilities.own_kernels:
                return self.inner.link_windows(deployment, share, since_ns, until_ns)
            asked = {
                **self._arguments(deployment),
                "plan": configure.to_json(share),
                "since_ns": since_ns,
                "until_ns": until_ns,
            }
            return [Window(**each) for each in self.connections[name].call("link_windows", asked)]

        found = for_each(there, self._that_carry_links(plan))
        return [window for windows in found for window in windows]

    def link_remark(self, deployment: Deployment, plan: InfrastructurePlan) -> str:
        """The links whose path alone takes longer than they ask for."""
        return "\n".join(paths.too_long(plan, self._delays(deployment)))

    def traffic_obstacles(self, plan: InfrastructurePlan) -> list[str]:
        """Those of this host: the others tell theirs when their network is made."""
        return self.inner.traffic_obstacles(plan)

    def destroy(self, deployment: Deployment) -> None:
        """Remove everything on every host that can be reached.

        Raises:
            MachineUnreachable: some could not; they are named, and the same again finishes.
        """
        failed: list[ContinuumError] = []
        try:
            self._remove_from([*self.connections.values(), *self.gone], deployment)
        except ContinuumError as error:
            failed.append(error)
        self.inner.destroy(deployment)
        if failed:
            raise failed[0]

    def _remove_from(self, connections: Sequence[Connection], deployment: Deployment) -> None:
        def remove(connection: Connection) -> ContinuumError | None:
            try:
                connection.call("destroy", self._arguments(deployment))
            except (MachineUnreachable, StepFailed) as error:
                return error
            return None

        failed = [error for error in for_each(remove, connections) if error is not None]
        if failed:
            gone = [each for each in failed if isinstance(each, MachineUnreachable)]
            first = (gone or failed)[0]
            raise type(first)(
                "\n".join(error.message for error in failed)
                + "; what is on it is still there, all else is removed",
                where=first.where,
                output=first.output,
                hint=f"`continuum down {deployment.name}` finishes when it can be reached; if it "
                f"never will, remove {deployment.folder}",
            )

    def close(self) -> None:
        """End all connections."""
        for connection in (*self.connections.values(), *self.gone):
            connection.close()

    # -- helpers ---------------------------------------------------------------------------------

    def _arguments(self, deployment: Deployment | None = None) -> dict[str, Any]:
        return {
            "provider": self.inner.name,
            "settings": self.settings.model_dump(mode="json"),
            "deployment": deployment.name if deployment else "none",
            "identity": deployment.identity if deployment else "00000000",
        }

    def _answers(
        self, call: str, deployment: Deployment, plan: InfrastructurePlan
    ) -> dict[str, Any]:
        """The answers of those other hosts that carry machines and can be reached, by host."""

        def there(name: str) -> Any:  # noqa: ANN401  JSON
            share = configure.to_json(plan.share(name))
            try:
                asked = {**self._arguments(deployment), "plan": share}
                return self.connections[name].call(call, asked)
            except MachineUnreachable:
                return None

        carrying = {spec.host for spec in plan.machines}
        names = [name for name in self.connections if name in carrying]
        told = zip(names, for_each(there, names), strict=True)
        return {name: answer for name, answer in told if answer is not None}

    def _on_hosts(self, call: str, deployment: Deployment, plan: InfrastructurePlan) -> list[Any]:
        def there(connection: Connection) -> Any:  # noqa: ANN401  JSON
            share = configure.to_json(plan.share(connection.host.name))
            return connection.call(call, {**self._arguments(deployment), "plan": share})

        return for_each(there, self.connections.values())

    def _with_emulator(self, plan: InfrastructurePlan) -> InfrastructurePlan:
        """The plan with the first emulator that all hosts can carry, which all must use."""
        if not self._emulator_name:
            asked = plan.network.emulator
            # The machines' own kernels are those of one image, which has the first.
            own = self.capabilities.own_kernels
            names = order(() if own else plan.network.links) if asked == "auto" else (asked,)
            self._emulator_name = names[0] if own else self._common(names)
        return replace(plan, network=replace(plan.network, emulator=self._emulator_name))

    def _common(self, names: Sequence[str]) -> str:
        here = {name: plugins.load("emulators", name)().probe() for name in names}
        told = for_each(
            lambda each: each.call("emulators", {"names": names}), self.connections.values()
        )
        by_host = {"this": here, **dict(zip(self.connections, told, strict=True))}
        for name in names:
            if all(found[name] is None for found in by_host.values()):
                return name
        raise NotPossibleHere(
            "the hosts cannot emulate links in the same way",
            where=f"hosts {', '.join(by_host)}",
            output="\n".join(
                f"{host}: {name}: {why}"
                for host, found in by_host.items()
                for name, why in found.items()
                if why is not None
            ),
            hint="continuum doctor FILE",
        )

    def _that_carry_links(self, plan: InfrastructurePlan) -> list[str]:
        """Where links are set: on each host, or in the kernels of those machines that it has."""
        names = ("", *self.connections)
        own = self.capabilities.own_kernels
        return [name for name in names if not own or plan.share(name).machines]

    def _share_of_links(
        self, deployment: Deployment, plan: InfrastructurePlan, name: str
    ) -> InfrastructurePlan:
        emulator: type[LinkEmulator] | None = (
            plugins.load("emulators", plan.network.emulator) if plan.network.links else None
        )
        links = (
            paths.on_host(
                plan,
                self._delays(deployment),
                name,
                at_receiver=emulator.delays_at_receiver,
            )
            if emulator
            else ()
        )
        return replace(plan.share(name), network=replace(plan.network, links=links))

    def _delays(self, deployment: Deployment) -> dict[frozenset[str], float]:
        """What was last measured."""
        kept = state_file.kept(deployment.folder / _DELAYS, _DELAYS_KEPT)
        return {frozenset(each.hosts): each.delay_ms for each in kept or ()}

    def _measure_paths(self, deployment: Deployment, plan: InfrastructurePlan) -> None:
        def measure(pair: tuple[str, Any]) -> tuple[frozenset[str], float]:
            source, target = pair
            bridge = plan.network.bridge
            delay = (
                self.connections[source].call(
                    "path_delay", {"bridge": bridge, "address": target.address}
                )
                if source
                else path_delay.one_way_ms(bridge, target.address)
            )
            if delay is None:
                raise StepFailed(
                    f"the path from host {source or 'this'} to host {target.host or 'this'} "
                    "carries no packets",
                    where=f"machine {target.name}, {target.address}",
                    hint=f"UDP port {overlay.port_of(plan.identity)} must be open between them",
                )
            return frozenset((source, target.host)), float(delay)

        now = dict(for_each(measure, paths.between(plan)))
        kept = paths.settled(self._delays(deployment), now)
        written = [
            {"hosts": sorted(pair), "delay_ms": round(delay, 4)} for pair, delay in kept.items()
        ]
        deployment.write(_DELAYS, json.dumps(written, indent=1) + "\n")


class OtherHost:
    """Watches another host, by its agent."""

    def __init__(self, connection: Connection, arguments: Mapping[str, Any]) -> None:
        self._connection = connection
        self._arguments = arguments

    def begin(self) -> None:
        """Have its agent begin."""
        self._connection.call("watch", self._arguments)

    def stalls(self) -> list[Stall]:
        """The stalls so far, by this host's clock."""
        told, ahead = self._ask("stalls")
        return [(begin - ahead, end - ahead, core) for begin, end, core in told["stalls"]]

    def end(self) -> HostShare:
        """The observations of its agent."""
        told, ahead = self._ask("watched")
        return share.from_json(told["share"], ahead)

    def _ask(self, call: str) -> tuple[dict[str, Any], int]:
        """An answer, and by how much that host's clock is ahead of ours: too little by the time that its
        way back took, a millisecond or less.
        """
        told = self._connection.call(call, {})
        after = time.time_ns()
        return told, told["now_ns"] - after


def _elsewhere(deployment: Deployment, spec: MachineSpec) -> SshMachine:
    """The handle of a machine on another host."""
    return SshMachine(spec.name, spec.tier, spec.address, deployment.ssh_config)


def _keys(deployment: Deployment, share: InfrastructurePlan) -> dict[str, str]:
    """Files of keys for a share: the machines' own, and the public half of the deployment's."""
    folder = deployment.folder / "ssh"
    files = {"key": "", "key.pub": (folder / "key.pub").read_text()}
    for spec in share.machines:
        for name in (spec.name, f"{spec.name}.pub"):
            files[f"host_keys/{name}"] = (folder / "host_keys" / name).read_text()
    return files


def packed(root: Path) -> Iterator[bytes]:
    """The files of a layer as a tar, with their owners, modes and attributes."""
    arguments = ("tar", "--create", "--numeric-owner", "--xattrs", "--xattrs-include=*")
    command = Command((*arguments, "--sparse", f"--directory={root}", "."))
    with started_on_host(command) as process:
        assert process.stdout is not None
        while part := process.stdout.read(frames.CHUNK):
            yield part
        if process.wait() != 0:
            assert process.stderr is not None
            raise StepFailed(
                f"layer {root.parent.name} could not be packed",
                where=str(root),
                output=process.stderr.read().decode("utf-8", "replace"),
            )


def _refuse_ipv6(connections: Sequence[Connection]) -> None:
    for each in connections:
        if any(":" in address or not address for address in each.addresses):
            raise NotPossibleHere(
                f"host {each.host.name} is not reached by IPv4, which joins the hosts' networks",
                where=f"SSH from {each.addresses[1] or '?'} to {each.addresses[0] or '?'}",
                hint="name it by its IPv4 address",
            )
