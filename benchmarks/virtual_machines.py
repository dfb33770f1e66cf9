"""How long three virtual machines take from nothing until SSH answers, beside `virsh start`.

    benchmarks/run virtual_machines [MACHINES]

Needs root. Both sides are measured in this run, on the same disks and definitions: `continuum up`,
and a loop that does nothing but start the same virtual machines, switched off before, one after the
other, and wait for SSH. Then the time and size of one machine's own disk.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "src"), str(REPOSITORY)]

from benchmarks.shared.deployments import (  # noqa: E402
    LAUNCHER,
    addresses,
    machines_folder,
    names,
    run,
)

from continuum.infrastructure.host.ssh_wait import wait_for_banners  # noqa: E402  path set above
from continuum.infrastructure.providers.libvirt import disk  # noqa: E402

LIMIT = 900
PAIRS = 3
FLOOR_RATIO = 1.2
DISK_SECONDS = 0.2
DISK_MIB = 1.0


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        try:
            # The image and the host's caches: both sides find them warm.
            up(state, "warm", 1)
            pairs = []
            for _ in range(PAIRS):
                run(state, "down", "--all", limit=LIMIT)
                pairs.append((*until_ssh(state, "many", count), plain_loop(state)))
            second = up(state, "many", count)
            seconds, size = own_disk(state)
            down_seconds = run(state, "down", "many", limit=LIMIT)
        finally:
            run(state, "down", "--all", limit=LIMIT)
    ours, whole, loop = map(statistics.median, zip(*pairs, strict=True))
    ratio = statistics.median(ours / loop for ours, _, loop in pairs)
    ratios = ", ".join(f"{ours / loop:.2f}" for ours, _, loop in pairs)
    print(f"virtual machines, median of {PAIRS} pairs    {count:8d}")
    print(f"continuum up, SSH on all               {ours:8.2f} s")
    print(f"the whole command, links too            {whole:8.2f} s")
    print(f"plain loop of virsh start, SSH on all  {loop:8.2f} s")
    print(
        f"ratio                                  {ratio:8.2f}     (at most {FLOOR_RATIO}; {ratios})"
    )
    print(f"a machine's own disk, made in          {seconds:8.3f} s   (below {DISK_SECONDS})")
    print(f"its size                               {size:8.3f} MiB (below {DISK_MIB})")
    print(f"second up                              {second:8.2f} s")
    print(f"continuum down                         {down_seconds:8.2f} s")


def until_ssh(state: Path, name: str, count: int) -> tuple[float, float]:
    """Bring machines up; seconds until SSH answered on all, and until the command ended."""
    began = time.monotonic()
    answered = 0.0
    with subprocess.Popen(
        [LAUNCHER, "up", str(experiment(state, name, count))],
        env={**os.environ, "XDG_STATE_HOME": str(state)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("done") and "infrastructure: machines" in line:
                answered = time.monotonic() - began
        if process.wait(LIMIT) != 0 or not answered:
            raise SystemExit("the machines did not come up")
    return answered, time.monotonic() - began


def plain_loop(state: Path) -> float:
    """Start the same virtual machines with nothing of ours around it."""
    machines, reached = names(state, "many"), addresses(state, "many")
    for name in machines:
        virsh("destroy", name)
    began = time.monotonic()
    for name in machines:
        virsh("start", name)
    silent = wait_for_banners(reached, LIMIT)
    assert not silent, silent
    return time.monotonic() - began


def own_disk(state: Path) -> tuple[float, float]:
    """Seconds to make a machine's own disk, and its size in MiB: median of five."""
    there = next(machines_folder(state, "many").glob("ctm-*/disk.qcow2"))
    shown = subprocess.run(
        ["qemu-img", "info", "--force-share", str(there)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    found = re.search(r"^backing file: (.*)$", shown, re.MULTILINE)
    assert found is not None
    times = []
    new = state / "disk.qcow2"
    for _ in range(5):
        began = time.monotonic()
        disk.make_overlay(Path(found[1]), new)
        times.append(time.monotonic() - began)
    return statistics.median(times), new.stat().st_blocks * 512 / 2**20


def virsh(*arguments: str) -> None:
    """Run libvirt's own command."""
    command = ["virsh", "--quiet", "--connect", "qemu:///system", *arguments]
    subprocess.run(command, check=True, timeout=60, capture_output=True)


def up(state: Path, name: str, count: int) -> float:
    """Bring machines up; seconds that the whole command took."""
    return run(state, "up", str(experiment(state, name, count)), limit=LIMIT)


def experiment(state: Path, name: str, count: int) -> Path:
    """A file of that many machines and nothing else."""
    file = state / f"{name}.toml"
    file.write_text(
        f'name = "{name}"\n[infrastructure]\nprovider = "libvirt"\n'
        f'[tiers.edge]\nmachines = {count}\nmemory = "512 MiB"\n'
    )
    return file


if __name__ == "__main__":
    main()
