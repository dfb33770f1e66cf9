"""What providers share that make machines on this host, on the deployment's own bridge."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from continuum import folders, plugins
from continuum.deployment import Deployment
from continuum.errors import NotPossibleHere, TimedOut
from continuum.experiment.names import NAME
from continuum.images import store
from continuum.infrastructure.host import (
    bridge,
    joined,
    keys,
    machine_files,
    names,
    network,
    other_filters,
    port_filter,
    routing,
    ssh_access,
    ssh_wait,
)
from continuum.infrastructure.links.contract import Interface, LinkEmulator
from continuum.infrastructure.plan import InfrastructurePlan, MachineSpec, NetworkPlan
from continuum.infrastructure.providers.contract import Provider
from continuum.machine import Command, Result, run_on_host
from continuum.parallel import for_each


class OnThisHost(Provider):
    """Network, addresses and labels on this host; the machines are the provider's own."""

    def blocks_in_use(self) -> list[str]:
        """Blocks of the host's routes, and those that deployments keep over a reboot."""
        return network.blocks()

    def block_user(self, block: str) -> str:
        """A route or an interface of this host, or a deployment that keeps its addresses."""
        return network.block_user(block)

    def foreign_blocks(self, deployment: Deployment, own: NetworkPlan | None) -> list[str]:
        """The same without its own, which the addresses are only while its bridge is there.

        Another network may have taken them since, while the host was down for one.
        """
        its_own = own is not None and (
            joined.holds(deployment) if own.joined else bridge.is_labelled(deployment, own.bridge)
        )
        if own is None or its_own:
            return super().foreign_blocks(deployment, own)
        return network.blocks(but=deployment.name)

    def traffic_obstacles(self, plan: InfrastructurePlan) -> list[str]:
        """Chains of this host's own packet filters."""
        drops = other_filters.found(plan.network.bridge, internet=plan.network.internet)
        return [f"{each}; this lets them through: {each.mend}" for each in drops]

    def _tell_obstacles(self, plan: InfrastructurePlan) -> None:
        """Say what of this host stands between machines, or between them and other networks."""
        obstacles = self.traffic_obstacles(plan)
        if plan.network.internet and not plan.host:
            obstacles += routing.obstacles()
        for each in obstacles:
            self.events.note(each, "warning")

    def network_missing(self, deployment: Deployment, plan: InfrastructurePlan) -> list[str]:
        """Bridge and rules."""
        return network.missing(deployment, plan)

    def destroy(self, deployment: Deployment) -> None:
        """Remove everything that carries the deployment's labels."""
        for name in plugins.names("emulators"):
            emulator: LinkEmulator = plugins.load("emulators", name)()
            emulator.remove(deployment)
        ssh_access.close(deployment)
        self._destroy_machines(deployment)
        network.remove(deployment)
        store.remove(names.machines_folder(deployment))
        store.remove(deployment.folder / "ssh")
        folders.remove_tree(deployment.ssh_config)

    @abstractmethod
    def _destroy_machines(self, deployment: Deployment) -> None:
        """Remove the deployment's machines, and all that they have outside of its folder."""

    def leftovers(self, state_folder: Path) -> list[str]:
        """Deployments that have a bridge, a machine, or a machine's folder here."""
        found = {*bridge.deployments(state_folder), *self._with_machines(state_folder)}
        found.update(path.parent.parent.name for path in state_folder.glob("*/machines/ctm-*"))
        # Anybody on the host can give a process a title; down, folders are removed by these names.
        return sorted(name for name in found if NAME.fullmatch(name))

    @abstractmethod
    def _with_machines(self, state_folder: Path) -> Iterable[str]:
        """Names of deployments of that folder that machines here are labelled with."""


def need_root() -> None:
    """Raise unless we are root.

    Raises:
        NotPossibleHere: we are not.
    """
    if os.geteuid() != 0:
        raise NotPossibleHere("machines need root", hint="run the same command with sudo")


def start_all(
    specs: Sequence[MachineSpec],
    start: Callable[[MachineSpec], None],
    progress: Callable[[str], None],
    *,
    threads: int,
) -> None:
    """Start machines side by side, and tell how many are."""
    counting = threading.Lock()
    started = 0

    def one(spec: MachineSpec) -> None:
        nonlocal started
        start(spec)
        with counting:
            started += 1
            progress(f"{started} of {len(specs)} machines started")

    for_each(one, specs, threads=threads)


def own_files(
    deployment: Deployment, plan: InfrastructurePlan, spec: MachineSpec, resolver: str
) -> Mapping[str, tuple[bytes, int]]:
    """What is put into a machine before its first boot, its keys made: (content, mode) by path."""
    ssh = deployment.folder / "ssh"
    host_key = keys.ensure(ssh / "host_keys" / spec.name)
    return machine_files.files(plan, spec, host_key, keys.ensure(ssh / "key").public, resolver)


def put_back(plan: InfrastructurePlan, up: set[str]) -> dict[str, Result]:
    """Put running machines back on a bridge that was made again; what failed, by machine."""
    ports = Path("/sys/class/net", plan.network.bridge, "brif")
    failed = {}
    for spec in plan.machines:
        port = names.interface_name(plan.network, spec, plan.identity)
        if spec.name not in up or (ports / port).exists():
            continue
        result = run_on_host(Command(("ip", "link", "set", port, "master", plan.network.bridge)))
        if result.exit_code != 0:
            failed[spec.name] = result
    return failed


def ports(plan: InfrastructurePlan) -> dict[str, MachineSpec]:
    """The plan's machines by the names of their ports on the bridge."""
    return {names.interface_name(plan.network, spec, plan.identity): spec for spec in plan.machines}


def close_ports(plan: InfrastructurePlan) -> None:
    """Let pass nothing between machines that links cannot speak of; all, where there are none."""
    if plan.network.links:
        port_filter.ensure(ports(plan), plan.network)
    else:
        port_filter.remove(list(ports(plan)))


def behind_closed_ports(
    plan: InfrastructurePlan, interfaces: Sequence[Interface]
) -> list[Interface]:
    """Those whose ports are closed: what other machines carry is no link as it was asked for."""
    shut = port_filter.closed(ports(plan), plan.network)
    machines = {spec.name for port, spec in ports(plan).items() if port in shut}
    return [each for each in interfaces if each.machine.name in machines]


def await_ssh(
    plan: InfrastructurePlan,
    limit: float,
    progress: Callable[[str], None],
    *,
    ended: Callable[[set[str]], set[str]],
    about: Callable[[str], tuple[str, str]],
) -> None:
    """Wait until SSH answers on all machines of the plan.

    Args:
        plan: of the machines.
        limit: seconds.
        progress: told how many answer.
        ended: which of some machines do not run any more.
        about: of a machine: what it is and whether it runs, and its last words.

    Raises:
        TimedOut: it does not on some; with what is known about the first one.
    """
    silent = ssh_wait.wait_for_banners(
        {spec.name: spec.address for spec in plan.machines},
        limit,
        progress=lambda count: progress(f"SSH answers on {count} of {len(plan.machines)}"),
        give_up=ended,
    )
    if silent:
        first = min(silent)
        state, last_words = about(first)
        raise TimedOut(
            f"SSH does not answer on {', '.join(sorted(silent)[:10])} ({len(silent)} of "
            f"{len(plan.machines)} machines; limit {limit:g} s)",
            where=f"{first}: {state}",
            output=last_words,
            hint="`continuum up` tries again; `continuum doctor` checks the host",
        )
