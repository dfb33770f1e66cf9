"""The main job on real machines: from a file to a report, and back to nothing."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_infrastructure_alone_lives_changes_and_goes(continuum: Any) -> None:
    file = EXAMPLES / "infrastructure-only" / "experiment.toml"
    continuum("up", file)
    status = json.loads(continuum("status", "infrastructure-only", "--json").out)
    text = json.dumps(status)
    assert text.count('"running"') == 5

    greeting = continuum("exec", "infrastructure-only", "edge-1", "--", "hostname")
    assert "edge-1" in greeting.out
    reached = continuum(
        "ssh", "infrastructure-only", "endpoint-1", "--", "ping", "-c1", "-W2", "cloud-1"
    )
    assert "1 received" in reached.out

    again = continuum("up", file)
    assert "nothing to change" in (again.out + again.err).lower()

    more = continuum("up", file, "--set", "tiers.edge.machines=3")
    assert "edge-3" in more.err + more.out
    names = continuum("exec", "infrastructure-only", "edge", "--", "cat", "/etc/hosts").out
    for machine in ("edge-1", "edge-2", "edge-3"):
        told = [line for line in names.splitlines() if line.startswith(f"{machine} | ")]
        assert any(line.endswith(" edge-3") for line in told), names

    slower = continuum("up", file, "--set", "tiers.edge.machines=3", "--set", "network.preset=4g")
    assert "links" in slower.err + slower.out
    continuum("down", "infrastructure-only")
    continuum("status", "infrastructure-only", code=5)


def test_two_deployments_side_by_side_do_not_see_each_other(continuum: Any, write: Any) -> None:
    file = write('name = "first"\n[tiers.edge]\nmemory = "256 MiB"\n')
    continuum("up", file)
    continuum("up", write('name = "second"\n[tiers.edge]\nmemory = "256 MiB"\n', "second.toml"))
    first = json.loads(continuum("status", "first", "--json").out)
    text = json.dumps(first)
    address = text.split('"address": "')[1].split('"')[0]
    ended = continuum("exec", "second", "edge-1", "--", "ping", "-c1", "-W1", address, code=None)
    assert ended.code != 0
    continuum("down", "first")
    assert "edge-1" in continuum("exec", "second", "edge-1", "--", "hostname").out


def test_two_ups_of_one_name_at_once_end_well(continuum: Any, write: Any) -> None:
    file = write('name = "twice"\n[tiers.edge]\nmemory = "256 MiB"\n')
    first = continuum.start("up", file)
    continuum.until_step(first, "twice", "machine image")
    first.send_signal(signal.SIGSTOP)  # Else a quick host is done before the second begins.
    try:
        second = continuum("up", file, code=1)
    finally:
        first.send_signal(signal.SIGCONT)
    assert "is being changed by process" in second.err
    assert continuum.end(first).code == 0
