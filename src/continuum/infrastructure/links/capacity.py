"""The number of frames that the user-space emulator can judge one by one, and links beyond it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from continuum import native
from continuum.errors import NotPossibleHere
from continuum.infrastructure.links import process
from continuum.infrastructure.links.rules import FRAME, by_frames, bytes_per_second
from continuum.infrastructure.plan import InfrastructurePlan, Link

COMPILED = 200_000
"""Frames a second of one core, as `benchmarks/run links` measures them; it prints the present ones."""

PYTHON = 10_000
"""The same of the program in Python, when frames come one by one."""


def refuse(plan: InfrastructurePlan) -> None:
    """Refuse a link whose own rate is more than one core can carry frame by frame.

    Raises:
        NotPossibleHere: names the link.
    """
    for link in plan.network.links:
        if by_frames(link.settings) and _frames(link) > COMPILED:
            raise NotPossibleHere(
                f"link {link.source} to {link.destination}: {link.settings.rate_mbit:g} Mbit/s are "
                f"{_frames(link):,.0f} full frames a second, and a core judges {COMPILED:,} one by one",
                where="network.links",
                hint=f"at most {_mbit(COMPILED):,.0f} Mbit/s, or neither loss nor jitter: then the "
                "kernel's large packets stay whole",
            )


def exceeds(links: Sequence[Link]) -> bool:
    """Tell whether the user-space emulator would refuse one of these links."""
    return any(by_frames(link.settings) and _frames(link) > COMPILED for link in links)


def remarks(plan: InfrastructurePlan, *, own_kernels: bool) -> list[str]:
    """Remarks for a person on how links are emulated here; looks for a compiler only.

    `own_kernels` says that machines have such, and so links are emulated in them.
    """
    links, name = plan.network.links, plan.network.emulator
    if name not in {"auto", "netem", "nfqueue"}:
        return []
    found = []
    jittery = [link for link in links if link.settings.jitter_ms]
    compiled = _can_be_compiled()
    if jittery and (name == "netem" or (name == "auto" and own_kernels)):
        found.append(
            f"{_ends(jittery)}: netem draws the jitter of each packet anew and keeps order, which "
            "lifts the mean delay where packets come closer together than the jitter is wide; "
            'network.emulator = "nfqueue" does not'
        )
    elif jittery and name == "auto" and compiled and not exceeds(links):
        found.append(
            f"{_ends(jittery)}: with jitter the emulator is nfqueue where the kernel has packet "
            "queues, netem where it has none: its mean delay is the one asked for at every packet rate"
        )
    if name != "netem" and not compiled and any(by_frames(link.settings) for link in links):
        found.append(
            "without a C compiler (apt-get install gcc libc6-dev) the user-space emulator is the one in "
            f"Python: a core judges some {PYTHON:,} frames a second instead of {COMPILED:,}, "
            f"{_mbit(PYTHON):.0f} Mbit/s in all links with loss or jitter together"
        )
    near = [link for link in jittery if link.settings.jitter_ms > link.settings.delay_ms / 3]
    if near and name != "netem":
        found.append(
            f"{_ends(near)}: the jitter is more than a third of the delay, so that part of its normal "
            "distribution is below 0 and cut off; it is moved so that mean and deviation after "
            "that are those asked for"
        )
    return found


def _can_be_compiled() -> bool:
    return shutil.which("cc") is not None or native.program(process.PROGRAM) is not None


def _frames(link: Link) -> float:
    """Full frames a second at the link's own rate; 0 without one."""
    return bytes_per_second(link.settings.rate_mbit or 0.0) / FRAME


def _mbit(frames: int) -> float:
    return frames * FRAME * 8 / 1e6


def _ends(links: Sequence[Link]) -> str:
    """The first links by their ends, and how many more."""
    named = ", ".join(f"{link.source} to {link.destination}" for link in links[:3])
    return named + (f" and {len(links) - 3} more" if len(links) > 3 else "")
