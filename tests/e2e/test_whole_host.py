"""What looks at the whole host, or changes what all of it shares."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from continuum.infrastructure.providers.lxc.checks import all_checks
from side_by_side import nothing_left
from users_bridge import BRIDGE, users_bridge

FORWARD = Path("/proc/sys/net/ipv4/ip_forward")

pytestmark = [pytest.mark.e2e, pytest.mark.measures, pytest.mark.quiet]


def test_a_way_out_is_made_and_taken_back(continuum: Any, write: Any) -> None:
    file = write(
        'name = "way-out"\n[infrastructure]\ninternet = true\n[tiers.edge]\nmemory = "256 MiB"\n'
    )
    continuum("up", file)
    network = json.loads(continuum("plan", file, "--json").out)["infrastructure"]["network"]
    route = continuum("exec", "way-out", "edge-1", "--", "ip", "route", "show", "default").out
    assert f"via {network['host_address']}" in route
    assert FORWARD.read_text() == "1\n"
    rules = subprocess.run(
        ("iptables-save", "-t", "nat"), capture_output=True, text=True, check=True
    ).stdout
    assert f"-s {network['block']}" in rules


def test_another_deployments_end_takes_no_way_out(continuum: Any, write: Any) -> None:
    tier = '[tiers.edge]\nmemory = "128 MiB"\n'
    joined = f'[infrastructure]\ninternet = true\nbridge = "{BRIDGE}"\n'
    with users_bridge(continuum.folder):
        continuum("up", write(f'name = "way-out"\n{joined}{tier}', "joined.toml"))
        continuum("up", write(f'name = "plain"\n{tier}'))
        continuum("down", "plain")
        assert FORWARD.read_text() == "1\n"
        continuum("down", "way-out")


def test_every_check_passes_here_and_leaves_nothing() -> None:
    with nothing_left():
        failed = [each for each in all_checks() if each.needed and not each.ok]
    assert failed == []
