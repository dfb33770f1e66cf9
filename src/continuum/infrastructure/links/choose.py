"""Which emulator carries the links on this host: found by trying, never by a version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from continuum import native, plugins
from continuum.errors import NotPossibleHere
from continuum.infrastructure.links import capacity, process
from continuum.infrastructure.links.contract import LinkEmulator
from continuum.infrastructure.plan import Link
from continuum.machine import Command, Result, run_on_host
from continuum.parallel import for_each

ORDER = ("netem", "nfqueue")
"""What `auto` tries: the kernel's own first, which costs no processor time in user space."""


def order(links: Sequence[Link]) -> tuple[str, ...]:
    """The emulators that `auto` tries for these links, in turn.

    With jitter the compiled user-space emulator comes first: its jitter has the mean and the
    deviation asked for at every packet rate, netem's only where packets are far apart. Machines
    with kernels of their own are asked for no links: there it would take from their own cores.
    """
    jitter = any(link.settings.jitter_ms for link in links)
    if jitter and not capacity.exceeds(links) and native.program(process.PROGRAM) is not None:
        return ORDER[::-1]
    return ORDER


def choose(
    name: str,
    run: Callable[[Command], Result] = run_on_host,
    where: str = "this host",
    links: Sequence[Link] = (),
) -> LinkEmulator:
    """The emulator of that name, or for `auto` the first for these links that a kernel can carry.

    `run` carries out commands where that kernel is, which is called `where` in errors.

    Raises:
        NotPossibleHere: the kernel cannot carry it; says why, for each one tried.
        UsageError: there is no such emulator.
    """
    return choose_for_all(name, {where: run}, links)


def choose_for_all(
    name: str, kernels: Mapping[str, Callable[[Command], Result]], links: Sequence[Link] = ()
) -> LinkEmulator:
    """The emulator of that name, or for `auto` the first that all of several kernels can carry.

    One for all of them: what one emulator does at the sender another does at the receiver.
    `kernels` holds what carries out commands there, by what they are called in errors.

    Raises:
        NotPossibleHere: some kernel cannot carry it; says why, for each one tried.
        UsageError: there is no such emulator.
    """
    reasons: list[str] = []
    unfit: dict[str, None] = {}
    for each in order(links) if name == "auto" else (name,):
        emulator: LinkEmulator = plugins.load("emulators", each)()
        found = dict(zip(kernels, for_each(emulator.probe, list(kernels.values())), strict=True))
        missing = {where: reason for where, reason in found.items() if reason is not None}
        if not missing:
            return emulator
        unfit |= dict.fromkeys(missing)
        reasons += [
            f"{each}: {reason}" if len(kernels) == 1 else f"{where}: {each}: {reason}"
            for where, reason in missing.items()
        ]
    raise NotPossibleHere(
        f"{', '.join(unfit)} cannot emulate links",
        where="a network namespace made to try it",
        output="\n".join(reasons),
        hint="run as root, on a kernel with sch_netem (`modprobe sch_netem`) or with packet "
        "queues (`modprobe nfnetlink_queue xt_NFQUEUE`), with the Debian packages iproute2 and "
        "iptables",
    )
