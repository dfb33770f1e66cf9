"""The example's cluster: interrupted while it is made, its run, and a machine that never joins."""

from __future__ import annotations

import re
import signal
import time
from typing import Any

import pytest

from clusters import Cluster
from short_examples import EXAMPLES, run_example

pytestmark = [pytest.mark.e2e, pytest.mark.cluster]

NAME = "kubernetes-cloud"
EXAMPLE = EXAMPLES / NAME / "experiment.toml"
NODES = ("cloud-1", "cloud-2", "cloud-3")

INIT = "*-cloud-1/upper/etc/kubernetes/manifests/kube-apiserver.yaml"
"""kubeadm writes it in the middle of `init`, and waits for what it makes run."""
JOIN = "*-cloud-2/disk/kubelet/config.yaml"
"""The same of `join`."""


def interrupt(continuum: Any, written: str, sent: signal.Signals) -> None:
    """Begin an `up`, and end it when kubeadm has written a file."""
    began = time.time()
    process = continuum.start("up", EXAMPLE)
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


def test_killed_while_it_is_made_it_goes_on_and_is_whole(continuum: Any) -> None:
    interrupt(continuum, INIT, signal.SIGKILL)
    interrupt(continuum, JOIN, signal.SIGINT)
    continuum("up", EXAMPLE)
    cluster = Cluster(continuum, NAME)
    assert cluster.nodes() == dict.fromkeys(NODES, True)
    again = continuum("up", EXAMPLE)
    assert "nothing was changed" in again.err + again.out
    _it_runs_as_expected(continuum)
    _a_machine_that_never_joins_is_said(cluster)


def _it_runs_as_expected(continuum: Any) -> None:
    short = ("benchmark.warmup=2s", "benchmark.duration=6s")
    run, _ = run_example(continuum, NAME, 30, *short)
    assert run["table"][0]["samples"] == 60
    assert {"logs/machines/cloud-1.log", "logs/machines/endpoint-1.log"} < set(run["logs"])
    assert any(name.startswith("logs/pods/kube-system_coredns") for name in run["logs"])


def _a_machine_that_never_joins_is_said(cluster: Cluster) -> None:
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
    failed = cluster.line("up", EXAMPLE, code=1)
    assert time.monotonic() - began < 180
    assert re.search('"kubernetes_worker: Join the cluster.*" failed on cloud-2', failed.err)
    assert "nobody can start this" in failed.err
    cluster.line(*machine, "rm", drop_in)
    cluster.line(*machine, "systemctl", "daemon-reload")
    cluster.line("up", EXAMPLE)
    cluster.await_nodes(*NODES)


@pytest.mark.parametrize(("written", "sent"), [(INIT, signal.SIGINT), (JOIN, signal.SIGKILL)])
def test_what_is_half_made_can_be_removed(
    continuum: Any, written: str, sent: signal.Signals
) -> None:
    # `down`, by the fixture, has to leave nothing.
    interrupt(continuum, written, sent)
