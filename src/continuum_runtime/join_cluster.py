"""Join a cluster by kubeadm, but do not wait for a node agent that cannot run.

    python3 join_cluster.py < JOIN_CONFIGURATION

kubeadm waits a minute for the kubelet, also for one that ends as soon as it is started. systemd
starts that one again every second: after `MOST_RESTARTS` of that kubeadm is ended.
"""

from __future__ import annotations

import subprocess
import sys

MOST_RESTARTS = 8
_LOOK_AGAIN = 1.0
_RESTARTS = ("systemctl", "show", "--property=NRestarts", "--value", "kubelet.service")


def restarts() -> int:
    """How often systemd has started the kubelet again by itself."""
    shown = subprocess.run(_RESTARTS, check=True, capture_output=True, text=True, timeout=30)
    return int(shown.stdout)


def join(arguments: tuple[str, ...]) -> int:
    """Run kubeadm with the standard input that we have; its exit code."""
    before = restarts()
    with subprocess.Popen(arguments) as kubeadm:
        while True:
            try:
                return kubeadm.wait(_LOOK_AGAIN)
            except subprocess.TimeoutExpired:
                again = restarts() - before
            if again >= MOST_RESTARTS:
                kubeadm.terminate()
                sys.stderr.write(f"the kubelet ended {again} times as soon as it was started\n")
                return kubeadm.wait(30) or 1


if __name__ == "__main__":
    sys.exit(join(("kubeadm", "join", "--config=/dev/stdin")))
