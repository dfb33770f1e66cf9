"""Provider `ssh`: machines that exist already. Nothing of them is created or destroyed.

On a machine everything of a deployment can be told by one file, which names it; on this host the
deployment's folder keeps which machines it has been on, so that `down` finds them all.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pydantic import TypeAdapter

from continuum import folders, state_file
from continuum.deployment import Deployment
from continuum.errors import ContinuumError, MachineUnreachable, NotPossibleHere, UsageError
from continuum.events import Events
from continuum.experiment.model import Experiment
from continuum.experiment.names import NAME
from continuum.experiment.units import show_bytes
from continuum.images.recipe import Recipe
from continuum.infrastructure.host import ssh_master
from continuum.infrastructure.links.contract import Interface, LinkEmulator, Window
from continuum.infrastructure.plan import Existing, InfrastructurePlan, Link, MachineSpec
from continuum.infrastructure.providers.contract import (
    Capabilities,
    Check,
    MachineState,
    PluginSettings,
    Provider,
)
from continuum.infrastructure.providers.ssh import connection, install, look, remote
from continuum.infrastructure.providers.ssh.connection import Entry
from continuum.infrastructure.providers.ssh.look import Seen, Unfit
from continuum.infrastructure.providers.ssh.settings import SshSettings
from continuum.infrastructure.ssh_machine import SshMachine
from continuum.machine import Command, Machine
from continuum.parallel import for_each

_MACHINES = "machines/ssh.json"
"""In a deployment's folder: the machines that it has been on, and has not been taken off."""

_KNOWN_HOSTS = "ssh/known_hosts"
_ROUNDING = 64 * 2**20
_NOWHERE = "0.0.0.0"  # noqa: S104  no address that anybody has; nothing listens


@dataclass(frozen=True)
class _Used(Entry):
    """A machine that a deployment has been on."""

    sudo: bool = field(default=False)


_USED = TypeAdapter(tuple[_Used, ...])


