"""Make a machine ready to be a node, before its kubelet starts.

    python3 -m continuum_runtime.cluster_node NODE ENVIRONMENT

NODE is a file of JSON: `cores` (a number) and `memory` (bytes) that the machine may use, and `cni`
with the `path` and the `content` of its pods' network. ENVIRONMENT is written as a file of
variables for systemd.

A container sees its host's processors and memory. What its own limits do not allow is reserved, so
that the scheduler counts with the machine's own size.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def reserved(cores: float, memory: int, host_cores: int, host_memory: int) -> dict[str, str]:
    """What the machine does not have of the host, as quantities of Kubernetes."""
    found = {}
    if host_cores > cores:
        found["cpu"] = f"{round((host_cores - cores) * 1000)}m"
    if host_memory > memory:
        found["memory"] = str(host_memory - memory)
    return found


def seen_memory(text: str) -> int:
    """Bytes of memory that a machine sees, from /proc/meminfo."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) * 1024
    raise ValueError("/proc/meminfo tells no MemTotal")


def write_network(path: Path, content: Any) -> None:  # noqa: ANN401  whatever JSON holds
    """Write the configuration of the pods' network where it differs.

    In place: containerd 1.6 takes no notice of a file that is moved there.
    """
    text = json.dumps(content, indent=1) + "\n"
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main(arguments: list[str]) -> None:
    """Read what the machine is, write what its kubelet and its containerd are told."""
    node_file, environment = map(Path, arguments)
    node = json.loads(node_file.read_text())
    missing = reserved(
        node["cores"],
        node["memory"],
        os.cpu_count() or 1,
        seen_memory(Path("/proc/meminfo").read_text()),
    )
    told = ",".join(f"{name}={value}" for name, value in missing.items())
    environment.parent.mkdir(parents=True, exist_ok=True)
    environment.write_text(f"KUBELET_SIZE_ARGS=--system-reserved={told}\n" if told else "")
    write_network(Path(node["cni"]["path"]), node["cni"]["content"])


if __name__ == "__main__":
    main(sys.argv[1:])
