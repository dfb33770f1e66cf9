"""How far the clocks of machines are from each other, and how well that is known, over 30 s.

    benchmarks/run clocks [NAME]

Needs root. NAME is a deployment that is up. Without it three virtual machines are brought up first,
which have clocks of their own, and removed again. Each figure is one reading as a run takes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "src"))

from continuum import existing  # noqa: E402  path set above
from continuum.events import Events  # noqa: E402
from continuum.infrastructure.clocks import ClockReading, measure  # noqa: E402

LAUNCHER = str(REPOSITORY / "continuum")
EXPERIMENT = """
name = "clocks"
[infrastructure]
provider = "libvirt"
[tiers.cloud]
machines = 1
[tiers.edge]
machines = 1
[tiers.endpoint]
machines = 1
[software]
"""
SECONDS = 30.0
READINGS = 7
LIMIT_MS = 1.0


def main() -> None:
    """Print the figures."""
    if len(sys.argv) > 1:
        watch(sys.argv[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder
        file = Path(folder) / "clocks.toml"
        file.write_text(EXPERIMENT)
        try:
            subprocess.run([LAUNCHER, "up", str(file)], check=True)
            watch("clocks")
        finally:
            subprocess.run([LAUNCHER, "down", "--all"], check=True)


def watch(name: str) -> None:
    """Read the clocks of a deployment's machines again and again."""
    machines = existing.machines(name, (), Events())
    began = time.monotonic()
    readings: list[ClockReading] = []
    print(f"{'s':>5}  {'machine':20} {'offset, ms':>12} {'bound, ms':>12}")
    for number in range(READINGS):
        time.sleep(max(0.0, began + number * SECONDS / (READINGS - 1) - time.monotonic()))
        readings = measure(machines)
        for each in readings:
            print(
                f"{time.monotonic() - began:5.1f}  {each.machine:20} {each.offset_ns / 1e6:+12.4f} "
                f"{each.bound_ns / 1e6:12.4f}" + ("" if each.datagrams else "  (no datagrams)")
            )
    print()
    print(f"after {SECONDS:g} s, between two machines")
    highest = max(readings, key=lambda each: each.highest_ns)
    lowest = min(readings, key=lambda each: each.lowest_ns)
    wide = sum(sorted((each.bound_ns for each in readings), reverse=True)[:2]) / 1e6
    apart = (highest.highest_ns - lowest.lowest_ns) / 1e6
    print(f"bound of the difference   {wide:8.3f} ms  (at most {LIMIT_MS:g})")
    print(f"clocks differ by at most  {apart:8.3f} ms")


if __name__ == "__main__":
    main()
