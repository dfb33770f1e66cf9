"""Provider `lxc`: machines as system containers of plain LXC, with systemd and sshd inside."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from continuum import folders, native
from continuum.deployment import Deployment
from continuum.errors import NotPossibleHere
from continuum.events import Events
from continuum.experiment.model import Experiment
from continuum.images import build, store
from continuum.images.recipe import Recipe
from continuum.infrastructure import tcp
from continuum.infrastructure.host import (
    bridge,
    cgroups,
    disks,
    joined,
    kernel_modules,
    limits,
    machine_files,
    names,
    network,
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
)
from continuum.infrastructure.providers.lxc import config, containers, hook, isolation
from continuum.infrastructure.providers.lxc.config import Container, Ground, Host
from continuum.infrastructure.providers.lxc.machine import LxcMachine
from continuum.infrastructure.providers.on_this_host import OnThisHost
from continuum.machine import Command, Machine, run_on_host
from continuum.parallel import for_each

BOOT_LIMIT = 60.0
"""Seconds from the start of the last machine until SSH must answer on all; more for many."""

START_THREADS = min(16, max(1, (os.cpu_count() or 1) // 2))
"""Machines that are started at once. The cores are busy with those that boot already: on 2 cores,
100 machines took 10.0 s one after the other, 11.1 s two at a time, 12.3 s four at a time.
"""

_LXC_LOCKS = Path("/run/lxc/lock")


class Lxc(OnThisHost):
    """System containers on this host. Everything of a deployment carries its identity."""

    name: ClassVar[str] = "lxc"
    capabilities: ClassVar[Capabilities] = Capabilities(
        one_clock=True,
        quota_covers="machine",
        disk_limits=(
            "direct reads and writes; buffered writes too where control groups are version 2"
        ),
        needs_root=True,
        several_hosts=True,
        limits=frozenset({"cores", "cpu_pin", "memory", "disk"}),
    )
    programs: ClassVar[Mapping[str, str]] = {
        "ip": "iproute2",
        "iptables-restore": "iptables",
        "lxc-start": "lxc",
        "mmdebstrap": "mmdebstrap",
        "setpriv": "util-linux",
        "ssh": "openssh-client",
        "sysctl": "procps",
        **native.PACKAGES,
    }

    def __init__(self, settings: PluginSettings, events: Events) -> None:
        super().__init__(settings, events)
        self._emulators: dict[tuple[str, tuple[Link, ...]], LinkEmulator] = {}

    def check(self) -> list[Check]:
        """Try every prerequisite on this host."""
        from continuum.infrastructure.providers.lxc import (  # noqa: PLC0415  only `doctor` needs it
            checks,
        )

        return checks.all_checks()

    def refuse(self, deployment: Deployment, plan: InfrastructurePlan) -> None:
        """Raise when this host cannot carry the plan; only root can try the emulators."""
        _refuse_what_cannot_be(deployment, plan)
        tcp.refuse(plan.network.tcp)
        if plan.network.links and self.may_act():
            self._emulator(plan).refuse(plan)

    def image_fingerprint(self, recipe: Recipe) -> str:
        """The fingerprint that `build_image` returns here; builds nothing."""
        return build.fingerprint_of(recipe)

    def build_image(self, recipe: Recipe) -> str:
        """Build the layers that are missing; returns the image's fingerprint."""
        return build.build(recipe, self.events).fingerprint

    def image_versions(self, plan: InfrastructurePlan) -> dict[str, str]:
        """LXC's version, the image's release, and the packages that an experiment is about."""
        lxc = run_on_host(Command(("lxc-start", "--version"))).text
        return {"lxc": lxc, **store.versions(plan.image)}

    def create_network(self, deployment: Deployment, plan: InfrastructurePlan) -> bool:
        """Make the bridge and the rules that close it; True when changed."""
        on_this_host.need_root()
        _refuse_what_cannot_be(deployment, plan)
        folder = names.machines_folder(deployment)
        folders.make_folder(folder, folders.PRIVATE_FOLDER)
        others = [each for each in containers.running() if each.lxc_path != folder]
        nodes = sum(spec.nested for spec in plan.machines)
        if nodes:
            for loaded in kernel_modules.ensure():
                self.events.note(f"loaded the kernel's module {loaded}, for containers in machines")
        for raised in limits.raise_for(len(others) + len(plan.machines), nodes):
            self.events.note(f"raised the kernel's limit {raised}, for this many machines")
        if tcp.allow(plan.network.tcp):
            self.events.note(
                f"allowed {plan.network.tcp[tcp.CONGESTION_CONTROL]} as TCP's congestion control on "
                "this host, as machines need it"
            )
        changed = network.ensure(deployment, plan)
        self._tell_obstacles(plan)
        return changed

    def create(
        self, deployment: Deployment, plan: InfrastructurePlan, progress: Callable[[str], None]
    ) -> list[str]:
        """Make, replace, start and remove machines until they are the plan's."""
        on_this_host.need_root()
        _refuse_what_cannot_be(deployment, plan)
        with store.telling_disk_full(names.machines_folder(deployment), "XDG_STATE_HOME"):
            return self._create(deployment, plan, progress)

    def _create(
        self, deployment: Deployment, plan: InfrastructurePlan, progress: Callable[[str], None]
    ) -> list[str]:
        image = store.find(plan.image)
        folder = names.machines_folder(deployment)
        inodes = tuple(layer.stat().st_ino for layer in image.layers)
        wanted = {spec.name: config.spec_fingerprint(plan, spec, inodes) for spec in plan.machines}
        there = {state.name: state for state in self.states(deployment)}
        surplus = [name for name in there if wanted.get(name) != there[name].fingerprint]
        if surplus:
            progress(f"removing {len(surplus)} machines")
            self._remove_machines(deployment, surplus)
        fit = {name for name, state in there.items() if name not in surplus}
        up = {name for name in fit if there[name].state == "running"}
        up -= self._cut_off(deployment, plan, up)
        to_start = [spec for spec in plan.machines if spec.name not in up]
        containers.end_what_is_left(
            [Container.of(spec.name, folder, plan.identity) for spec in to_start],
            [names.interface_name(plan.network, spec, plan.identity) for spec in to_start],
        )
        if not plan.host:
            ssh_access.write(deployment, plan)
        self._tell_names(plan, folder, up)
        host = _host(folder)
        kinds = isolation.of_machines(plan, self._obstacle(to_start, plan, folder, image.layers))
        resolver = routing.resolver() if plan.network.internet else ""

        def start(spec: MachineSpec) -> None:
            container = Container.of(spec.name, folder, plan.identity)
            _prepare(deployment, plan, spec, container, resolver)
            mapped = kinds[spec.name] == isolation.USER_NAMESPACE
            ground = Ground(image.layers, isolation.first_id(spec) if mapped else None)
            text = config.header(wanted[spec.name]) + config.lxc_config(
                plan, spec, container, ground, host
            )
            calls = config.system_calls(spec, mapped=mapped).encode()
            containers.put_file(container.folder, container.system_calls.name, calls, 0o600)
            script = hook.script(
                spec, host.groups, host.disk, config.machine_group(plan.identity, spec.name)
            )
            containers.put_file(container.folder, container.hook.name, script.encode(), 0o600)
            # Last: a container counts as made when it has a configuration.
            containers.put_file(container.folder, "config", text.encode(), 0o600)
            containers.start(container, ground)

        on_this_host.start_all(to_start, start, progress, threads=START_THREADS)
        on_this_host.close_ports(plan)
        if not plan.host:
            _await_ssh(plan, folder, progress)
        return list(dict.fromkeys([*surplus, *(spec.name for spec in to_start)]))

    def _obstacle(
        self,
        to_start: Sequence[MachineSpec],
        plan: InfrastructurePlan,
        folder: Path,
        layers: tuple[Path, ...],
    ) -> str | None:
        """Obstacle of this host to user namespaces, tried where a machine that starts needs one."""
        known = isolation.obstacle()
        if known or all(spec.privileged for spec in to_start):
            return known
        found = isolation.obstacle_tried(folder, layers)
        if found is not None:
            for sentence in isolation.remarks(plan, found):
                self.events.note(sentence)
        return found

    def isolation(self, deployment: Deployment, plan: InfrastructurePlan) -> Mapping[str, str]:
        """As the containers are configured now."""
        folder = names.machines_folder(deployment)
        kinds = {True: isolation.USER_NAMESPACE, False: isolation.PRIVILEGED}
        found = {}
        for spec in plan.machines:
            mapped = containers.is_mapped(Container.of(spec.name, folder, plan.identity).folder)
            if mapped is not None:
                found[spec.name] = kinds[mapped]
        return found

    def remarks(self, experiment: Experiment, plan: InfrastructurePlan) -> list[str]:
        """With what root in the machines may do to this host."""
        return [
            *super().remarks(experiment, plan),
            *isolation.remarks(plan, isolation.obstacle()),
        ]

    def machines(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Machine]:
        """Handles of the plan's machines."""
        folder = names.machines_folder(deployment)
        return [
            LxcMachine(spec, Container.of(spec.name, folder, plan.identity))
            for spec in plan.machines
        ]

    def states(self, deployment: Deployment) -> list[MachineState]:
        """What is on this host under the deployment's labels."""
        folder = names.machines_folder(deployment)
        prefix = names.prefix(deployment.identity)
        alive = {each.name for each in containers.running(folder)}
        on_disk = set()
        if folder.is_dir():
            on_disk = {entry.name for entry in folder.iterdir() if entry.is_dir()}
        return [
            MachineState(
                name.removeprefix(prefix),
                "running" if name in alive else "stopped",
                containers.made_of(folder / name) or "",
            )
            for name in sorted(on_disk | alive)
            if name.startswith(prefix)
        ]

    def apply_links(self, deployment: Deployment, plan: InfrastructurePlan) -> bool:
        """Put exactly the plan's links in force, and TCP's settings."""
        interfaces = _interfaces(deployment, plan)
        for_each(lambda each: namespaces.tune(each, plan.network.tcp), interfaces)
        try:
            emulator = self._emulator(plan)
        except NotPossibleHere:
            if plan.network.links:
                raise
            return False  # Where links cannot be emulated there are none to take off.
        return emulator.apply(deployment, plan, interfaces)

    def links_in_force(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Link]:
        """Read back the links that are in force now."""
        interfaces = on_this_host.behind_closed_ports(plan, _interfaces(deployment, plan))
        return self._emulator(plan).in_force(deployment, plan, interfaces)

    def link_windows(
        self, deployment: Deployment, plan: InfrastructurePlan, since_ns: int, until_ns: int
    ) -> list[Window]:
        """From the emulator of this host."""
        interfaces = _interfaces(deployment, plan)
        return self._emulator(plan).windows(deployment, plan, interfaces, since_ns, until_ns)

    def emulator_in_use(self, deployment: Deployment, plan: InfrastructurePlan) -> str:
        """Name of what enforces the links, also where the plan leaves it open."""
        del deployment
        return self._emulator(plan).name if plan.network.links else ""

    def consumers(self, deployment: Deployment, plan: InfrastructurePlan) -> Mapping[str, Consumer]:
        """The control group of each machine that carries its limits."""
        del deployment
        groups = cgroups.detect()
        return {
            spec.name: Consumer(
                tuple(cgroups.folders_of(groups, config.machine_group(plan.identity, spec.name)))
            )
            for spec in plan.machines
        }

    def _destroy_machines(self, deployment: Deployment) -> None:
        self._remove_machines(deployment, [state.name for state in self.states(deployment)])
        for group in cgroups.folders_of(cgroups.detect(), config.group(deployment.identity)):
            cgroups.remove(group)
        _remove_locks(names.machines_folder(deployment))

    def _with_machines(self, state_folder: Path) -> Iterable[str]:
        for each in containers.running():
            if each.lxc_path.name == "machines" and each.lxc_path.parent.parent == state_folder:
                yield each.lxc_path.parent.name

    def _emulator(self, plan: InfrastructurePlan) -> LinkEmulator:
        """What carries the plan's links here. The kernel is tried once, which takes a moment."""
        from continuum.infrastructure.links.choose import (  # noqa: PLC0415  probes the kernel
            choose,
        )

        name, links = plan.network.emulator, plan.network.links
        if (name, links) not in self._emulators:
            self._emulators[name, links] = choose(name, links=links)
        return self._emulators[name, links]

    def _remove_machines(self, deployment: Deployment, machines: list[str]) -> None:
        folder = names.machines_folder(deployment)
        doomed = [Container.of(name, folder, deployment.identity) for name in machines]
        ours = {container.name for container in doomed}
        containers.end([each for each in containers.running(folder) if each.name in ours])
        groups = cgroups.detect()
        for container in doomed:
            inner = f"{config.group(deployment.identity)}/{container.machine}"
            for group in cgroups.folders_of(groups, inner):
                cgroups.remove(group)

        def remove(container: Container) -> None:
            # The configuration goes first: what is left of it then counts as half made.
            folders.remove_tree(container.folder / "config")
            store.remove(container.folder)

        for_each(remove, doomed)

    def _cut_off(self, deployment: Deployment, plan: InfrastructurePlan, up: set[str]) -> set[str]:
        """Put running machines back on the bridge; names of those that have lost their interface,
        which are ended here.
        """
        lost = set(on_this_host.put_back(plan, up))
        if lost:
            folder = names.machines_folder(deployment)
            ended = {Container.of(name, folder, plan.identity).name for name in lost}
            containers.end([each for each in containers.running(folder) if each.name in ended])
        return lost

    def _tell_names(self, plan: InfrastructurePlan, folder: Path, up: set[str]) -> None:
        """Give machines that run the names of those that came, and take those that went."""
        text = machine_files.hosts_file(plan).encode()

        def tell(spec: MachineSpec) -> None:
            container = Container.of(spec.name, folder, plan.identity)
            if containers.read_file(container.upper, "etc/hosts") != text:
                LxcMachine(spec, container).put(text, "/etc/hosts")

        for_each(tell, [spec for spec in plan.machines if spec.name in up])


