"""A cluster that is interrupted while it is made, and a machine that never joins."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from clusters import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.cluster]

NAME = "kube-killed"
NODES = ("cloud-1", "cloud-2")
EXPERIMENT = f"""
name = "{NAME}"
[tiers.cloud]
machines = 2
cores = 2
memory = "2 GiB"
[tiers.endpoint]
memory = "512 MiB"
[software]
manager = "kubernetes"
execution_model = "container"
[benchmark]
application = "image_classification"
workers = "cloud"
"""

INIT = "*-cloud-1/upper/etc/kubernetes/manifests/kube-apiserver.yaml"
"""kubeadm writes it in the middle of `init`, and waits for what it makes run."""
JOIN = "*-cloud-2/disk/kubelet/config.yaml"
"""The same of `join`."""


def interrupt(continuum: Any, file: Path, written: str, sent: signal.Signals) -> None:
    """Begin an `up`, and end it when kubeadm has written a file."""
    began = time.time()
    process = continuum.start("up", file)
    machines = continuum.state / "continuum" / "deployments" / NAME / "machines"
    until = time.monotonic() + 120
    while not any(path.stat().st_mtime > began for path in machines.glob(written)):
        assert time.monotonic() < until, f"{written} was never written"
        assert process.poll() is None, continuum.end(process).err
        time.sleep(0.02)
    process.send_signal(sent)
    ended = continuum.end(process)
    # Python ends by SIGINT itself where that came while a module made a class from text; shells say
    # 130 of both.
    assert ended.code in ({130, -signal.SIGINT} if sent == signal.SIGINT else {-signal.SIGKILL})
    assert "Traceback" not in ended.err


def test_killed_while_it_is_made_it_goes_on_and_is_whole(continuum: Any, write: Any) -> None:
    file = write(EXPERIMENT)
    interrupt(continuum, file, INIT, signal.SIGKILL)
    interrupt(continuum, file, JOIN, signal.SIGINT)
    continuum("up", file)
    cluster = Cluster(continuum, NAME)
    assert cluster.nodes() == dict.fromkeys(NODES, True)
    again = continuum("up", file)
    assert "nothing was changed" in again.err + again.out
    _a_machine_that_never_joins_is_said(cluster, file)


def _a_machine_that_never_joins_is_said(cluster: Cluster, file: Path) -> None:
    """Its kubelet cannot run: the end of its log is in the error. Then it is mended."""
    machine = ("exec", NAME, "cloud-2", "--")
    drop_in = "/etc/systemd/system/kubelet.service.d/broken.conf"
    script = (
        "kubeadm reset --force && rm /var/lib/continuum/software && mkdir -p $(dirname $0) && "
        "printf '[Service]\\nExecStart=\\nExecStart=/bin/echo nobody can start this' > $0 && "
        "systemctl daemon-reload"
    )
    cluster.line(*machine, "sh", "-c", script, drop_in)
    began = time.monotonic()
    failed = cluster.line("up", file, code=1)
    assert time.monotonic() - began < 180
    assert re.search('"kubernetes_worker: Join the cluster.*" failed on cloud-2', failed.err)
    assert "nobody can start this" in failed.err
    cluster.line(*machine, "rm", drop_in)
    cluster.line(*machine, "systemctl", "daemon-reload")
    cluster.line("up", file)
    cluster.await_nodes(*NODES)


@pytest.mark.parametrize(("written", "sent"), [(INIT, signal.SIGINT), (JOIN, signal.SIGKILL)])
def test_what_is_half_made_can_be_removed(
    continuum: Any, write: Any, written: str, sent: signal.Signals
) -> None:
    # `down`, by the fixture, has to leave nothing.
    interrupt(continuum, write(EXPERIMENT), written, sent)
