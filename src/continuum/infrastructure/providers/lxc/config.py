"""What a machine's container is made of, as text; pure functions of the plan and the host."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from continuum.images.recipe import fingerprint
from continuum.infrastructure.host.cgroups import ControlGroups
from continuum.infrastructure.host.names import Place, interface_name
from continuum.infrastructure.plan import InfrastructurePlan, MachineSpec, NetworkPlan
from continuum.infrastructure.providers.lxc import hook, id_range, mapped_root

LAYOUT = 3
"""Raise when containers made before must be replaced."""

SPEC_MARK = "# continuum-spec: "

PERIOD = 20_000
"""Microseconds over which a quota counts: short, so that a machine that has used its share waits
milliseconds for the next, not a tenth of a second."""

PROCESS_LIMIT = 8192
"""Processes and threads in one machine: a runaway machine must not take the host with it."""

DROPPED = "mac_admin mac_override sys_module sys_rawio sys_time syslog"
DROPPED_OF_NODES = "mac_admin mac_override sys_module sys_rawio sys_time"
"""Capabilities that a machine has not, within its user namespace or on the host. Kubernetes' nodes
read the kernel's log for programs that ran out of memory."""

_NOT_PERMITTED = 1
FORBIDDEN_CALLS = (
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "open_by_handle_at",
    "swapon",
    "swapoff",
)
FORBIDDEN_CALLS_BUT_FOR_NODES = ("syslog", "bpf", "perf_event_open")

_DEVICES = (
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",  # null
    "c 1:5 rwm",  # zero
    "c 1:7 rwm",  # full
    "c 1:8 rwm",  # random
    "c 1:9 rwm",  # urandom
    "c 5:0 rwm",  # tty
    "c 5:1 rwm",  # console
    "c 5:2 rwm",  # ptmx
    "c 10:200 rwm",  # tun
    "c 10:229 rwm",  # fuse
    "c 136:* rwm",  # pseudo-terminals
)

_WHOLE_FILE_SYSTEMS = (
    "lxc.mount.entry = proc dev/.lxc/proc proc create=dir,optional 0 0",
    "lxc.mount.entry = sys dev/.lxc/sys sysfs create=dir,optional 0 0",
)
"""Kernels let a user namespace mount these two only where they can be seen whole somewhere already:
containers without privileges inside a machine could not start otherwise."""
_BORROWED_DEVICES = ("net/tun", "fuse")
"""Devices that a machine may use and, in a user namespace, cannot make."""

NESTED_FOLDERS = ("containerd", "docker", "kubelet", "lxc")
"""Folders of /var/lib that must be on the host's own disk: overlay on overlay is refused."""


@dataclass(frozen=True)
class Host:
    """What of the host decides how a container is configured.

    Attributes:
        groups: what can be limited.
        disk: number of the disk that holds the machines, as `254:0`; None when it has none.
        ipv6: whether the kernel speaks it.
    """

    groups: ControlGroups
    disk: str | None = None
    ipv6: bool = True


@dataclass(frozen=True)
class Ground:
    """Ground that a machine stands on.

    Attributes:
        layers: root folders of its image, the topmost first.
        first_id: the host's id of the machine's root, in a user namespace; None where it is the
            host's own root.
    """

    layers: tuple[Path, ...]
    first_id: int | None = None


class Container(Place):
    """Names and places of one machine's container; its folder's parent is LXC's path."""

    @property
    def upper(self) -> Path:
        """What the machine has written, over its image."""
        return self.folder / "upper"

    @property
    def system_calls(self) -> Path:
        """The system calls that nobody in the machine may make, for LXC."""
        return self.folder / "system_calls"

    @property
    def work(self) -> Path:
        """Folder in which overlay prepares what comes into `upper`, in a user namespace."""
        return self.folder / "work"

    @property
    def hook(self) -> Path:
        """Script that LXC runs before the machine's first process."""
        return self.folder / "hook"


def group(identity: str) -> str:
    """The control group, in every hierarchy, that holds all machines of a deployment."""
    return f"continuum-{identity}"


def machine_group(identity: str, name: str) -> str:
    """The control group, in every hierarchy, that limits a machine.

    Its processes are in `hook.INNER_GROUP` below it.
    """
    return f"{group(identity)}/{name}/machine"


