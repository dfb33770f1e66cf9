"""What `doctor` finds out: every prerequisite of provider `lxc`, by trying it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from continuum import folders, native, plugins
from continuum.images import store
from continuum.infrastructure.host import cgroups, disks, kernel_modules, limits
from continuum.infrastructure.host.console import last_lines
from continuum.infrastructure.links import capacity, process
from continuum.infrastructure.links.contract import LinkEmulator
from continuum.infrastructure.plan import MachineSpec
from continuum.infrastructure.providers import common_checks
from continuum.infrastructure.providers.contract import Check
from continuum.infrastructure.providers.lxc import config, hook, isolation
from continuum.infrastructure.providers.lxc.config import Host
from continuum.machine import Command, run_on_host

_PROGRAMS = (
    ("lxc-start", "lxc", ("--version",)),
    ("mmdebstrap", "mmdebstrap", ("--version",)),
    ("iptables-restore", "iptables", ("--version",)),
    ("ip", "iproute2", ("-V",)),
    ("ssh", "openssh-client", ("-V",)),
    ("setpriv", "util-linux", ("--version",)),
    ("sysctl", "procps", ("--version",)),
)
_FAKE_ROOT = ("bin", "sbin", "lib", "lib64", "lib32", "libx32")


def all_checks() -> list[Check]:
    """Every prerequisite, tried. Leaves nothing behind."""
    tried: list[Callable[[], Check]] = [
        common_checks.package_sources,
        common_checks.pip,
        common_checks.disk_space,
        _groups,
        _disk_limits,
        common_checks.firewall,
        common_checks.other_firewalls,
        common_checks.interfaces,
        common_checks.closed_ports,
        _container,
        _user_namespaces,
        _inotify,
        _emulators,
        _kernel_modules,
    ]
    return common_checks.all_of(_PROGRAMS, tried)


def _groups() -> Check:
    found = cgroups.detect().versions
    missing = [name for name in ("cpu", "memory", "cpuset", "pids") if name not in found]
    said = ", ".join(f"{name} (version {found[name]})" for name in sorted(found)) or "none"
    return Check(
        "control groups",
        ok=not {"cpu", "memory"}.intersection(missing),
        detail=said + (f"; missing: {', '.join(missing)}" if missing else ""),
        mend="start the kernel with cgroup_enable=memory, or mount /sys/fs/cgroup",
    )


def _disk_limits() -> Check:
    version = cgroups.detect().versions.get("io")
    disk = disks.disk_of(folders.state_folder())
    if version is None or disk is None:
        why = "no controller for disks" if version is None else "the state folder is on no disk"
        return Check("disk limits", ok=False, detail=why, needed=False)
    extent = "direct reads and writes only" if version == 1 else "all reads and writes"
    return Check("disk limits", ok=True, detail=f"disk {disk}, {extent}", needed=False)


def _container() -> Check:
    """A container on overlay with all limits, that runs `true`."""
    with _trial_folder() as folder:
        name = "ctm-doctor"
        group = f"continuum-doctor-{os.getpid()}"
        lower, place = folder / "lower", folder / name
        (lower / "usr").mkdir(parents=True)
        (place / "upper").mkdir(parents=True)
        for link in _FAKE_ROOT:
            if Path("/", link).is_symlink():
                (lower / link).symlink_to(Path("/", link).readlink())
        for needed in ("proc", "sys", "dev"):
            (lower / needed).mkdir()
        log = folder / "log"
        (place / "config").write_text(_trial_config(lower, place, group))
        (place / "hook").write_text(_trial_hook(folder, group))
        command = (
            "lxc-start",
            "--foreground",
            f"--lxcpath={folder}",
            f"--name={name}",
            f"--logfile={log}",
            "--logpriority=ERROR",
        )
        result = run_on_host(Command(command, timeout=common_checks.TRIAL_LIMIT))
        for left in cgroups.folders_of(cgroups.detect(), group):
            cgroups.remove(left)
        store.remove(Path("/run/lxc/lock", str(folder).lstrip("/")))
        ok = result.exit_code == 0
        said = last_lines(log, 4) or result.last_output
    return Check(
        "container",
        ok=ok,
        detail="one started on overlay, with limits" if ok else said,
        mend="the lines above are LXC's own; a state folder on ext4, xfs or btrfs, and root "
        "outside of other containers, are what it needs",
    )


def _user_namespaces() -> Check:
    """A machine's files with ids of its own, as all but nodes of clusters have them."""
    with _trial_folder() as folder:
        layer = folder / "layer"
        layer.mkdir()
        why = isolation.obstacle_tried(folder, (layer,))
    return Check(
        "user namespaces",
        ok=why is None,
        detail=why or "root in a machine is nobody on this host",
        mend="Linux 5.19 or later, and a state folder on ext4, xfs or btrfs; without them root in "
        "a machine is root on this host",
        needed=False,
    )