def _remove_locks(lxc_path: Path) -> None:
    """Remove LXC's locks of a path, and the folders above them that hold no others."""
    folder = _LXC_LOCKS / str(lxc_path).lstrip("/")
    store.remove(folder)
    for parent in folder.parents:
        if parent == _LXC_LOCKS:
            return
        try:
            parent.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return  # Another deployment's are in it.


def _host(folder: Path) -> Host:
    return Host(
        groups=cgroups.detect(),
        disk=disks.disk_of(folder),
        ipv6=Path("/proc/sys/net/ipv6").exists(),
    )


def _refuse_what_cannot_be(deployment: Deployment, plan: InfrastructurePlan) -> None:
    """Raise when this host cannot carry the plan, before anything is made.

    Raises:
        NotPossibleHere: with the reason and what can be done.
    """
    joined.refuse(plan)
    ssh_config.refuse(deployment.folder)
    folder = names.machines_folder(deployment)
    awkward = [
        character for character in ':,\\\n"' if character in f"{folder}{store.images_folder()}"
    ]
    if awkward:
        raise NotPossibleHere(
            f"overlay file systems cannot be mounted from a path with {awkward[0]!r} in it",
            where=f"{folder}, {store.images_folder()}",
            hint="set XDG_STATE_HOME and XDG_CACHE_HOME to other folders",
        )
    if len(plan.machines) > bridge.PORT_LIMIT:
        raise NotPossibleHere(
            f"{len(plan.machines)} machines do not fit on one bridge; the kernel's limit is "
            f"{bridge.PORT_LIMIT}",
            hint="use fewer machines",
        )
    missing = config.missing_controllers(plan, _host(folder))
    if missing:
        raise NotPossibleHere(
            f"this host cannot limit {'; '.join(missing)}", hint="continuum doctor"
        )


