"""The registry on real machines: filled, reached by containerd under our name, and left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

EXPERIMENT = """\
name = "e2e-registry"

[tiers.edge]
machines = 2
memory = "1 GiB"

[tiers.endpoint]
machines = 1
memory = "256 MiB"

[software]
execution_model = "container"
services = ["registry"]

[benchmark]
application = "command"

[benchmark.command]
worker = "sleep 600"
endpoint = "true"
"""

IMAGES = ("ctr", "--namespace=k8s.io", "images")
CATALOGUE = """\
import json, sys, tomllib, urllib.request
with open("/etc/containerd/certs.d/continuum.local/hosts.toml", "rb") as file:
    server = tomllib.load(file)["server"]
for path in json.load(urllib.request.urlopen(server + "/v2/_catalog"))["repositories"]:
    tags = json.load(urllib.request.urlopen(f"{server}/v2/{path}/tags/list"))["tags"]
    print(*(f"continuum.local/{path}:{tag}" for tag in tags), sep="\\n")
"""


def test_machines_take_from_it_what_they_lack(continuum: Any, write: Callable[[str], Path]) -> None:
    experiment = write(EXPERIMENT)
    continuum("up", experiment)

    def on(machine: str, *arguments: str) -> str:
        said: str = continuum("exec", "e2e-registry", machine, "--", *arguments).out
        return said

    held = on("edge-2", "python3", "-c", CATALOGUE).split()
    assert len(held) == 1
    assert held[0].startswith("continuum.local/command:")
    known = [line.split()[-1] for line in on("edge-2", *IMAGES, "list", "--quiet").splitlines()]
    assert held[0] in known
    on("edge-2", *IMAGES, "remove", "--sync", *known)
    assert held[0] not in on("edge-2", *IMAGES, "list", "--quiet")
    on("edge-2", *IMAGES, "pull", "--hosts-dir=/etc/containerd/certs.d", held[0])
    checked = on("edge-2", *IMAGES, "check")
    assert any(held[0] in line and "complete" in line for line in checked.splitlines())

    listening = on("edge-1", "ss", "-H", "-ltn", "sport = :5000").split()
    assert listening[3].startswith("10.")
    assert on("edge-2", "ss", "-H", "-ltn", "sport = :5000").strip() == ""

    # A second time nothing is sent, and no playbook runs.
    again = continuum("up", experiment)
    assert "same    software: configure machines" in again.err
