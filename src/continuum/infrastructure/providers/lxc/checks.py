"""What `doctor` finds out: every prerequisite of provider `lxc`, by trying it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from continuum import folders, plugins
from continuum.errors import ContinuumError
from continuum.experiment.units import show_bytes
from continuum.images import sources, store
from continuum.infrastructure.host import cgroups, disks, kernel_modules, limits
from continuum.infrastructure.links.contract import LinkEmulator
from continuum.infrastructure.plan import MachineSpec
from continuum.infrastructure.providers.contract import Check
from continuum.infrastructure.providers.lxc import config, containers
from continuum.infrastructure.providers.lxc.config import Host
from continuum.machine import Command, run_on_host

_IMAGE_ROOM = 2 * 2**30
_TRIAL_LIMIT = 20.0
_FAKE_ROOT = ("bin", "sbin", "lib", "lib64", "lib32", "libx32")


def all_checks() -> list[Check]:
    """Every prerequisite, tried. Leaves nothing behind."""
    if os.geteuid() != 0:
        return [
            Check("root", ok=False, detail="we are not root", mend="run the same with sudo"),
            *_programs(),
        ]
    tried: list[Callable[[], Check]] = [
        _sources,
        _pip,
        _disk_space,
        _groups,
        _disk_limits,
        _firewall,
        _interfaces,
        _container,
        _inotify,
        _emulators,
        _kernel_modules,
    ]
    return [Check("root", ok=True, detail="yes"), *_programs(), *(_safely(each) for each in tried)]


def _safely(check: Callable[[], Check]) -> Check:
    """A check whose trial itself failed is a check that failed."""
    try:
        return check()
    except (ContinuumError, OSError) as error:
        name = check.__name__.strip("_").replace("_", " ")
        mend = error.hint if isinstance(error, ContinuumError) else ""
        if mend == "continuum doctor":
            mend = "install the program first"
        return Check(name, ok=False, detail=str(error), mend=mend)


def _programs() -> Iterator[Check]:
    for program, package, version in (
        ("lxc-start", "lxc", ("--version",)),
        ("mmdebstrap", "mmdebstrap", ("--version",)),
        ("iptables-restore", "iptables", ("--version",)),
        ("ip", "iproute2", ("-V",)),
        ("ssh", "openssh-client", ("-V",)),
        ("setpriv", "util-linux", ("--version",)),
        ("sysctl", "procps", ("--version",)),
    ):
        mend = f"apt-get install -y {package}"
        if shutil.which(program) is None:
            yield Check(program, ok=False, detail="not installed", mend=mend)
            continue
        result = run_on_host(Command((program, *version), timeout=10))
        said = result.last_output.partition("\n")[0]
        yield Check(program, ok=result.exit_code == 0, detail=said, mend=mend)


def _sources() -> Check:
    host = sources.read()
    suites = ", ".join(entry.suite for entry in host.entries)
    return Check("package sources", ok=True, detail=f"{host.distribution}: {suites}")


def _pip() -> Check:
    result = run_on_host(Command((sys.executable, "-m", "pip", "--version"), timeout=30))
    return Check(
        "pip",
        ok=result.exit_code == 0,
        detail=result.last_output.partition("\n")[0],
        mend="apt-get install -y python3-venv, then remove Continuum's environment",
    )


def _disk_space() -> Check:
    cache, state = folders.cache_folder(), folders.state_folder()
    least = min(store.free(cache), store.free(state))
    return Check(
        "disk space",
        ok=least >= _IMAGE_ROOM,
        detail=f"{show_bytes(least)} free for images and machines",
        mend=f"free {show_bytes(_IMAGE_ROOM)} under {cache} and {state}, "
        "or set XDG_CACHE_HOME and XDG_STATE_HOME",
    )


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


def _firewall() -> Check:
    """A chain with all matches that our rules use, made and removed at one stroke."""
    chain = f"ctm-doctor-{os.getpid()}"
    trial = (
        f"*filter\n:{chain} - [0:0]\n"
        f'-A {chain} -i ctm0 -m conntrack --ctstate ESTABLISHED -m comment --comment "a" -j DROP\n'
        f"-F {chain}\n-X {chain}\nCOMMIT\n"
    )
    command = ("iptables-restore", "--noflush", "--wait", "10")
    result = run_on_host(Command(command, input=trial.encode(), timeout=_TRIAL_LIMIT))
    return Check(
        "firewall",
        ok=result.exit_code == 0,
        detail="rules can be set" if result.exit_code == 0 else result.last_output,
        mend="modprobe nf_conntrack xt_conntrack xt_comment",
    )


def _interfaces() -> Check:
    """A bridge and a pair of interfaces, in a network namespace that ends with the trial."""
    batch = (
        "link add ctmtrial type bridge\n"
        "link add ctmtrial0 type veth peer name ctmtrial1\n"
        "link set ctmtrial0 master ctmtrial\n"
    )
    command = ("unshare", "--net", "ip", "-batch", "-")
    result = run_on_host(Command(command, input=batch.encode(), timeout=_TRIAL_LIMIT))
    return Check(
        "bridge and veth",
        ok=result.exit_code == 0,
        detail="can be made" if result.exit_code == 0 else result.last_output,
        mend="modprobe bridge veth",
    )


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
        command = (
            "lxc-start",
            "--foreground",
            f"--lxcpath={folder}",
            f"--name={name}",
            f"--logfile={log}",
            "--logpriority=ERROR",
        )
        result = run_on_host(Command(command, timeout=_TRIAL_LIMIT))
        for left in cgroups.folders_of(cgroups.detect(), group):
            cgroups.remove(left)
        store.remove(Path("/run/lxc/lock", str(folder).lstrip("/")))
        ok = result.exit_code == 0
        said = containers.last_lines(log, 4) or result.last_output
    return Check(
        "container",
        ok=ok,
        detail="one started on overlay, with limits" if ok else said,
        mend="the lines above are LXC's own; a state folder on ext4, xfs or btrfs, and root "
        "outside of other containers, are what it needs",
    )


def _trial_config(lower: Path, place: Path, group: str) -> str:
    folder = place.parent
    host = Host(cgroups.detect(), disks.disk_of(folder))
    spec = MachineSpec(
        name="trial",
        tier="trial",
        address="10.0.0.2",
        mac="02:00:00:00:00:02",
        cores=1,
        quota=0.5,
        memory=64 * 2**20,
        disk_read=10**9,
        disk_write=10**9,
        pinned_cores=(min(os.sched_getaffinity(0)),),
    )
    lines = [
        f"lxc.rootfs.path = overlay:{lower}:{place / 'upper'}",
        "lxc.init.cmd = /usr/bin/true",
        "lxc.apparmor.profile = unconfined",
        "lxc.autodev = 1",
        "lxc.net.0.type = empty",
        "lxc.mount.auto = proc:mixed sys:mixed cgroup:rw:force",
        "lxc.mount.entry = /usr usr none bind,ro",
        f"lxc.cgroup.dir.container = {group}/machine",
        "lxc.cgroup.dir.container.inner = inside",
        f"lxc.cgroup.dir.monitor = {group}/monitor",
        f"lxc.cgroup.dir.monitor.pivot = {group}/.pivot",
        *config.limits(spec, host),
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
    return Check(
        "link emulation",
        ok=able,
        detail="; ".join(said),
        mend="modprobe sch_netem, or modprobe xt_NFQUEUE nfnetlink_queue",
        needed=False,
    )
