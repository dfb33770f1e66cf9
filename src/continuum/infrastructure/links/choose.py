"""Which emulator carries the links on this host: found by trying, never by a version."""

from __future__ import annotations

from collections.abc import Callable

from continuum import plugins
from continuum.errors import NotPossibleHere
from continuum.infrastructure.links.contract import LinkEmulator
from continuum.machine import Command, Result, run_on_host

ORDER = ("netem", "nfqueue")
"""What `auto` tries: the kernel's own first, which costs no processor time in user space."""


def choose(
    name: str, run: Callable[[Command], Result] = run_on_host, where: str = "this host"
) -> LinkEmulator:
    """The emulator of that name, or for `auto` the first that a kernel can carry.

    `run` carries out commands where that kernel is, which is called `where` in errors.

    Raises:
        NotPossibleHere: the kernel cannot carry it; says why, for each one tried.
        UsageError: there is no such emulator.
    """
    reasons = []
    for each in ORDER if name == "auto" else (name,):
        emulator: LinkEmulator = plugins.load("emulators", each)()
        reason = emulator.probe(run)
        if reason is None:
            return emulator
        reasons.append(f"{each}: {reason}")
    raise NotPossibleHere(
        f"{where} cannot emulate links",
        where="a network namespace made to try it",
        output="\n".join(reasons),
        hint="run as root, on a kernel with sch_netem (`modprobe sch_netem`) or with packet "
        "queues (`modprobe nfnetlink_queue xt_NFQUEUE`), with the Debian packages iproute2 and "
        "iptables",
    )