def spec_fingerprint(
    plan: InfrastructurePlan, spec: MachineSpec, image_inodes: tuple[int, ...]
) -> str:
    """What a machine is made of; a machine whose fingerprint differs is replaced.

    `image_inodes` tell an image from the same one built again after the cache was emptied: a
    machine that stands on the former has lost its files.
    """
    network = plan.network
    made_of = asdict(spec)
    # Only what runs in the machine knows of pods; SSH logs in as root, always; and on another host it
    # is another machine anyway.
    del made_of["pods"], made_of["login"], made_of["host"]
    return fingerprint(
        LAYOUT,
        made_of,
        plan.image,
        image_inodes,
        [network.bridge, str(network.block), network.host_address, network.internet],
        *([] if network.mtu is None else [network.mtu]),
    )


def header(made_of: str) -> str:
    """The first line of a container's configuration: the label with what it is made of."""
    return f"{SPEC_MARK}{made_of}\n"


def lxc_config(
    plan: InfrastructurePlan,
    spec: MachineSpec,
    container: Container,
    ground: Ground,
    host: Host,
) -> str:
    """The container's configuration for LXC 5 and later."""
    stack = ":".join(str(path) for path in (*ground.layers, container.upper))
    mapped = ground.first_id is not None
    hook_path = Path(mapped_root.HOOK) if mapped else container.hook
    lines = [
        f"# continuum-deployment: {plan.deployment}",
        f"lxc.uts.name = {spec.name}",
        f"lxc.arch = {platform.machine()}",
        f"lxc.rootfs.path = {f'dir:{mapped_root.ROOT}' if mapped else f'overlay:{stack}'}",
        *(f"lxc.idmap = {kind} 0 {ground.first_id} {id_range.SIZE}" for kind in "ug" if mapped),
        "lxc.apparmor.profile = unconfined",
        "lxc.signal.halt = SIGRTMIN+3",
        "lxc.tty.max = 0",
        "lxc.autodev = 1",
        f"lxc.console.logfile = {container.console}",
        f"lxc.cgroup.dir.container = {machine_group(plan.identity, spec.name)}",
        # Limits are set outside of what the machine can write to.
        f"lxc.cgroup.dir.container.inner = {hook.INNER_GROUP}",
        f"lxc.cgroup.dir.monitor = {group(plan.identity)}/{spec.name}/monitor",
        f"lxc.cgroup.dir.monitor.pivot = {group(plan.identity)}/.pivot",
        *_privileges(spec, container, host, mapped=mapped),
        *limits(spec, host),
        *hook.config_lines(hook_path, spec, host.groups, host.disk),
        *_network(plan.network, spec, host, plan.identity),
    ]
    return "\n".join(lines) + "\n"


def _privileges(spec: MachineSpec, container: Container, host: Host, *, mapped: bool) -> list[str]:
    version = host.groups.versions.get("devices", 1)
    devices = "lxc.cgroup.devices" if version == 1 else "lxc.cgroup2.devices"
    calls = f"lxc.seccomp.profile = {container.system_calls}"
    if spec.nested and not mapped:
        return [
            f"lxc.cap.drop = {DROPPED_OF_NODES}",
            "lxc.pty.max = 1024",
            "lxc.mount.auto = proc:rw sys:rw cgroup:rw:force",
            f"{devices}.allow = a",
            *_nested_folders(str(container.folder)),
            *_WHOLE_FILE_SYSTEMS,
            "lxc.mount.entry = /dev/kmsg dev/kmsg none bind,optional,create=file",
            calls,
        ]
    lines = [
        f"{devices}.deny = a",
        *(f"{devices}.allow = {device}" for device in _DEVICES),
        calls,
    ]
    if mapped:
        lines += [
            f"lxc.mount.entry = /dev/{name} dev/{name} none bind,optional,create=file"
            for name in _BORROWED_DEVICES
        ]
    if not spec.nested:
        return [
            f"lxc.cap.drop = {DROPPED}",
            "lxc.pty.max = 128",
            "lxc.mount.auto = proc:mixed sys:mixed cgroup:rw:force",
            *lines,
        ]
    return [
        f"lxc.cap.drop = {DROPPED}",
        "lxc.pty.max = 1024",
        "lxc.mount.auto = proc:rw sys:rw cgroup:rw:force",
        *lines,
        *_nested_folders(mapped_root.OWN),
        *_WHOLE_FILE_SYSTEMS,
    ]


def _nested_folders(place: str) -> list[str]:
    return [
        f"lxc.mount.entry = {place}/disk/{name} var/lib/{name} none bind,create=dir"
        for name in NESTED_FOLDERS
    ]