def _prepare(
    deployment: Deployment,
    plan: InfrastructurePlan,
    spec: MachineSpec,
    container: Container,
    resolver: str,
) -> None:
    """Put a machine's own files over its image. The machine does not run."""
    for folder in (container.folder, container.upper, container.work):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder.chmod(0o755)
    own = on_this_host.own_files(deployment, plan, spec, resolver)
    for path, (content, mode) in own.items():
        containers.put_file(container.upper, path, content, mode)
    if spec.nested:
        for name in config.NESTED_FOLDERS:
            folders.make_open_folder(container.folder / "disk" / name)


def _await_ssh(plan: InfrastructurePlan, folder: Path, progress: Callable[[str], None]) -> None:
    """Wait until SSH answers on all machines; see `on_this_host.await_ssh`."""
    by_name = {spec.name: Container.of(spec.name, folder, plan.identity) for spec in plan.machines}

    def ended(waiting: set[str]) -> set[str]:
        alive = {each.name for each in containers.running(folder)}
        return {name for name in waiting if by_name[name].name not in alive}

    def about(machine: str) -> tuple[str, str]:
        container = by_name[machine]
        state = "it has stopped" if ended({machine}) else "it runs"
        words = last_lines(container.console) or last_lines(container.folder / "lxc.log")
        return f"container {container.name}; {state}", words

    limit = BOOT_LIMIT + len(plan.machines)
    on_this_host.await_ssh(plan, limit, progress, ended=ended, about=about)


def _interfaces(deployment: Deployment, plan: InfrastructurePlan) -> list[Interface]:
    """The running machines' interfaces."""
    folder = names.machines_folder(deployment)
    inits = {each.name: each.init for each in containers.running(folder)}
    found = []
    for spec in plan.machines:
        init = inits.get(Container.of(spec.name, folder, plan.identity).name)
        if init is not None:
            found.append(Interface(spec, f"/proc/{init}/ns/net"))
    return found
