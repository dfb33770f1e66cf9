"""Times that a person waits for: the launcher, `validate`, a second `up`, and the example's `run`.

    benchmarks/run command_line

Needs root and a warm cache: run the example once before. Each figure is printed beside its floor:
an empty Python for the launcher and `validate`, the declared load for `run`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
LAUNCHER = str(REPOSITORY / "continuum")
EXAMPLE = str(REPOSITORY / "examples" / "edge-offload" / "experiment.toml")
LOAD = ("--set", "benchmark.warmup=2s", "--set", "benchmark.duration=10s")
LOAD_SECONDS = 12.0


def seconds(arguments: list[str], folder: str) -> float:
    """Wall time of a command that has to succeed."""
    environment = {**os.environ, "XDG_STATE_HOME": folder}
    began = time.monotonic()
    ended = subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    took = time.monotonic() - began
    if ended.returncode != 0:
        sys.exit(f"{' '.join(arguments)} ended with {ended.returncode}\n{ended.stderr}")
    return took


def median(arguments: list[str], folder: str, runs: int) -> float:
    """Median of several runs, after one that is not counted."""
    seconds(arguments, folder)
    return statistics.median(seconds(arguments, folder) for _ in range(runs))


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        python = median([sys.executable, "-c", "pass"], folder, 9)
        version = median([LAUNCHER, "--version"], folder, 9)
        validate = median([LAUNCHER, "validate", EXAMPLE], folder, 9)
        print(f"an empty Python                     {python:7.3f} s")
        print(f"launcher and `--version`            {version:7.3f} s  ({version / python:.1f} ×)")
        print(f"`validate` of one file              {validate:7.3f} s  (at most 0.4 s)")
        four = ("--set", "tiers.edge.machines=2")
        first = seconds([LAUNCHER, "up", EXAMPLE, *four], folder)
        second = median([LAUNCHER, "up", EXAMPLE, *four], folder, 5)
        print(f"`up` of 4 machines, image cached    {first:7.3f} s")
        print(f"`up` again, nothing to change       {second:7.3f} s  (at most 1 s)")
        seconds([LAUNCHER, "down", "edge-offload"], folder)
        run = seconds([LAUNCHER, "run", EXAMPLE, *LOAD, "--down"], folder)
        beside = run - LOAD_SECONDS
        print(
            f"`run` of the example                {run:7.3f} s  "
            f"(at most 30 s; {beside:.1f} s beside {LOAD_SECONDS:g} s of load)"
        )


if __name__ == "__main__":
    main()