def system_calls(spec: MachineSpec, *, mapped: bool) -> str:
    """The system calls that no program in a machine may make, as a file for LXC.

    They act on the kernel that all share, or read what it says of others. Those that a machine's
    lack of capabilities refuses already are there for a kernel that errs.
    """
    # Containers' devices are limited by such programs, where it is not done by a namespace.
    like_a_node = spec.nested and not mapped
    forbidden = [*FORBIDDEN_CALLS, *(() if like_a_node else FORBIDDEN_CALLS_BUT_FOR_NODES)]
    rules = "".join(f"{name} errno {_NOT_PERMITTED}\n" for name in forbidden)
    return f"2\ndenylist\nreject_force_umount\n[all]\n{rules}"


def limits(spec: MachineSpec, host: Host) -> list[str]:
    """Cores, memory, disk rates and processes, in the versions of control groups that the host
    has. What it has none for is left out; `missing_controllers` names it. Version 1's disk rates
    are set by the `hook`.
    """
    versions = host.groups.versions
    lines: list[str] = []
    quota = round(spec.cores * spec.quota * PERIOD)
    match versions.get("cpu"):
        case 1:
            lines += [
                f"lxc.cgroup.cpu.cfs_period_us = {PERIOD}",
                f"lxc.cgroup.cpu.cfs_quota_us = {quota}",
            ]
        case 2:
            lines.append(f"lxc.cgroup2.cpu.max = {quota} {PERIOD}")
    if spec.pinned_cores and "cpuset" in versions:
        cores = ",".join(str(core) for core in sorted(spec.pinned_cores))
        lines.append(f"{_key(versions['cpuset'])}.cpuset.cpus = {cores}")
    match versions.get("memory"):
        case 1:
            lines.append(f"lxc.cgroup.memory.limit_in_bytes = {spec.memory}")
            if host.groups.swap_limit:
                lines.append(f"lxc.cgroup.memory.memsw.limit_in_bytes = {spec.memory}")
        case 2:
            lines.append(f"lxc.cgroup2.memory.max = {spec.memory}")
            if host.groups.swap_limit:
                lines.append("lxc.cgroup2.memory.swap.max = 0")
    lines += _disk(spec, host)
    if "pids" in versions and not spec.nested:
        lines.append(f"{_key(versions['pids'])}.pids.max = {PROCESS_LIMIT}")
    return lines


def _disk(spec: MachineSpec, host: Host) -> list[str]:
    rates = (("rbps", spec.disk_read), ("wbps", spec.disk_write))
    asked = " ".join(f"{key}={rate}" for key, rate in rates if rate is not None)
    if not asked or host.disk is None or host.groups.versions.get("io") != 2:
        return []
    return [f"lxc.cgroup2.io.max = {host.disk} {asked}"]


def missing_controllers(plan: InfrastructurePlan, host: Host) -> list[str]:
    """Limits that the plan asks for and that this host cannot enforce, in words."""
    versions = host.groups.versions
    missing = [
        f"{what} (controller {name})"
        for name, what in (("cpu", "cores and quota"), ("memory", "memory"))
        if name not in versions
    ]
    if any(spec.pinned_cores for spec in plan.machines) and "cpuset" not in versions:
        missing.append("pinned cores (controller cpuset)")
    if any(spec.disk_read or spec.disk_write for spec in plan.machines):
        if "io" not in versions:
            missing.append("disk rates (controller io)")
        elif host.disk is None:
            missing.append("disk rates (the machines' folder is on no disk of this host's)")
    return missing


def _network(network: NetworkPlan, spec: MachineSpec, host: Host, identity: str) -> list[str]:
    lines = [
        "lxc.net.0.type = veth",
        f"lxc.net.0.link = {network.bridge}",
        f"lxc.net.0.veth.pair = {interface_name(network, spec, identity)}",
        "lxc.net.0.name = eth0",
        "lxc.net.0.flags = up",
        f"lxc.net.0.hwaddr = {spec.mac}",
        f"lxc.net.0.ipv4.address = {spec.address}/{network.block.prefixlen}",
    ]
    if network.mtu is not None:
        lines.append(f"lxc.net.0.mtu = {network.mtu}")
    if network.internet:
        lines.append(f"lxc.net.0.ipv4.gateway = {network.host_address}")
    if host.ipv6:
        lines.append("lxc.sysctl.net.ipv6.conf.all.disable_ipv6 = 1")
    return lines


def _key(version: int) -> str:
    return "lxc.cgroup" if version == 1 else "lxc.cgroup2"
