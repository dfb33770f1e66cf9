"""Measures the rate at which this host sends full frames from one network namespace to another.

    unshare --net python3 -m continuum_runtime.host_rate

A pair of veth joins its own namespace with one that lives as long as the receiver; no link is
emulated. Frames go one by one (`gso_max_segs 1`), as they do over a link. Prints Mbit/s, headers
counted, by the kernel's arrival times: the median of `TRAINS`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from continuum_runtime import link_probe

PORT = 46_980
HERE, THERE = "198.18.0.1", "198.18.0.2"
"""Addresses that are set aside for measuring (RFC 2544)."""

TRAINS = 5
FRAMES = 8000
"""Frames of a train: a receiver that has no time for them meanwhile can hold so many."""

APART_MS = 150.0
START_SECONDS = 0.3
TIMEOUT = 20.0


def measure() -> float:
    """The rate in Mbit/s."""
    receiver = subprocess.Popen(
        ("unshare", "--net", sys.executable, "-m", "continuum_runtime.link_probe"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        _join(receiver.pid)
        begin = time.time_ns() + int(START_SECONDS * 1e9)
        plan: dict[str, Any] = {
            "port": PORT,
            "start_ns": begin,
            "end_ns": begin + int((TRAINS * APART_MS + 1000) * 1e6),
            "echo": False,
            "kernel": True,
            "expected": {},
            "tasks": [],
        }
        assert receiver.stdin is not None
        receiver.stdin.write(json.dumps(plan | {"expected": dict.fromkeys(range(TRAINS), FRAMES)}))
        receiver.stdin.close()
        payload = link_probe.LARGEST_PAYLOAD
        for number in range(TRAINS):
            at = number * APART_MS
            task = {"task": number, "kind": "train", "address": THERE, "at_ms": at}
            plan["tasks"].append(task | {"count": FRAMES, "interval_ms": 0.0, "payload": payload})
        link_probe.run(plan | {"end_ns": begin})
        assert receiver.stdout is not None
        said = json.loads(receiver.stdout.read())
        receiver.wait(TIMEOUT)
    finally:
        receiver.kill()
        receiver.wait()
    return statistics.median(_rate(each) for each in said["received"].values())


def _join(process: int) -> None:
    """Join our namespace with that of a process, once it has one of its own."""
    ours, theirs = Path("/proc/self/ns/net"), Path(f"/proc/{process}/ns/net")
    deadline = time.monotonic() + TIMEOUT
    while theirs.readlink() == ours.readlink():
        if time.monotonic() > deadline:
            raise TimeoutError("the receiver gets no network namespace")
        time.sleep(0.005)
    device = ("type", "veth", "peer", "name", "there", "netns", str(process))
    _ip("link", "add", "here", "gso_max_segs", "1", *device)
    _ip("address", "add", f"{HERE}/30", "dev", "here")
    _ip("link", "set", "here", "up")
    inside = ("nsenter", f"--net={theirs}", "ip")
    _ip("address", "add", f"{THERE}/30", "dev", "there", program=inside)
    _ip("link", "set", "there", "up", program=inside)


def _ip(*arguments: str, program: tuple[str, ...] = ("ip",)) -> None:
    subprocess.run((*program, *arguments), check=True, timeout=TIMEOUT)


def _rate(received: dict[str, Any]) -> float:
    """Mbit/s of one train."""
    arrivals = sorted(received["arrivals"])
    frames = sum(packets for _, packets in arrivals[1:])
    nanoseconds = max(1, arrivals[-1][0] - arrivals[0][0])
    return float(frames * received["frame"] * 8e3 / nanoseconds)


if __name__ == "__main__":
    print(f"{measure():.1f}")
