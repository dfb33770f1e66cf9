"""Checks that several providers need, each by trying it. None leaves anything behind."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence

from continuum import folders
from continuum.errors import ContinuumError
from continuum.experiment.units import show_bytes
from continuum.images import sources, store
from continuum.infrastructure.host import other_filters, port_filter
from continuum.infrastructure.providers.contract import Check
from continuum.machine import Command, run_on_host

IMAGE_ROOM = 2 * 2**30
TRIAL_LIMIT = 20.0

Programs = Sequence[tuple[str, str, tuple[str, ...]]]
"""Program, Debian package, and the arguments with which it tells its version."""


def all_of(wanted: Programs, tried: Sequence[Callable[[], Check]]) -> list[Check]:
    """Root and programs; and, as root, everything else that can be tried."""
    if os.geteuid() != 0:
        return [
            Check("root", ok=False, detail="we are not root", mend="run the same with sudo"),
            *programs(wanted),
        ]
    return [
        Check("root", ok=True, detail="yes"),
        *programs(wanted),
        *(safely(each) for each in tried),
    ]


def safely(check: Callable[[], Check]) -> Check:
    """A check whose trial itself failed is a check that failed."""
    try:
        return check()
    except (ContinuumError, OSError) as error:
        name = check.__name__.strip("_").replace("_", " ")
        mend = error.hint if isinstance(error, ContinuumError) else ""
        if mend == "continuum doctor":
            mend = "install the program first"
        return Check(name, ok=False, detail=str(error), mend=mend)


def closed_ports() -> Check:
    """Machines' ports can be closed to what no link speaks of."""
    said = port_filter.probe()
    return Check(
        "closed ports",
        ok=said is None,
        detail=said or "a filter of BPF on an interface works",
        mend="modprobe cls_bpf sch_ingress; links need a kernel that has both",
        needed=False,
    )


def programs(wanted: Programs) -> Iterator[Check]:
    """Each program is there and runs."""
    for program, package, version in wanted:
        mend = f"apt-get install -y {package}"
        if shutil.which(program) is None:
            yield Check(program, ok=False, detail="not installed", mend=mend)
            continue
        result = run_on_host(Command((program, *version), timeout=10))
        said = result.last_output.partition("\n")[0]
        yield Check(program, ok=result.exit_code == 0, detail=said, mend=mend)


def package_sources() -> Check:
    """The host has sources of packages of its own release."""
    host = sources.read()
    suites = ", ".join(entry.suite for entry in host.entries)
    made = f"; this host is {host.made_into}, made from it" if host.made_into else ""
    return Check("package sources", ok=True, detail=f"{host.distribution}: {suites}{made}")


def pip() -> Check:
    """Pip works."""
    result = run_on_host(Command((sys.executable, "-m", "pip", "--version"), timeout=30))
    return Check(
        "pip",
        ok=result.exit_code == 0,
        detail=result.last_output.partition("\n")[0],
        mend="apt-get install -y python3-venv, then remove Continuum's environment",
    )


def disk_space() -> Check:
    """There is room for an image and machines."""
    cache, state = folders.cache_folder(), folders.state_folder()
    least = min(store.free(cache), store.free(state))
    return Check(
        "disk space",
        ok=least >= IMAGE_ROOM,
        detail=f"{show_bytes(least)} free for images and machines",
        mend=f"free {show_bytes(IMAGE_ROOM)} under {cache} and {state}, "
        "or set XDG_CACHE_HOME and XDG_STATE_HOME",
    )


def firewall() -> Check:
    """A chain with all matches that our rules use, made and removed at one stroke."""
    chain = f"ctm-doctor-{os.getpid()}"
    trial = (
        f"*filter\n:{chain} - [0:0]\n"
        f'-A {chain} -i ctm0 -m conntrack --ctstate ESTABLISHED -m comment --comment "a" -j DROP\n'
        f"-F {chain}\n-X {chain}\nCOMMIT\n"
    )
    command = ("iptables-restore", "--noflush", "--wait", "10")
    result = run_on_host(Command(command, input=trial.encode(), timeout=TRIAL_LIMIT))
    return Check(
        "firewall",
        ok=result.exit_code == 0,
        detail="rules can be set" if result.exit_code == 0 else result.last_output,
        mend="modprobe nf_conntrack xt_conntrack xt_comment",
    )


def other_firewalls() -> Check:
    """No other chain of this host drops what machines send."""
    drops = other_filters.found()
    return Check(
        "other firewalls",
        ok=not drops,
        detail="; ".join(map(str, drops)) or "none drops what machines send",
        mend="; ".join(each.mend for each in drops),
        needed=any(each.within for each in drops),
    )


def interfaces() -> Check:
    """A bridge and a pair of interfaces, in a network namespace that ends with the trial."""
    batch = (
        "link add ctmtrial type bridge\n"
        "link add ctmtrial0 type veth peer name ctmtrial1\n"
        "link set ctmtrial0 master ctmtrial\n"
    )
    command = ("unshare", "--net", "ip", "-batch", "-")
    result = run_on_host(Command(command, input=batch.encode(), timeout=TRIAL_LIMIT))
    return Check(
        "bridge and veth",
        ok=result.exit_code == 0,
        detail="can be made" if result.exit_code == 0 else result.last_output,
        mend="modprobe bridge veth",
    )
