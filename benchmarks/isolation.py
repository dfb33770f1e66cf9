"""Cost of a user namespace for each machine: machines started with and without, in turn.

    benchmarks/run isolation [MACHINES [TIMES]]

Needs root. `continuum up` of MACHINES machines (100 when left out) until SSH answers on all, TIMES
times (3) each, the two kinds in turn on the same image; without user namespaces as on a host whose
kernel has none.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "src"), str(REPOSITORY)]

from benchmarks.shared.deployments import machines_folder, run  # noqa: E402  path set above

from continuum.infrastructure.providers.lxc import containers  # noqa: E402

LIMIT = 600
RATIO = 1.2
PRIVILEGED = """
import sys
from continuum.cli.main import main
from continuum.infrastructure.providers.lxc import isolation
isolation.obstacle = lambda: "the benchmark wants it so"
main()
"""


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    times = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    # Whoever ends it ends what it has up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        try:
            # The image and the host's caches: both find them warm.
            up(state, "warm", 1, mapped=True)
            for _ in range(times):
                for mapped in (True, False):
                    seconds[mapped].append(up(state, "many", count, mapped=mapped))
                    kinds = {
                        containers.is_mapped(each.lxc_path / each.name)
                        for each in containers.running(machines_folder(state, "many"))
                    }
                    assert kinds == {mapped}, kinds
                    run(state, "down", "many", limit=LIMIT)
        finally:
            run(state, "down", "--all", limit=LIMIT)
    medians = {mapped: statistics.median(each) for mapped, each in seconds.items()}
    print(f"machines                        {count:8d}")
    print(f"in user namespaces              {medians[True]:8.2f} s   {shown(seconds[True])}")
    print(f"as root of the host             {medians[False]:8.2f} s   {shown(seconds[False])}")
    print(
        f"ratio                           {medians[True] / medians[False]:8.2f}     (at most {RATIO})"
    )


def shown(seconds: list[float]) -> str:
    """All of them."""
    return " ".join(f"{each:.2f}" for each in seconds)


def up(state: Path, name: str, count: int, *, mapped: bool) -> float:
    """Bring machines up; seconds that the whole command took."""
    file = state / f"{name}.toml"
    file.write_text(f'name = "{name}"\n[tiers.edge]\nmachines = {count}\nmemory = "256 MiB"\n')
    program = ["-m", "continuum"] if mapped else ["-c", PRIVILEGED]
    began = time.monotonic()
    subprocess.run(
        [sys.executable, *program, "up", str(file)],
        env={
            **os.environ,
            "XDG_STATE_HOME": str(state),
            "PYTHONPATH": str(REPOSITORY / "src"),
        },
        check=True,
        capture_output=True,
        timeout=LIMIT,
    )
    return time.monotonic() - began


if __name__ == "__main__":
    main()
