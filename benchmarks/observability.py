"""What `observability` costs: latency and processor time with it and without, and time of `up`.

    benchmarks/run observability [--pairs 5] [--seconds 20] [--ups 2]

Needs root. Pairs of runs on the same machines, one with what measures and collects running, one with
it stopped in the warm-up, in changing order; then `up` of the same experiment with and without, images made.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from continuum.benchmark.samples import read_samples
from continuum.images.recipe import RUNTIME_FOLDER
from continuum.software.services.observability import PHASES, Observability

LAUNCHER = (sys.executable, "-m", "continuum")
EXPERIMENT = """
name = "observability"
[tiers.cloud]
memory = "1 GiB"
[tiers.edge]
cores = 2
quota = 0.75
memory = "2 GiB"
[tiers.endpoint]
cores = 1
quota = 0.5
memory = "1 GiB"
[network]
preset = "4g"
[software]
observability = {observability}
[benchmark]
application = "image_classification"
workers = "edge"
frequency = "5 Hz"
warmup = "10 s"
duration = "{seconds:g} s"
"""
MACHINES = ("cloud-1", "edge-1", "endpoint-1")
LATENCY_PERCENT, CPU_PERCENT, UP_SECONDS = 2.0, 3.0, 5.0
"""What is promised, at most."""

# One-sided 95 % quantiles of Student's t, by degrees of freedom.
_T95 = (math.inf, 6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)
_CPU = "from continuum_runtime.resources import machine_reader; print(machine_reader()().cpu_ns)"


class Bench:
    """A folder with the experiment, with and without."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder = folder
        self.seconds = seconds
        self.environment = {**os.environ, "XDG_STATE_HOME": str(folder), "NO_COLOR": "1"}
        for name in ("with", "without"):
            text = EXPERIMENT.format(observability=str(name == "with").lower(), seconds=seconds)
            (folder / f"{name}.toml").write_text(text)

    def continuum(self, *arguments: str) -> str:
        """Run a command; ends all when it fails."""
        ended = subprocess.run(
            (*LAUNCHER, *arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        if ended.returncode:
            sys.exit(f"{arguments} ended with {ended.returncode}\n{ended.stderr[-2000:]}")
        return ended.stdout

    def on(self, machine: str, *arguments: str) -> str:
        """Run a command on a machine."""
        return self.continuum("exec", "observability", machine, "--", *arguments)

    def switch(self, verb: str) -> None:
        """Start or stop all that measures and collects."""
        for machine in MACHINES:
            self.on(machine, "systemctl", verb, *Observability().logs)

    def cpu(self) -> dict[str, int]:
        """Processor time of each machine so far, in ns."""
        asked = ("env", f"PYTHONPATH={RUNTIME_FOLDER}", "python3", "-c", _CPU)
        return {machine: int(self.on(machine, *asked)) for machine in MACHINES}

    def await_phase(self, phase: str) -> None:
        """Wait until the run that is under way is in that phase, at most two minutes."""
        looking = ('until grep -qs "$1" "$2"; do sleep 0.2; done', "sh", phase, PHASES)
        self.on(MACHINES[0], "timeout", "120", "sh", "-c", *looking)

    def run(self, name: str, *, observed: bool) -> tuple[float, dict[str, float]]:
        """Median latency in ms, and each machine's processor time in percent of one core.

        What collects is stopped in the warm-up: stopped before, it would be started by the run.
        """
        with subprocess.Popen(
            (*LAUNCHER, "run", "with.toml", "--results", name, "--accept-links"),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            self.await_phase('phase="warmup"')
            if not observed:
                self.switch("stop")
            self.await_phase('phase="load"')
            before, began = self.cpu(), time.monotonic()
            time.sleep(self.seconds * 0.7)
            lasted, after = time.monotonic() - began, self.cpu()
            process.wait(timeout=300)
        self.switch("start")
        latencies: list[float] = [
            (row["answered_ns"] - row["intended_ns"]) / 1e6
            for row in read_samples(self.folder / name / "samples.parquet").to_pylist()
            if row["status"] == "ok" and not row["warmup"]
        ]
        shares = {each: (after[each] - before[each]) / lasted / 1e7 for each in MACHINES}
        return statistics.median(latencies), shares

    def up(self, name: str) -> float:
        """Seconds of `up` from nothing; what was made is removed."""
        began = time.monotonic()
        self.continuum("up", f"{name}.toml")
        lasted = time.monotonic() - began
        self.continuum("down", "observability")
        return lasted


def upper(differences: list[float]) -> float:
    """The upper bound of the mean, one-sided, 95 %."""
    count = len(differences)
    if count < 2:
        return math.inf
    quantile = _T95[min(count - 1, len(_T95) - 1)]
    return statistics.mean(differences) + quantile * statistics.stdev(differences) / math.sqrt(
        count
    )


def main() -> None:
    """Print the figures, and as JSON; exit 1 when one is beyond what is promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--ups", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), asked.seconds)
        bench.continuum("up", "with.toml")
        latency: list[float] = []
        cpu: dict[str, list[float]] = {name: [] for name in MACHINES}
        try:
            for pair in range(asked.pairs):
                found = {}
                for verb in ("start", "stop") if pair % 2 else ("stop", "start"):
                    found[verb] = bench.run(f"{pair}-{verb}", observed=verb == "start")
                ours, without = found["start"], found["stop"]
                latency.append(100 * (ours[0] / without[0] - 1))
                for name in MACHINES:
                    cpu[name].append(ours[1][name] - without[1][name])
                print(f"pair {pair + 1}: median {without[0]:.2f} ms, with {ours[0]:.2f} ms")
        finally:
            bench.continuum("down", "observability")
        ups: dict[str, list[float]] = {"with": [], "without": []}
        for _ in range(asked.ups):
            for name, times in ups.items():
                # The first makes the image, if need be.
                times.append(min(bench.up(name), bench.up(name)) if not times else bench.up(name))
    more = min(ups["with"]) - min(ups["without"]) if asked.ups else 0.0
    figures = {
        "latency_percent": {"mean": statistics.mean(latency), "upper": upper(latency)},
        "cpu_percent": {
            name: {"mean": statistics.mean(each), "upper": upper(each)}
            for name, each in cpu.items()
        },
        "up_seconds": {**ups, "more": more},
    }
    print(json.dumps(figures, indent=2))
    held = upper(latency) < LATENCY_PERCENT and more <= UP_SECONDS
    sys.exit(not (held and all(upper(each) < CPU_PERCENT for each in cpu.values())))


if __name__ == "__main__":
    main()
