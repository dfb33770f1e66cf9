"""The sentinel's use of each core, and its view of this host: idle, and with every core busy.

    benchmarks/run sentinel [--seconds 10]

It may take 1 % of a core. What is measured is the processor time of its threads, by the kernel's scheduler.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from continuum.infrastructure.host import sentinel
from continuum.infrastructure.host.sentinel import Lateness

LIMIT_PERCENT = 1.0
WARM_UP = 1.0
"""Seconds until it has found out what a wake-up costs."""


@contextmanager
def every_core_busy() -> Iterator[None]:
    """A loop on each core."""
    loops = [
        subprocess.Popen((sys.executable, "-c", "while True: pass"))
        for _ in os.sched_getaffinity(0)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def spent() -> float:
    """Seconds of processor that the sentinels that we started have used."""
    seconds = 0.0
    for entry in Path("/proc").glob("[0-9]*/task/[0-9]*"):
        try:
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid() and b"sentinel" in (entry / "cmdline").read_bytes():
                seconds += int((entry / "schedstat").read_text().split()[0]) / 1e9
        except OSError:
            continue
    return seconds


def measure(seconds: float) -> tuple[float, Lateness]:
    """Percent of a core that it took on each, and what it saw."""
    with sentinel.running() as ask:
        time.sleep(WARM_UP)
        ask(b"\n")
        before, began = spent(), time.monotonic()
        time.sleep(seconds)
        seen = Lateness().add(ask(b"\n"))
        used, passed = spent() - before, time.monotonic() - began
    return 100 * used / passed / len(os.sched_getaffinity(0)), seen


def main() -> None:
    """Print both, and say whether the limit holds."""
    parser = argparse.ArgumentParser(description="What the sentinel takes, and sees.")
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    idle = measure(seconds)
    with every_core_busy():
        busy = measure(seconds)
    print("host   % of a core  every, ms  late p50, ms     p99     max  stalls")
    for name, (percent, seen) in (("idle", idle), ("busy", busy)):
        print(
            f"{name}   {percent:11.2f} {seen.period_ms:10.0f} {seen.percentile(50) or 0:13.3f} "
            f"{seen.percentile(99) or 0:7.3f} {seen.latest_ms:7.3f} {len(seen.stalls):7}"
        )
    if max(idle[0], busy[0]) >= LIMIT_PERCENT:
        sys.exit(f"more than {LIMIT_PERCENT:g} % of a core")


if __name__ == "__main__":
    main()
