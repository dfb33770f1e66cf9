"""Provider `libvirt`: machines as virtual machines of QEMU, with a kernel of their own."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from continuum import folders, state_file
from continuum.deployment import Deployment
from continuum.errors import MachineUnreachable, NotPossibleHere, StepFailed
from continuum.events import Events
from continuum.images import build, store
from continuum.images.recipe import Recipe
from continuum.infrastructure.host import (
    cgroups,
    machine_files,
    names,
    network,
    path_delay,
    routing,
    ssh_access,
    ssh_config,
)
from continuum.infrastructure.host.console import last_lines
from continuum.infrastructure.host.processor import Consumer
from continuum.infrastructure.links import namespaces
from continuum.infrastructure.links.contract import Interface, LinkEmulator, Window
from continuum.infrastructure.plan import InfrastructurePlan, Link, MachineSpec
from continuum.infrastructure.providers import on_this_host
from continuum.infrastructure.providers.contract import (
    Capabilities,
    Check,
    MachineState,
    PluginSettings,
    PythonModule,
)
from continuum.infrastructure.providers.libvirt import daemon, disk, fit, kvm, platforms, seed
from continuum.infrastructure.providers.libvirt.domain import (
    Boot,
    Domain,
    Host,
    Label,
    domain_xml,
    spec_fingerprint,
)
from continuum.infrastructure.providers.on_this_host import OnThisHost
from continuum.infrastructure.ssh_machine import SshMachine
from continuum.machine import Machine
from continuum.parallel import for_each

IDLE = 0.02
"""Seconds after which a machine counts as idle."""

BOOT_LIMIT = 90.0
"""Seconds from the start of the last machine until SSH must answer on all."""

BOOT_SECONDS = {True: 3.0, False: 60.0}
"""Seconds more for each machine on each core of the host, with KVM and without."""

_EMULATED = (
    "software emulation: this host cannot run virtual machines by KVM ({}); times of what machines "
    "compute, as inference times, are not the hardware's"
)
_LOGS = Path("/var/log/libvirt/qemu")
_NUMBERS = Path("/run/libvirt/qemu")
"""The folder in which libvirt keeps the number of each virtual machine's process."""


