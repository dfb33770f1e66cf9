"""The rate that this host can send without any link: measured once, and kept in the cache.

It belongs to a boot, a kernel and a number of cores; another of these and it is measured anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from continuum import folders, state_file
from continuum.errors import ContinuumError
from continuum.infrastructure.links.process import environment
from continuum.infrastructure.plan import Link
from continuum.machine import Command, run_on_host

EASY_MBIT = 200.0
"""A rate that every host can send: for links up to it nothing is measured."""

MODULE = "continuum_runtime.host_rate"
TIMEOUT = 60.0
BOOT = Path("/proc/sys/kernel/random/boot_id")


def known() -> float | None:
    """The rate in Mbit/s, None when it has not been measured."""
    found = state_file.kept(_file(), state_file.OBJECT) or {}
    rate = found.get("mbit")
    return float(rate) if isinstance(rate, int | float) else None


def measured() -> float | None:
    """The rate in Mbit/s, measured now when it was not; None where it cannot be."""
    found = known()
    if found is not None:
        return found
    command = Command(
        ("unshare", "--net", sys.executable, "-m", MODULE),
        environment=environment(),
        timeout=TIMEOUT,
    )
    try:
        rate = float(run_on_host(command).check().text)
    except (ContinuumError, ValueError):
        return None
    folders.write_file(_file(), json.dumps({"mbit": rate}))
    return rate


def remark(links: Sequence[Link]) -> str:
    """A remark for a person on links that are faster than this host; "" when there are none."""
    rate = known()
    beyond = [each for each in links if rate and (each.settings.rate_mbit or 0) > rate]
    if rate is None or not beyond:
        return ""
    shown = ", ".join(f"{each.source} → {each.destination}" for each in beyond[:3])
    more = f" and {len(beyond) - 3} more" if len(beyond) > 3 else ""
    return (
        f"this host sends {rate:.0f} Mbit/s even without a link: less than what is asked for of "
        f"{shown}{more}"
    )


def _file() -> Path:
    try:
        boot = BOOT.read_text().strip()
    except OSError:
        boot = ""
    cores = len(os.sched_getaffinity(0))
    text = "\0".join((boot, platform.release(), platform.version(), str(cores)))
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    return folders.cache_folder() / f"host-rate-{key}.json"