class Ssh(Provider):
    """Machines that exist already, as cloud instances, or nodes of a testbed."""

    name: ClassVar[str] = "ssh"
    settings_type: ClassVar[type[PluginSettings]] = SshSettings
    capabilities: ClassVar[Capabilities] = Capabilities(
        one_clock=False,
        own_kernels=True,
        keeps_time=True,
        quota_covers="machine",
        disk_limits="no machine: they have what they have",
        needs_root=False,
    )
    programs: ClassVar[Mapping[str, str]] = {"ssh": "openssh-client", "setpriv": "util-linux"}

    def __init__(self, settings: PluginSettings, events: Events) -> None:
        super().__init__(settings, events)
        assert isinstance(settings, SshSettings)
        self._settings = settings
        self._recipe: Recipe | None = None
        self._seen: dict[str, Seen] = {}
        self._emulators: dict[str, LinkEmulator] = {}

    def check(self) -> list[Check]:
        """Programs of this host; machines are looked at by `plan`."""
        return [
            Check(
                f"program {program}",
                ok=shutil.which(program) is not None,
                detail=shutil.which(program) or "not found",
                mend=f"apt-get install -y {package}",
            )
            for program, package in self.programs.items()
        ]

    def blocks_in_use(self) -> list[str]:
        """None: machines have their addresses already."""
        return []

    # -- looking ----------------------------------------------------------------------------------

    def existing(self, deployment: Deployment, experiment: Experiment) -> Existing | None:
        """Look at all machines at once, and say what they are.

        Raises:
            MachineUnreachable: some cannot be reached; names all of them.
            NotPossibleHere: some will not do; says why, of all of them.
        """
        _refuse_what_is_not_carried(experiment)
        entries = self._entries(experiment)
        self._look(deployment, entries)
        seen = {entry.name: self._seen[entry.target] for entry in entries}
        _refuse_the_same_twice(seen)
        return Existing(
            {
                name: _specification(name, tier, seen[name])
                for tier in experiment.tiers
                for name in experiment.machine_names(tier)
            },
            _host_address(seen.values()),
        )

    def _look(self, deployment: Deployment, entries: Sequence[Entry]) -> None:
        """See what machines are, all at once; raises for all that will not do."""
        with self._reached(deployment, entries) as machines:
            answers = look.look(machines)
        judged = {
            entry.target: look.judge(answer, entry, self._settings, deployment.identity)
            for answer, entry in zip(answers, entries, strict=True)
        }
        look.refuse([each for each in judged.values() if isinstance(each, Unfit)])
        self._seen |= {target: each for target, each in judged.items() if isinstance(each, Seen)}

    def remarks(self, experiment: Experiment, plan: InfrastructurePlan) -> list[str]:
        """What tiers ask for and machines have another amount of; addresses that are not used."""
        asked = [
            f"{spec.name} has {spec.cores} cores and {show_bytes(spec.memory)}"
            for spec in plan.machines
            if (tier := experiment.tiers[spec.tier])
            and (spec.cores, tier.quota) != (tier.cores, 1.0)
        ]
        found = [
            "cores, quota, memory and disk rates of tiers are not enforced on machines that exist"
            + (f": {'; '.join(asked[:5])}" if asked else "")
            + (f"; and {len(asked) - 5} more" if len(asked) > 5 else "")
        ]
        if experiment.infrastructure.address_block is not None:
            found.append("infrastructure.address_block is not used: machines have addresses")
        addresses = {spec.address: spec.name for spec in plan.machines}
        found += [
            f"SSH reaches {addresses[seen.address]} by way of {addresses[seen.client]}: what links "
            "do to traffic between the two, they do to our own too"
            for seen in self._seen.values()
            if seen.client in addresses and seen.address in addresses
        ]
        return found

    def caveats(self, plan: InfrastructurePlan) -> list[str]:
        """Traffic that links cannot hold back: there is no port of ours in front of a machine."""
        if not plan.network.links:
            return []
        remark = (
            "links hold for IPv4 between the addresses of the machines, and for multicast; what they "
            "say by IPv6 or other addresses of theirs is under no link"
        )
        return [remark]

    def image_fingerprint(self, recipe: Recipe) -> str:
        """What the recipe's steps leave on a machine.

        Raises:
            NotPossibleHere: it has container images, which are not brought to machines that run.
        """
        if recipe.container_images:
            raise NotPossibleHere(
                "machines that exist do not get container images in this version",
                hint='software.execution_model = "process", or another provider',
            )
        return install.fingerprint_of(recipe)

    def build_image(self, recipe: Recipe) -> str:
        """Nothing is built before a machine needs it."""
        self._recipe = recipe
        return self.image_fingerprint(recipe)

    def image_versions(self, plan: InfrastructurePlan) -> dict[str, str]:
        """Python's version on each machine, as far as it was looked at."""
        return {
            f"python ({entry.name})": self._seen[entry.target].python
            for entry in self._entries_of(plan)
            if entry.target in self._seen
        }

    # -- making -----------------------------------------------------------------------------------

    def create_network(self, deployment: Deployment, plan: InfrastructurePlan) -> bool:
        """Write down how SSH reaches the machines; their network is there."""
        entries = self._entries_of(plan)
        control = connection.control_folder(deployment.identity)
        known_hosts = deployment.folder.absolute() / _KNOWN_HOSTS
        folders.make_folder(known_hosts.parent, folders.PRIVATE_FOLDER)
        text = connection.configuration(
            entries, self._settings, known_hosts=known_hosts, control=control
        )
        same = state_file.read_text(deployment.ssh_config) == text
        if not same:
            # Connections of before may lead to other machines of the same name.
            self._close_connections(deployment)
            deployment.write("ssh_config", text)
        if control is not None:
            folders.make_open_folder(control.parent)
            control.mkdir(mode=folders.PRIVATE_FOLDER, exist_ok=True)
            folders.give_to_caller(control)
        return not same

    def create(
        self, deployment: Deployment, plan: InfrastructurePlan, progress: Callable[[str], None]
    ) -> list[str]:
        """Take machines into use, install what they lack, and leave those that went."""
        assert self._recipe is not None, "`build_image` comes before `create`"
        used = _read(deployment)
        entries = {entry.name: entry for entry in self._entries_of(plan)}
        targets = {entry.target for entry in entries.values()}
        surplus = [each for each in used if each.target not in targets]
        sudo = {spec.name: spec.login != "root" for spec in plan.machines}
        # Written down before anything is done there, so that `down` finds it.
        kept = [_Used(entry.name, entry.target, sudo[entry.name]) for entry in entries.values()]
        _write(deployment, [*surplus, *kept])
        if surplus:
            progress(f"leaving {len(surplus)} machines")
            self._release(deployment, surplus, kept)
        installer = install.Installer(
            self._recipe, deployment.name, deployment.identity, self.events, _names(plan)
        )
        handles = {machine.name: machine for machine in self.machines(deployment, plan)}
        self._look(deployment, [each for each in entries.values() if each.target not in self._seen])
        todo = [
            entry for entry in entries.values() if not installer.is_whole(self._seen[entry.target])
        ]
        if todo:
            installer.prepare()
        counting = threading.Lock()
        done = 0

        def bring(entry: Entry) -> bool:
            nonlocal done
            changed = installer.install(handles[entry.name], self._seen[entry.target], progress)
            with counting:
                done += 1
                progress(f"{done} of {len(todo)} machines have their software")
            return changed

        changed = for_each(bring, todo)
        brought = [entry.name for entry, each in zip(todo, changed, strict=True) if each]
        return list(dict.fromkeys([*(each.name for each in surplus), *brought]))

    def machines(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Machine]:
        """Handles of the plan's machines."""
        return [
            SshMachine(
                spec.name,
                spec.tier,
                spec.address,
                deployment.ssh_config,
                sudo=spec.login != "root",
            )
            for spec in plan.machines
        ]

    def states(self, deployment: Deployment) -> list[MachineState]:
        """The machines that the deployment has been on, as they are now."""
        used = _read(deployment)
        with self._reached(deployment, used) as machines:

            def state(pair: tuple[SshMachine, _Used]) -> MachineState | None:
                machine, each = pair
                if each.target in self._seen:
                    record = self._seen[each.target].record
                else:
                    try:
                        said = remote.ask(machine, "probe", timeout=look.LIMIT)
                    except ContinuumError:
                        return MachineState(each.name, "stopped", "")
                    record = json.loads(said.stdout or b"{}").get("record")
                if record is None or record["identity"] != deployment.identity:
                    return None
                return MachineState(each.name, "running", record.get("fingerprint", ""))

            found = for_each(state, list(zip(machines, used, strict=True)), threads=64)
        return [each for each in found if each is not None]

    # -- links ------------------------------------------------------------------------------------

    def apply_links(self, deployment: Deployment, plan: InfrastructurePlan) -> bool:
        """Put exactly the plan's links in force, and TCP's settings."""
        from continuum.infrastructure.links import namespaces  # noqa: PLC0415  slow to import

        interfaces = self._interfaces(deployment, plan)
        for_each(lambda each: namespaces.tune(each, plan.network.tcp), interfaces)
        if plan.network.links:
            return self._emulator(deployment, plan).apply(deployment, plan, interfaces)
        from continuum.infrastructure.links.netem import Netem  # noqa: PLC0415  slow to import

        # Without links there is nothing to try; either emulator takes off what was there.
        return Netem().apply(deployment, plan, interfaces) if self._had_links(interfaces) else False

    def links_in_force(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Link]:
        """Read back the links that are in force on the machines that answer."""
        try:
            interfaces = self._interfaces(deployment, plan)
            return self._emulator(deployment, plan).in_force(deployment, plan, interfaces)
        except MachineUnreachable:
            return []

    def link_windows(
        self, deployment: Deployment, plan: InfrastructurePlan, since_ns: int, until_ns: int
    ) -> list[Window]:
        """From the emulators in the machines."""
        interfaces = self._interfaces(deployment, plan)
        emulator = self._emulator(deployment, plan)
        return emulator.windows(deployment, plan, interfaces, since_ns, until_ns)

    def emulator_in_use(self, deployment: Deployment, plan: InfrastructurePlan) -> str:
        """Name of what enforces the links, also where the plan leaves it open."""
        return self._emulator(deployment, plan).name if plan.network.links else ""

    def _emulator(self, deployment: Deployment, plan: InfrastructurePlan) -> LinkEmulator:
        """What carries the plan's links on all machines; their kernels are tried once."""
        from continuum.infrastructure.links.choose import (  # noqa: PLC0415  slow to import
            choose_for_all,
        )

        name = plan.network.emulator
        if name not in self._emulators:
            machines = self.machines(deployment, plan)
            self._emulators[name] = choose_for_all(name, {each.name: each.run for each in machines})
        return self._emulators[name]

    def _interfaces(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Interface]:
        """The machines' interfaces, by the addresses that the plan has for them."""
        specs = {spec.name: spec for spec in plan.machines}

        def interface(machine: Machine) -> Interface:
            shown = machine.run(Command(("ip", "-json", "-4", "address", "show"))).check()
            for each in json.loads(shown.text or "[]"):
                if any(known.get("local") == machine.address for known in each["addr_info"]):
                    spec = specs[machine.name]
                    return Interface(spec, device=each["ifname"], inside=machine)
            raise MachineUnreachable(
                f"machine {machine.name} does not have the address {machine.address} any more",
                where=machine.name,
                hint="`continuum up` goes by the address that it has now",
            )

        return for_each(interface, self.machines(deployment, plan))

    def _had_links(self, interfaces: Sequence[Interface]) -> bool:
        from continuum.infrastructure.links import namespaces  # noqa: PLC0415  slow to import

        def has(each: Interface) -> bool:
            return namespaces.read_shaping(each).classes is not None or (
                namespaces.read_rules(each) is not None
            )

        return any(for_each(has, interfaces))

    # -- removing ---------------------------------------------------------------------------------

    def destroy(self, deployment: Deployment) -> None:
        """Take everything of the deployment off its machines.

        Raises:
            MachineUnreachable: some cannot be reached; the others are left as they were before,
                and these are tried again by the next call.
        """
        self._close_connections(deployment)
        used = _read(deployment)
        if used:
            self._release(deployment, used, [])
        for path in (deployment.folder / _MACHINES, deployment.ssh_config):
            path.unlink(missing_ok=True)
        folders.remove_tree(deployment.folder / "ssh")

    def _release(
        self, deployment: Deployment, doomed: Sequence[_Used], kept: Sequence[_Used]
    ) -> None:
        """Leave machines; those that could not be left stay written down, beside the kept ones."""
        # Not only of the targets that go: one machine may have been known by two.
        self._seen.clear()
        with self._reached(deployment, doomed) as machines:

            def release(pair: tuple[SshMachine, _Used]) -> ContinuumError | None:
                machine, each = pair
                machine.sudo = each.sudo
                options = {"identity": deployment.identity}
                try:
                    result = remote.ask(machine, "release", options, timeout=300)
                    if result.exit_code != remote.TAKEN:
                        result.check(f"machine {machine.name} could not be left as it was")
                except ContinuumError as error:
                    return error
                return None

            errors = for_each(release, list(zip(machines, doomed, strict=True)))
        failed = [
            (each, error) for each, error in zip(doomed, errors, strict=True) if error is not None
        ]
        _write(deployment, [*(each for each, _ in failed), *kept])
        if failed:
            first = failed[0][1]
            raise type(first)(
                "\n".join(
                    f"{each.name} ({each.target}): {error.message}" for each, error in failed
                ),
                where=first.where,
                output=first.output,
                hint=f"`continuum down {deployment.name}` again, once they answer; for machines "
                f"that are gone for good, remove the folder {deployment.folder}",
            )

    def leftovers(self, state_folder: Path) -> list[str]:
        """Deployments that are written down to be on machines."""
        found = {path.parent.parent.name for path in state_folder.glob(f"*/{_MACHINES}")}
        return sorted(name for name in found if NAME.fullmatch(name))

    # -- ways -------------------------------------------------------------------------------------

    def _entries(self, experiment: Experiment) -> list[Entry]:
        """Every machine of the experiment with what the user calls it."""
        if not self._settings.machines:
            raise UsageError(
                'provider "ssh" has not been told any machines',
                where="infrastructure.ssh.machines",
                hint='[infrastructure.ssh] machines = { edge = ["user@host"] } and so on',
            )
        return [
            Entry(name, target)
            for tier in experiment.tiers
            for name, target in zip(
                experiment.machine_names(tier), self._settings.machines.get(tier, ()), strict=True
            )
        ]

    def _entries_of(self, plan: InfrastructurePlan) -> list[Entry]:
        found = []
        for spec in plan.machines:
            number = int(spec.name.rpartition("-")[2])
            found.append(Entry(spec.name, self._settings.machines[spec.tier][number - 1]))
        return found

    @contextmanager
    def _reached(
        self, deployment: Deployment, entries: Sequence[Entry]
    ) -> Iterator[list[SshMachine]]:
        """Handles of machines for a moment; nothing of them is kept, nor of a connection.

        Commands run as who logs in, unless a handle is told otherwise.
        """
        with tempfile.TemporaryDirectory(prefix="continuum-ssh-") as folder:
            known_hosts = deployment.folder.absolute() / _KNOWN_HOSTS
            if not known_hosts.parent.is_dir():
                known_hosts = Path(folder, "known_hosts")
            config = Path(folder, "config")
            text = connection.configuration(entries, self._settings, known_hosts=known_hosts)
            config.write_text(text)
            yield [SshMachine(entry.name, "", "", config) for entry in entries]

    def _close_connections(self, deployment: Deployment) -> None:
        """End the master connections of SSH, which live on for a minute after their last use."""
        folder = connection.control_folder(deployment.identity)
        if folder is not None and folder.is_dir():
            ssh_master.close_all(folder)


