"""What makes a machine ready to be a node, without a machine."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path

import pytest

from continuum_runtime import cluster_node

GIB = 2**30


@pytest.mark.parametrize(
    ("machine", "host", "missing"),
    [
        ((2.0, GIB), (2, GIB), {}),
        ((4.0, 2 * GIB), (2, GIB), {}),
        ((0.5, GIB), (2, 3 * GIB), {"cpu": "1500m", "memory": str(2 * GIB)}),
        ((1.0, 4 * GIB), (2, GIB), {"cpu": "1000m"}),
    ],
)
def test_what_a_machine_does_not_have_of_its_host_is_reserved(
    machine: tuple[float, int], host: tuple[int, int], missing: dict[str, str]
) -> None:
    assert cluster_node.reserved(*machine, *host) == missing


def test_memory_is_read_from_the_kernels_table() -> None:
    assert cluster_node.seen_memory("Junk: 1 kB\nMemTotal:    1024 kB\nMemFree: 1 kB\n") == 2**20
    with pytest.raises(ValueError, match="no MemTotal"):
        cluster_node.seen_memory("MemFree: 1 kB\n")


def test_a_nodes_file_is_kept_and_said_when_it_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(cluster_node, "end_all", ended.append)
    path = tmp_path / "deep" / "node.json"
    for text, said in (("1", "changed\n"), ("1", ""), ("2", "changed\n")):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        cluster_node.main(["--keep", str(path)])
        assert capsys.readouterr().out == said
        assert path.read_text() == text
    assert ended == ["kubeadm"] * 3


def test_size_and_network_are_carried_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(cluster_node, "seen_memory", lambda _: 8 * GIB)
    network, environment = tmp_path / "net.d" / "network", tmp_path / "run" / "environment"
    about = {"cores": 2.0, "memory": GIB, "cni": {"path": str(network), "content": {"name": "n"}}}
    (tmp_path / "node.json").write_text(json.dumps(about))
    cluster_node.main([str(tmp_path / "node.json"), str(environment)])
    assert environment.read_text() == (
        f"KUBELET_SIZE_ARGS=--system-reserved=cpu=6000m,memory={7 * GIB}\n"
    )
    assert json.loads(network.read_text()) == {"name": "n"}


class Processes:
    """A folder as /proc, whose processes end when they are told to, or do not."""

    def __init__(self, folder: Path, *, stubborn: bool = False) -> None:
        self.folder, self.stubborn = folder, stubborn
        self.killed: list[tuple[int, int]] = []
        for number, name in ((7, "kubeadm"), (8, "kubelet"), (9, "kubeadm")):
            (folder / str(number)).mkdir()
            (folder / str(number) / "comm").write_text(f"{name}\n")
            (folder / str(number) / "stat").write_text(f"{number} ({name}) S 1\n")
        (folder / "10").mkdir()  # It has ended while we look.
        (folder / "meminfo").write_text("")

    def kill(self, number: int, sent: int) -> None:
        self.killed.append((number, sent))
        if not self.stubborn:
            (self.folder / str(number) / "stat").write_text(f"{number} (kubeadm) Z 1\n")


def test_what_an_interrupted_up_has_left_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = Processes(tmp_path)
    monkeypatch.setattr(os, "kill", processes.kill)
    cluster_node.end_all("kubeadm", tmp_path)
    assert sorted(processes.killed) == [(7, signal.SIGKILL), (9, signal.SIGKILL)]


def test_what_does_not_end_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "kill", Processes(tmp_path, stubborn=True).kill)
    with pytest.raises(RuntimeError, match="kubeadm does not end"):
        cluster_node.end_all("kubeadm", tmp_path, limit=0.05)


def test_the_kernel_is_set_up_before_kubeadm_looks_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, called = tmp_path / "sysctl.conf", tmp_path / "called"
    settings.write_text("net.ipv4.ip_forward = 1\n")
    program = tmp_path / "sysctl"
    program.write_text(f'#!/bin/sh\necho "$@" > {called}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(cluster_node, "KERNEL_SETTINGS", settings)
    monkeypatch.setattr(cluster_node, "end_all", lambda _: None)
    monkeypatch.setattr("sys.stdin", io.StringIO("{}"))
    cluster_node.main(["--keep", str(tmp_path / "node.json")])
    assert called.read_text() == f"--quiet --load={settings}\n"
