"""How long machines take from nothing until SSH answers on all, beside a plain loop of lxc-start.

    benchmarks/run machines [MACHINES]

Needs root. Both sides are measured in this run, on the same machine image: `continuum up` of an
experiment of MACHINES machines (100 when left out), and a loop that does nothing but start the
same containers one after the other and wait for SSH. Then a second `up` of 4 machines.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "src"), str(REPOSITORY)]

from benchmarks.shared.deployments import addresses, machines_folder, names, run  # noqa: E402

from continuum.images import store  # noqa: E402  path set above
from continuum.infrastructure.host.ssh_wait import wait_for_banners  # noqa: E402  path set above
from continuum.infrastructure.providers.lxc import containers, isolation  # noqa: E402

LIMIT = 600
FLOOR_RATIO = 1.3
MEMORY_MIB = 10
SECOND_UP = 1.0


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        try:
            # The image and the host's caches: both sides find them warm.
            up(state, "warm", 1)
            down(state, "warm")
            before = available_mib()
            ours = up(state, "many", count)
            memory = (before - available_mib()) / count
            containers.end(containers.running(machines_folder(state, "many")))
            loop = plain_loop(state)
            down_seconds = down(state, "many")
            up(state, "four", 4)
            second = min(up(state, "four", 4) for _ in range(5))
        finally:
            run(state, "down", "--all", limit=LIMIT)
    print(f"machines                               {count:8d}")
    print(f"continuum up, SSH on all               {ours:8.2f} s")
    print(f"plain loop of lxc-start, SSH on all    {loop:8.2f} s")
    print(f"ratio                                  {ours / loop:8.2f}    (at most {FLOOR_RATIO})")
    print(f"memory per machine                     {memory:8.2f} MiB (at most {MEMORY_MIB})")
    print(f"continuum down                         {down_seconds:8.2f} s")
    print(f"second up of 4 machines, best of 5     {second:8.2f} s  (below {SECOND_UP:g})")


def plain_loop(state: Path) -> float:
    """Start the same containers with nothing of ours around it."""
    lxc_path = machines_folder(state, "many")
    machines, reached = names(state, "many"), addresses(state, "many")
    plan = json.loads((lxc_path.parent / "plan" / "infrastructure.json").read_text())
    layers = store.find(plan["image"]).layers
    program = shutil.which("lxc-start")
    assert program is not None
    began = time.monotonic()
    for name in machines:
        folder = lxc_path / name
        command: tuple[str, ...] = (program, "--daemon", f"--lxcpath={lxc_path}", f"--name={name}")
        mapped = re.search(r"lxc.idmap = u 0 (\d+)", (folder / "config").read_text())
        if mapped:
            first = int(mapped[1])
            command = isolation.mapped(first, folder, folder / "hook", layers, command)
        subprocess.run(command, check=True, timeout=60)
    silent = wait_for_banners(reached, LIMIT)
    assert not silent, silent
    return time.monotonic() - began


def up(state: Path, name: str, count: int) -> float:
    """Bring machines up; seconds that the whole command took."""
    file = state / f"{name}.toml"
    file.write_text(f'name = "{name}"\n[tiers.edge]\nmachines = {count}\nmemory = "256 MiB"\n')
    return run(state, "up", str(file), limit=LIMIT)


def down(state: Path, name: str) -> float:
    """Remove them; seconds."""
    return run(state, "down", name, limit=LIMIT)


def available_mib() -> float:
    """Memory that programs could still have."""
    text = Path("/proc/meminfo").read_text()
    found = re.search(r"MemAvailable:\s+(\d+)", text)
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    main()