_TRIAL = MachineSpec(
    name="trial",
    tier="trial",
    address="10.0.0.2",
    mac="02:00:00:00:00:02",
    cores=1,
    quota=0.5,
    memory=64 * 2**20,
    disk_read=10**9,
    disk_write=10**9,
)


def _trial_hook(folder: Path, group: str) -> str:
    return hook.script(_TRIAL, cgroups.detect(), disks.disk_of(folder), f"{group}/machine")


def _trial_config(lower: Path, place: Path, group: str) -> str:
    host = Host(cgroups.detect(), disks.disk_of(place.parent))
    spec = replace(_TRIAL, pinned_cores=(min(os.sched_getaffinity(0)),))
    lines = [
        f"lxc.rootfs.path = overlay:{lower}:{place / 'upper'}",
        "lxc.init.cmd = /usr/bin/true",
        "lxc.apparmor.profile = unconfined",
        "lxc.autodev = 1",
        "lxc.net.0.type = empty",
        "lxc.mount.auto = proc:mixed sys:mixed cgroup:rw:force",
        "lxc.mount.entry = /usr usr none bind,ro",
        f"lxc.cgroup.dir.container = {group}/machine",
        f"lxc.cgroup.dir.container.inner = {hook.INNER_GROUP}",
        f"lxc.cgroup.dir.monitor = {group}/monitor",
        f"lxc.cgroup.dir.monitor.pivot = {group}/.pivot",
        *config.limits(spec, host),
        *hook.config_lines(place / "hook", spec, host.groups, host.disk),
    ]
    return "\n".join(lines) + "\n"


@contextmanager
def _trial_folder() -> Iterator[Path]:
    """A folder on the disk that machines would be on."""
    state = folders.state_folder()
    there = next(each for each in (state, *state.parents) if each.is_dir())
    folder = Path(tempfile.mkdtemp(prefix=".continuum-doctor-", dir=there))
    try:
        yield folder
    finally:
        store.remove(folder)


def _inotify() -> Check:
    now = limits.read(limits.INOTIFY_INSTANCES)
    room = max(0, now - 128) // limits.INSTANCES_PER_MACHINE
    return Check(
        "inotify instances",
        ok=True,
        detail=f"{now}, enough for {room} machines; `up` raises it when there are more",
    )


def _kernel_modules() -> Check:
    missing = kernel_modules.missing()
    names = ", ".join(kernel_modules.FOR_CONTAINERS)
    return Check(
        "containers in machines",
        ok=not missing,
        detail=f"the kernel has no {', '.join(missing)}" if missing else f"the kernel has {names}",
        mend=f"modprobe --all {' '.join(missing)} (`up` does it where the kernel has them)",
        needed=False,
    )


def _emulators() -> Check:
    """Whether anything here can enforce links."""
    said = []
    able = False
    for name in plugins.names("emulators"):
        emulator: LinkEmulator = plugins.load("emulators", name)()
        why = emulator.probe()
        able |= why is None
        said.append(f"{name}: {why or 'yes'}")
    if native.program(process.PROGRAM) is None:
        said.append(
            "its program is the one in Python, for want of a C compiler: a core judges some "
            f"{capacity.PYTHON:,} frames a second instead of {capacity.COMPILED:,} "
            "(apt-get install gcc libc6-dev)"
        )
    return Check(
        "link emulation",
        ok=able,
        detail="; ".join(said),
        mend="modprobe sch_netem, or modprobe xt_NFQUEUE nfnetlink_queue",
        needed=False,
    )
