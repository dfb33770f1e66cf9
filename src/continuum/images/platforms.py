"""Choice of the container image that this host's machines run, of several: system, processor, its level."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from pydantic import BaseModel

from continuum.images.sources import architecture

SYSTEM = "linux"

_CPUINFO = Path("/proc/cpuinfo")
# The levels of x86-64's psABI, by the flags that each adds in /proc/cpuinfo.
_AMD64 = {
    2: {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"},
    3: {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"},
    4: {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"},
}
# What Arm's later versions cannot be without.
_ARM64 = {8.1: {"atomics"}, 9.0: {"sve2"}}
_VARIANT = re.compile(r"v(\d+(?:\.\d+)?)")


class Platform(BaseModel):
    """Platform that an image says that it is for; `variant` is as `v3`."""

    os: str | None = None
    architecture: str | None = None
    variant: str | None = None

    def __str__(self) -> str:
        parts = (self.os or SYSTEM, self.architecture or architecture(), self.variant)
        return "/".join(part[:20] for part in parts if part)


HERE = Platform(os=SYSTEM)


def fit(platform: Platform | None) -> float | None:
    """Fitness of an image for this host, the more the better; None when its programs do not run.

    One that does not say what it is for may fit, and worse than any that does.
    """
    if platform is None:
        return 0.0
    here = architecture()
    if (platform.os or SYSTEM) != SYSTEM or (platform.architecture or here) != here:
        return None
    least = 8.0 if here == "arm64" else 1.0
    match = _VARIANT.fullmatch(platform.variant or f"v{least:g}")
    level = float(match[1]) if match else None
    return level if level is not None and level <= processor_level() else None


def processor_level() -> float:
    """As 3 for what x86-64-v3 programs run on, as 8.1 for what those for Arm v8.1 do."""
    return level_of(architecture(), _flags())


def level_of(machine: str, flags: frozenset[str]) -> float:
    """The highest level of which a processor has all, and all below."""
    level, levels = (8.0, _ARM64) if machine == "arm64" else (1.0, _AMD64)
    for above, needed in levels.items():
        if not needed <= flags:
            break
        level = float(above)
    return level


@cache
def _flags() -> frozenset[str]:
    for line in _CPUINFO.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()