def _refuse_what_is_not_carried(experiment: Experiment) -> None:
    if experiment.carries_containers:
        raise NotPossibleHere(
            "machines that exist carry no containers in this version: "
            f'manager "{experiment.software.manager}", execution model '
            f'"{experiment.software.execution_model}"'
            if experiment.software
            else "machines that exist carry no containers in this version",
            hint='manager = "none" and execution_model = "process", or another provider',
        )
    if experiment.infrastructure.cpu_pin:
        raise NotPossibleHere(
            "cores of machines that exist cannot be pinned",
            where="infrastructure.cpu_pin",
            hint="--set infrastructure.cpu_pin=false",
        )


def _refuse_the_same_twice(seen: Mapping[str, Seen]) -> None:
    counted = Counter(each.address for each in seen.values())
    for address, count in counted.items():
        if count > 1:
            names = ", ".join(name for name, each in seen.items() if each.address == address)
            raise NotPossibleHere(
                f"{names} have the same address {address} on their own interfaces",
                where="infrastructure.ssh.machines",
                hint="are they one machine? Machines behind one forwarding host cannot be told "
                "apart by the addresses that they see",
            )


def _specification(name: str, tier: str, seen: Seen) -> MachineSpec:
    return MachineSpec(
        name=name,
        tier=tier,
        address=seen.address,
        mac="",
        cores=seen.cores,
        quota=1.0,
        memory=max(seen.memory // _ROUNDING, 1) * _ROUNDING,
        login=seen.login,
    )


def _host_address(seen: Iterable[Seen]) -> str:
    """From where most machines see this host; traffic with it is under no link.

    Where SSH comes by way of one of the machines, that machine's address is not this host's.
    """
    everyone = list(seen)
    addresses = {each.address for each in everyone}
    counted = Counter(each.client for each in everyone if each.client not in addresses)
    return counted.most_common(1)[0][0] if counted else _NOWHERE


def _names(plan: InfrastructurePlan) -> str:
    """Lines for the machines' tables of names."""
    return "".join(f"{spec.address} {spec.name}\n" for spec in plan.machines)


def _read(deployment: Deployment) -> list[_Used]:
    kept = state_file.read_json(deployment.folder / _MACHINES, _USED)
    return list(state_file.undamaged(kept) or ())


def _write(deployment: Deployment, used: Sequence[_Used]) -> None:
    content = [vars(each) for each in used]
    deployment.write(_MACHINES, json.dumps(content, indent=1) + "\n")
