"""Whose something is that is left on the host, when tests run side by side."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

import side_by_side
from continuum.deployment import Deployment
from continuum.testing import host_state
from side_by_side import Lane


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """A folder as a lane has it, so that these tests are the same in every lane and without."""
    folder = tmp_path / "popen-gw1" / "folder"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lane:
    monkeypatch.setenv(host_state.WORKER, "gw0")
    monkeypatch.setattr(side_by_side, "_INTERFACES", tmp_path)
    monkeypatch.setattr(side_by_side, "FORWARDING", tmp_path / "mark")
    for identity, worker in (("0badcafe", "gw0"), ("feedbeef", "gw1")):
        alias = tmp_path / f"ctm{identity}" / "ifalias"
        alias.parent.mkdir()
        alias.write_text(f"continuum x /run/popen-{worker}/state\n")
    return Lane(tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        "ctfeedbeef2 veth ctmfeedbeef",
        "99999999 python3 -m continuum_runtime.worker of continuum-feedbeef",
        "99999999 python -m continuum up of gw1",
        "/run/popen-gw1/state/machines overlay",
        "/run/netns/ctmtest-99999999-edge-1 nsfs",
    ],
)
def test_what_belongs_to_another_lane_is_not_counted(lane: Lane, entry: str) -> None:
    assert lane.own({"things": {"added": [entry], "gone": []}}) == {}


@pytest.mark.parametrize(
    "entry",
    [
        "ct0badcafe2 veth ctm0badcafe",
        "99999999 python -m continuum up of gw0",
        "99999999 python -m continuum up",
        "/run/popen-gw0/state/machines overlay",
        "ct12345678 veth",
    ],
)
def test_what_is_ours_or_nobodys_is(lane: Lane, entry: str) -> None:
    left = {"things": {"added": [entry], "gone": []}}
    assert lane.own(left) == left


def test_a_fork_of_another_worker_is_told_by_its_parents(lane: Lane) -> None:
    child = subprocess.Popen(["sleep", "60"])
    left = {"processes": {"added": [f"{child.pid} continuum/bin/python -u -c"], "gone": []}}
    assert lane.own(left) == left
    lane.process, lane.parent = 0, os.getpid()
    assert lane.own(left) == {}
    child.kill()
    child.wait()
    assert lane.own(left) == left


def test_what_has_no_bridge_is_told_by_its_deployments_folder(lane: Lane, tmp_path: Path) -> None:
    left = {}
    for worker in ("gw0", "gw1"):
        root = tmp_path / f"popen-{worker}" / "test0" / "state" / "continuum" / "deployments"
        (root / "mine").mkdir(parents=True)
        left[worker] = f"99999999 ssh: /run/continuum/{Deployment('mine', root).identity}/c [mux]"
    found = lane.own({"processes": {"added": list(left.values()), "gone": []}})
    assert found == {"processes": {"added": [left["gw0"]], "gone": []}}


def test_nothing_of_others_may_go(lane: Lane) -> None:
    left = {"rules": {"added": [], "gone": ["filter -A INPUT -i eth0"]}}
    assert lane.own(left) == left


def test_namespaces_of_this_process_count(lane: Lane) -> None:
    left = {"namespaces": {"added": [f"ctmtest-{os.getpid()}-edge-1"], "gone": []}}
    assert lane.own(left) == left


def test_forwarding_is_taken_back_by_the_last_deployment(lane: Lane, tmp_path: Path) -> None:
    left = {"forwarding": {"added": ["1"], "gone": ["0"]}}
    assert lane.own(left) == left
    (tmp_path / "mark").touch()
    assert lane.own(left) == {}


def test_a_part_of_a_test_is_alone_and_others_go_on_afterwards(lane: Lane) -> None:
    other = Lane(lane.folder)
    seen: list[str] = []

    def beside() -> None:
        with other._turn(alone=False):
            seen.append("other")

    thread = threading.Thread(target=beside)
    with lane._turn(alone=False):
        with lane.alone():
            thread.start()
            thread.join(0.2)
            seen.append("alone")
        thread.join(10)
        seen.append("beside")
    assert seen == ["alone", "other", "beside"]
