"""Two models at a time on two cores, beside one: capacity, and the queue at 1.5 times one's.

    benchmarks/run worker_capacity [--passes 8] [--seconds 5]

The worker's own queue and models, without a network. On a host that does something else beside it,
both are less than they could be: `chrt -f 1 benchmarks/run worker_capacity` takes its two cores first.
"""

from __future__ import annotations

import argparse
import os
import queue
import statistics
import sys
import tempfile
import time
from pathlib import Path

from continuum.benchmark.applications.image_classification import ImageClassification, build
from continuum.benchmark.applications.image_classification.application import (
    ImageClassificationSettings,
)
from continuum.testing.local import LocalHost
from continuum_runtime import message as layout
from continuum_runtime.pool import Job, Pool, warm_classifiers

FACTOR = 1.5
BOUND_MS = 100.0
"""For the mean wait in the last third of the load: one model's grows beyond it in a second."""


def answers(pool: Pool, photos: list[bytes], times: list[float]) -> list[layout.Answer]:
    """Answers to photos that come so many seconds after now, in their order."""
    found: queue.SimpleQueue[layout.Answer] = queue.SimpleQueue()
    began = time.monotonic()
    for number, at in enumerate(times):
        time.sleep(max(0.0, began + at - time.monotonic()))
        request = layout.Request(1, 1, number, photos[number % len(photos)])
        pool.put(Job(request, time.time_ns(), found.put))
    return sorted((found.get() for _ in times), key=lambda answer: answer.sequence)


def capacity(pool: Pool, photos: list[bytes], count: int) -> float:
    """Photos a second, as fast as they can be answered."""
    done = answers(pool, photos, [0.0] * count)
    return count / ((max(each.finished_ns for each in done) - done[0].started_ns) / 1e9)


def main() -> int:
    """Print the figures; 1 when the queue of two models is not bounded."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--passes", type=int, default=8)
    asked.add_argument("--seconds", type=float, default=5.0)
    options = asked.parse_args()
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    with tempfile.TemporaryDirectory() as folder:
        host = LocalHost(Path(folder))
        host.install(ImageClassification(ImageClassificationSettings()).install())
        data = host.path(build.FOLDER)
        photos = [path.read_bytes() for path in sorted((data / "photos").iterdir())]
        pools = {
            models: Pool(
                warm_classifiers(str(data), processes=models, threads=1, passes=options.passes)
            )
            for models in (1, 2)
        }
        can = {models: capacity(pool, photos, 12 * models) for models, pool in pools.items()}
        print(f"one at a time {can[1]:.2f} photos/s, two {can[2]:.2f}: {can[2] / can[1]:.2f} times")
        rate = FACTOR * can[1]
        times = [number / rate for number in range(int(options.seconds * rate))]
        bounded = True
        for models, pool in pools.items():
            done = answers(pool, photos, times)
            waits = [(each.started_ns - each.received_ns) / 1e6 for each in done]
            third = len(waits) // 3
            last = statistics.mean(waits[-third:])
            print(
                f"{models} at a time, {FACTOR:g} × one's capacity: waits {statistics.mean(waits[:third]):.1f} ms "
                f"in the first third, {last:.1f} in the last"
            )
            bounded = last < BOUND_MS
    print(f"queue of two: {'bounded' if bounded else 'grows'}")
    return 0 if bounded else 1


if __name__ == "__main__":
    sys.exit(main())