class Libvirt(OnThisHost):
    """Virtual machines on this host. Each carries a label in its metadata."""

    name: ClassVar[str] = "libvirt"
    capabilities: ClassVar[Capabilities] = Capabilities(
        one_clock=False,
        own_kernels=True,
        quota_covers="core",
        disk_limits="all reads and writes of the virtual disk",
        needs_root=True,
        several_hosts=True,
        limits=frozenset({"cores", "memory", "disk"}),
    )
    programs: ClassVar[Mapping[str, str]] = platforms.programs()
    modules: ClassVar[Mapping[str, PythonModule]] = {
        daemon.MODULE: PythonModule(
            requirement="libvirt-python>=9",
            programs={"gcc": "gcc", "pkg-config": "pkg-config", "python3-config": "python3-dev"},
            libraries={"libvirt": "libvirt-dev"},
            package="python3-libvirt",
        )
    }

    def __init__(self, settings: PluginSettings, events: Events) -> None:
        super().__init__(settings, events)
        self._emulators: dict[str, LinkEmulator] = {}

    def check(self) -> list[Check]:
        """Try every prerequisite on this host."""
        from continuum.infrastructure.providers.libvirt import (  # noqa: PLC0415  only `doctor` needs it
            checks,
        )

        return checks.all_checks()

    def refuse(self, deployment: Deployment, plan: InfrastructurePlan) -> None:
        """Raise when this host cannot carry the plan."""
        ssh_config.refuse(deployment.folder)
        platforms.here()
        fit.refuse(plan, fit.memory_of_host())

    def caveats(self, plan: InfrastructurePlan) -> list[str]:
        """Whether guests are emulated, which makes what they compute slower than hardware is."""
        del plan
        found = kvm.known()
        if found.works:
            return []
        if found.works is None:
            return [f"whether this host can run virtual machines by KVM: {found.reason}"]
        return [_EMULATED.format(found.reason)]

    def image_fingerprint(self, recipe: Recipe) -> str:
        """The fingerprint that `build_image` returns here; builds nothing."""
        return build.fingerprint_of(platforms.with_kernel(recipe))

    def build_image(self, recipe: Recipe) -> str:
        """Build the layers and the disk that are missing; find out whether KVM works."""
        image = build.build(platforms.with_kernel(recipe), self.events).fingerprint
        disk.build(image, self.events)
        self._try_kvm(image)
        return image

    def image_layers(self, image: str) -> list[str]:
        """The disk, made of all of the image's layers."""
        return [disk.key(image)]

    def _try_kvm(self, image: str) -> None:
        if kvm.known().works is None:
            found = kvm.find_out(platforms.here(), *disk.trial(image))
            if not found.works:
                self.events.note(_EMULATED.format(found.reason))

    def image_versions(self, plan: InfrastructurePlan) -> dict[str, str]:
        """Versions of libvirt and QEMU, of the machines' kernel, and what the image holds."""
        platform = platforms.here()
        with daemon.connection() as opened:
            libvirt, qemu = opened.getLibVersion(), opened.getVersion()
        return {
            "libvirt": daemon.version(libvirt),
            platform.emulator: daemon.version(qemu),
            "kernel (in machines)": disk.kernel_version(plan.image),
            "virtual machines run by": "KVM" if kvm.known().works else "software emulation (TCG)",
            **store.versions(plan.image),
        }

    def create_network(self, deployment: Deployment, plan: InfrastructurePlan) -> bool:
        """Make the bridge and the rules that close it; True when changed."""
        on_this_host.need_root()
        self.refuse(deployment, plan)
        folders.make_folder(names.machines_folder(deployment), folders.PRIVATE_FOLDER)
        changed = network.ensure(deployment, plan)
        self._tell_obstacles(plan)
        return changed

    def create(
        self, deployment: Deployment, plan: InfrastructurePlan, progress: Callable[[str], None]
    ) -> list[str]:
        """Make, replace, start and remove machines until they are the plan's."""
        on_this_host.need_root()
        self.refuse(deployment, plan)
        self._try_kvm(plan.image)
        folder = names.machines_folder(deployment)
        with store.telling_disk_full(folder, "XDG_STATE_HOME"), daemon.connection() as opened:
            return self._create(opened, deployment, plan, progress)

    def _create(
        self,
        opened: daemon.Connection,
        deployment: Deployment,
        plan: InfrastructurePlan,
        progress: Callable[[str], None],
    ) -> list[str]:
        boot = disk.find(plan.image)
        folder = names.machines_folder(deployment)
        inode = boot.disk.stat().st_ino
        wanted = {spec.name: spec_fingerprint(plan, spec, inode) for spec in plan.machines}
        there = {state.name: state for state in _states(opened, deployment)}
        surplus = [name for name in there if wanted.get(name) != there[name].fingerprint]
        if surplus:
            progress(f"removing {len(surplus)} machines")
            _remove_machines(opened, deployment, surplus)
        up = {name for name, each in there.items() if each.state == "running"} - {*surplus}
        for name, result in on_this_host.put_back(plan, up).items():
            result.check(f"{name} cannot be put back on its bridge")
        to_start = [spec for spec in plan.machines if spec.name not in up]
        if not plan.host:
            ssh_access.write(deployment, plan)
            _tell_names(deployment, plan, up)
        host = _host(opened)
        resolver = routing.resolver() if plan.network.internet else ""

        def start(spec: MachineSpec) -> None:
            domain = Domain.of(spec.name, folder, plan.identity)
            _prepare(deployment, plan, spec, boot, resolver)
            label = Label(
                deployment.name,
                str(deployment.root.absolute()),
                plan.identity,
                spec.name,
                wanted[spec.name],
            )
            _start(
                opened, domain, domain_xml(plan, spec, domain, label=label, boot=boot, host=host)
            )

        threads = max(1, (os.cpu_count() or 1) // 2)
        on_this_host.start_all(to_start, start, progress, threads=threads)
        on_this_host.close_ports(plan)
        if not plan.host:
            # A share's machines are reached only from where the deployment was begun.
            _await_ssh(opened, plan, folder, progress, accelerated=host.accelerated)
            # Before there are pods, which may have only what their machine has.
            for_each(
                lambda each: namespaces.tune(each, plan.network.tcp),
                self._interfaces(deployment, plan),
            )
        return list(dict.fromkeys([*surplus, *(spec.name for spec in to_start)]))

    def machines(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Machine]:
        """Handles of the plan's machines."""
        return [_handle(deployment, spec) for spec in plan.machines]

    def states(self, deployment: Deployment) -> list[MachineState]:
        """What is on this host under the deployment's labels."""
        with daemon.looking() as opened:
            return _states(opened, deployment)

    def apply_links(self, deployment: Deployment, plan: InfrastructurePlan) -> bool:
        """Put exactly the plan's links in force, and TCP's settings, by the machines' own kernels."""
        interfaces = self._interfaces(deployment, plan)
        for_each(lambda each: namespaces.tune(each, plan.network.tcp), interfaces)
        try:
            emulator = self._emulator(plan, interfaces)
        except NotPossibleHere:
            if plan.network.links:
                raise
            return False  # Where links cannot be emulated there are none to take off.
        return emulator.apply(deployment, plan, interfaces)

    def links_in_force(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Link]:
        """Read back the links that are in force now; none while a machine does not answer."""
        interfaces = self._interfaces(deployment, plan)
        if not plan.host:
            # Those of another host's share are behind ports there.
            interfaces = on_this_host.behind_closed_ports(plan, interfaces)
        if not interfaces:
            return []
        try:
            return self._emulator(plan, interfaces).in_force(deployment, plan, interfaces)
        except MachineUnreachable:
            return []

    def link_windows(
        self, deployment: Deployment, plan: InfrastructurePlan, since_ns: int, until_ns: int
    ) -> list[Window]:
        """From the emulators in the machines."""
        interfaces = self._interfaces(deployment, plan)
        if not interfaces:
            return []
        emulator = self._emulator(plan, interfaces)
        return emulator.windows(deployment, plan, interfaces, since_ns, until_ns)

    def answer_delays(self, plan: InfrastructurePlan) -> dict[str, float]:
        """Measured by ARP: far apart, since a machine that is at it answers sooner."""
        specs = [spec for spec in plan.machines if not spec.host]
        found = for_each(
            lambda spec: path_delay.one_way_ms(plan.network.bridge, spec.address, apart=IDLE),
            specs,
        )
        return {
            spec.name: round(delay, 4)
            for spec, delay in zip(specs, found, strict=True)
            if delay is not None
        }

    def consumers(self, deployment: Deployment, plan: InfrastructurePlan) -> Mapping[str, Consumer]:
        """The process of each virtual machine, and the control groups of its threads."""
        folder, groups = names.machines_folder(deployment), cgroups.detect()
        found = {}
        for spec in plan.machines:
            name = Domain.of(spec.name, folder, plan.identity).name
            with suppress(OSError, ValueError):
                process = int((_NUMBERS / f"{name}.pid").read_text())
                found[spec.name] = Consumer(tuple(cgroups.groups_of(process, groups)), (process,))
        # What is known of some only would make the others' use that of strangers.
        return found if len(found) == len(plan.machines) else {}

    def isolation(self, deployment: Deployment, plan: InfrastructurePlan) -> Mapping[str, str]:
        """Virtual hardware, and nothing of this host's kernel."""
        del deployment
        return {spec.name: "virtual machine" for spec in plan.machines}

    def emulator_in_use(self, deployment: Deployment, plan: InfrastructurePlan) -> str:
        """Name of what enforces the links, also where the plan leaves it open."""
        if not plan.network.links:
            return ""
        return self._emulator(plan, self._interfaces(deployment, plan)).name

    def destroy(self, deployment: Deployment) -> None:
        """Remove everything that carries the deployment's labels; daemons that nobody needs too."""
        super().destroy(deployment)
        daemon.stop_if_unused()

    def _destroy_machines(self, deployment: Deployment) -> None:
        with daemon.looking() as opened:
            found = [state.name for state in _states(opened, deployment)]
            _remove_machines(opened, deployment, found)

    def _with_machines(self, state_folder: Path) -> Iterable[str]:
        root = str(state_folder.absolute())
        with daemon.looking() as opened:
            labels = [label for _, label in daemon.labelled(opened)] if opened is not None else []
        return [each.deployment for each in labels if each.state_folder == root]

    def _interfaces(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Interface]:
        """The running machines' interfaces, each behind the machine itself.

        Those of another host's share are looked at from here too: they ran a moment ago.
        """
        specs = plan.machines
        if not plan.host:
            alive = {each.name for each in self.states(deployment) if each.state == "running"}
            specs = tuple(spec for spec in specs if spec.name in alive)
        return [Interface(spec, inside=_handle(deployment, spec)) for spec in specs]

    def _emulator(self, plan: InfrastructurePlan, interfaces: list[Interface]) -> LinkEmulator:
        """What carries the plan's links; one machine's kernel is tried, which they all have."""
        from continuum.infrastructure.links.choose import (  # noqa: PLC0415  probes the kernel
            choose,
        )

        name = plan.network.emulator
        if name not in self._emulators:
            if not interfaces or interfaces[0].inside is None:
                raise NotPossibleHere("no machine runs whose kernel could carry links")
            inside = interfaces[0].inside
            self._emulators[name] = choose(name, inside.run, f"the kernel of {inside.name}")
        return self._emulators[name]


def _handle(deployment: Deployment, spec: MachineSpec) -> SshMachine:
    return SshMachine(spec.name, spec.tier, spec.address, deployment.ssh_config)


def _host(opened: daemon.Connection) -> Host:
    offered = ET.fromstring(opened.getCapabilities())  # noqa: S314  libvirt's own text
    models = [each.text or "" for each in offered.findall("./host/secmodel/model")]
    return Host(
        platform=platforms.here(),
        accelerated=bool(kvm.known().works),
        security_models=tuple(model for model in models if model not in {"", "none", "dac"}),
    )


def _states(opened: daemon.Connection | None, deployment: Deployment) -> list[MachineState]:
    found: dict[str, MachineState] = {}
    folder = names.machines_folder(deployment)
    start = names.prefix(deployment.identity)
    if folder.is_dir():
        # Half made, or their definitions are gone: they have to be made again.
        for path in folder.glob(f"{start}*"):
            name = path.name.removeprefix(start)
            found[name] = MachineState(name, "stopped", "")
    for domain, label in daemon.labelled(opened) if opened is not None else []:
        if label.identity == deployment.identity:
            state = "running" if daemon.is_active(domain) else "stopped"
            found[label.machine] = MachineState(label.machine, state, label.made_of)
    return [found[name] for name in sorted(found)]


def _remove_machines(
    opened: daemon.Connection | None, deployment: Deployment, machines: list[str]
) -> None:
    ours: dict[str, Any] = {}
    if opened is not None:
        for found, label in daemon.labelled(opened):
            if label.identity == deployment.identity:
                ours[label.machine] = found

    def remove(machine: str) -> None:
        domain = Domain.of(machine, names.machines_folder(deployment), deployment.identity)
        if machine in ours:
            _undefine(ours[machine])
        store.remove(domain.folder)
        for log in _LOGS.glob(f"{domain.name}.log*"):
            log.unlink(missing_ok=True)

    for_each(remove, machines)


def _undefine(found: Any) -> None:  # noqa: ANN401  libvirt's own
    kind = daemon.library()
    if daemon.is_active(found):
        with suppress(kind.libvirtError):  # It may end by itself meanwhile.
            found.destroy()
    try:
        found.undefine()
    except kind.libvirtError as error:
        if error.get_error_code() != kind.VIR_ERR_NO_DOMAIN:
            raise StepFailed(
                f"the virtual machine {found.name()} cannot be removed", output=str(error)
            ) from error


def _tell_names(deployment: Deployment, plan: InfrastructurePlan, up: set[str]) -> None:
    """Give machines that run the names of those that came, and take those that went."""
    text = machine_files.hosts_file(plan)
    folder = names.machines_folder(deployment)

    def tell(spec: MachineSpec) -> None:
        told = Domain.of(spec.name, folder, plan.identity).hosts
        if state_file.read_text(told) != text:
            _handle(deployment, spec).put(text.encode(), "/etc/hosts")
            told.write_text(text)

    for_each(tell, [spec for spec in plan.machines if spec.name in up])


def _prepare(
    deployment: Deployment, plan: InfrastructurePlan, spec: MachineSpec, boot: Boot, resolver: str
) -> None:
    """Make what the virtual machine boots from. It does not run."""
    domain = Domain.of(spec.name, names.machines_folder(deployment), plan.identity)
    domain.folder.mkdir(mode=folders.PRIVATE_FOLDER, parents=True, exist_ok=True)
    if not domain.disk.exists():
        disk.make_overlay(boot.disk, domain.disk)
    files = on_this_host.own_files(deployment, plan, spec, resolver)
    folders.write_file(domain.seed, seed.seed(files), folders.PRIVATE_FILE)
    domain.hosts.write_text(machine_files.hosts_file(plan))
    # Of the last boot alone: it is shown when the machine does not answer.
    domain.console.unlink(missing_ok=True)


def _start(opened: daemon.Connection, domain: Domain, definition: str) -> None:
    kind = daemon.library()
    try:
        opened.defineXML(definition).create()
    except kind.libvirtError as error:
        raise StepFailed(
            f"the virtual machine of {domain.machine} does not start: {error}",
            where=domain.name,
            output=last_lines(_LOGS / f"{domain.name}.log"),
            hint="continuum doctor --provider libvirt",
        ) from error


def _await_ssh(
    opened: daemon.Connection,
    plan: InfrastructurePlan,
    folder: Path,
    progress: Callable[[str], None],
    *,
    accelerated: bool,
) -> None:
    """Wait until SSH answers on all machines; see `on_this_host.await_ssh`."""
    by_name = {spec.name: Domain.of(spec.name, folder, plan.identity) for spec in plan.machines}

    def ended(waiting: set[str]) -> set[str]:
        alive = {each.name() for each in opened.listAllDomains() if daemon.is_active(each)}
        return {name for name in waiting if by_name[name].name not in alive}

    def about(machine: str) -> tuple[str, str]:
        domain = by_name[machine]
        state = "it has switched itself off" if ended({machine}) else "it runs"
        words = last_lines(domain.console) or last_lines(_LOGS / f"{domain.name}.log")
        return f"virtual machine {domain.name}; {state}", words

    share = len(plan.machines) / (os.cpu_count() or 1)
    limit = BOOT_LIMIT + BOOT_SECONDS[accelerated] * share
    on_this_host.await_ssh(plan, limit, progress, ended=ended, about=about)
