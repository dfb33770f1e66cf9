"""What machines take of processor and memory during a repetition: how it is noted, and read."""

from __future__ import annotations

import json
from typing import Any

from continuum.benchmark.contract import RUN_FOLDER
from continuum.images.recipe import RUNTIME_FOLDER
from continuum.software.contract import ProcessSpec

INTERVAL = 0.2
"""Seconds between two looks."""

PROGRAMS = (
    "kube-apiserver",
    "etcd",
    "kube-scheduler",
    "kube-controller-manager",
    "kubelet",
    "containerd",
    "kube-proxy",
    "cloudcore",
    "edgecore",
)
"""What is noted beside the whole machine: who brings pods up."""

_NAME = "resources"


def output_file(repetition: int) -> str:
    """The file on a machine that holds what was noted."""
    return f"{RUN_FOLDER}/{_NAME}-{repetition}/{_NAME}.csv"


def process(machine: str, repetition: int, limit: float) -> ProcessSpec:
    """The process that notes a machine's resources, for so many seconds at most."""
    output = output_file(repetition)
    folder = output.rpartition("/")[0]
    path = f"{folder}/config.json"
    config = {
        "output": output,
        "interval": INTERVAL,
        "limit": limit,
        "programs": list(PROGRAMS),
    }
    return ProcessSpec(
        name=f"{_NAME}-{repetition}",
        machine=machine,
        arguments=("python3", "-m", "continuum_runtime.resources", path),
        environment={"PYTHONPATH": RUNTIME_FOLDER},
        files={path: json.dumps(config, indent=2).encode() + b"\n"},
    )


def parse(content: bytes) -> list[dict[str, Any]]:
    """Rows with `time_ns`, `part`, `cpu_ns` and `memory_bytes`; lines that are none are left out.

    The last line may lack its end: its writer was stopped in the middle of it.
    """
    rows = []
    for line in content.decode("utf-8", "replace").split("\n")[:-1]:
        at, part, *numbers = [*line.split(","), "", ""][:4]
        if at.isdecimal() and part and all(number.isdecimal() for number in numbers):
            cpu, memory = map(int, numbers)
            rows.append({"time_ns": int(at), "part": part, "cpu_ns": cpu, "memory_bytes": memory})
    return rows
