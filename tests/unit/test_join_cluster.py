"""Joining a cluster, with programs that stand for kubeadm and its kubelet."""

from __future__ import annotations

import itertools
import time

import pytest

from continuum_runtime import join_cluster


@pytest.mark.parametrize("code", [0, 3])
def test_kubeadms_own_end_counts(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(join_cluster, "restarts", lambda: 5)
    assert join_cluster.join(("sh", "-c", f"exit {code}")) == code


def test_a_kubelet_that_cannot_run_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = itertools.count(step=4)
    monkeypatch.setattr(join_cluster, "restarts", lambda: next(counted))
    monkeypatch.setattr(join_cluster, "_LOOK_AGAIN", 0.01)
    began = time.monotonic()
    assert join_cluster.join(("sleep", "60")) != 0
    assert time.monotonic() - began < 30
    assert "ended 8 times" in capsys.readouterr().err


def test_a_kubelet_that_was_started_again_before_is_given_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(join_cluster, "restarts", lambda: 100)
    monkeypatch.setattr(join_cluster, "_LOOK_AGAIN", 0.01)
    assert join_cluster.join(("sleep", "0.2")) == 0
