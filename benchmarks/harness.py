"""What the harness itself adds to a request: latency minus processing, with no emulated delay.

    benchmarks/run harness

Needs root. One worker, one endpoint with half a core, photos of about 68 kB at 5 Hz.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from continuum.benchmark.samples import read_samples

LAUNCHER = str(Path(__file__).resolve().parents[1] / "continuum")
EXPERIMENT = """
name = "harness"
[tiers.edge]
cores = 2
quota = 0.75
memory = "2 GiB"
[tiers.endpoint]
cores = 1
quota = 0.5
memory = "1 GiB"
[benchmark]
application = "image_classification"
workers = "edge"
frequency = "5 Hz"
warmup = "2 s"
duration = "20 s"
"""
LIMIT_MS = 3.0


def added_ms(samples: Path) -> float:
    """The median of what a request takes beyond its processing."""
    added: list[float] = [
        (row["answered_ns"] - row["intended_ns"] - row["finished_ns"] + row["started_ns"]) / 1e6
        for row in read_samples(samples).to_pylist()
        if row["status"] == "ok" and not row["warmup"]
    ]
    return statistics.median(added)


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "harness.toml"
        file.write_text(EXPERIMENT)
        ended = subprocess.run(
            [LAUNCHER, "run", str(file), "--results", "out", "--down"],
            cwd=folder,
            env={**os.environ, "XDG_STATE_HOME": folder},
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode != 0:
            sys.exit(ended.stderr)
        run = json.loads((Path(folder) / "out" / "run.json").read_text())
        added = added_ms(Path(folder) / "out" / "samples.parquet")
    table = {each["quantity"]: each for each in run["table"][0]["statistics"]}
    latency, processing = (table[name]["p50"]["value"] for name in ("latency_ms", "processing_ms"))
    parts = math.fsum(
        table[name]["p50"]["value"]
        for name in ("late_ms", "preparation_ms", "forward_ms", "queue_ms", "return_ms")
    )
    print(f"requests                         {run['table'][0]['samples']:8d}")
    print(f"median latency                   {latency:8.2f} ms")
    print(f"median processing                {processing:8.2f} ms")
    print(f"median (latency − processing)    {added:8.2f} ms  (below {LIMIT_MS:g})")
    print(f"sum of the medians of its parts  {parts:8.2f} ms")


if __name__ == "__main__":
    main()
