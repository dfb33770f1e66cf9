"""Make a machine ready to be a node, before its kubelet starts.

    python3 cluster_node.py --keep NODE < FILE
    python3 cluster_node.py NODE ENVIRONMENT

The first keeps what it reads as NODE, and says "changed" where it differs from what was there. It
also ends what an `up` that was interrupted has left running: two kubeadm at once take each other's
files away. And it sets up the kernel, which kubeadm looks at before it starts the kubelet that does
it from then on: a machine begins with what its host has.

The second carries it out: NODE is a file of JSON: `cores` (a number) and `memory` (bytes) that the
machine may use, and `cni` with the `path` and the `content` of its pods' network. ENVIRONMENT is
written as a file of variables for systemd. `cloudcore` and `edgecore`, where they are there, have the same two fields, of
the settings of KubeEdge's programs.

A container sees its host's processors and memory. What its own limits do not allow is reserved, so
that the scheduler counts with the machine's own size.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

KERNEL_SETTINGS = Path("/etc/kubernetes/sysctl.conf")


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


def write_where_it_differs(path: Path, text: str) -> bool:
    """Write a file, unless it is so already; True when it was not.

    In place: containerd 1.6 takes no notice of a file that is moved into the folder that it watches.
    """
    if path.exists() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return True


def end_all(name: str, processes: Path = Path("/proc"), limit: float = 10.0) -> None:
    """Kill every process of a program, and wait until it is gone.

    Raises:
        RuntimeError: one is not gone in that many seconds.
    """
    until = time.monotonic() + limit
    for folder in processes.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # It has ended while we look.
            if (folder / "comm").read_text().strip() == name:
                os.kill(int(folder.name), signal.SIGKILL)
                while _lives(folder / "stat"):
                    if time.monotonic() > until:
                        raise RuntimeError(f"{name} does not end")
                    time.sleep(0.02)


def _lives(status: Path) -> bool:
    """Whether a process is there, and is more than what its parent has yet to look at."""
    return status.read_text().rpartition(")")[2].split()[0] != "Z"


def main(arguments: list[str]) -> None:
    """Read what the machine is, write what its kubelet and its containerd are told."""
    if arguments[0] == "--keep":
        end_all("kubeadm")
        if KERNEL_SETTINGS.exists():
            load = ("sysctl", "--quiet", f"--load={KERNEL_SETTINGS}")
            subprocess.run(load, check=True, timeout=30)
        if write_where_it_differs(Path(arguments[1]), sys.stdin.read()):
            sys.stdout.write("changed\n")
        return
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
    if "edgecore" in node:
        edged = node["edgecore"]["content"]["modules"]["edged"]
        edged["tailoredKubeletConfig"]["systemReserved"] = missing
    for each in ("cni", "cloudcore", "edgecore"):
        if each in node:
            text = json.dumps(node[each]["content"], indent=1) + "\n"
            write_where_it_differs(Path(node[each]["path"]), text)


if __name__ == "__main__":
    main(sys.argv[1:])
