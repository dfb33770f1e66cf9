"""One experiment over two hosts: machines that stand for them, with containers on both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from clusters import REPLY, Cluster, server, service
from continuum.machine import Command
from continuum.testing.stand_ins import FOLDER, StandIns
from run_reasons import defects
from side_by_side import alone, nothing_left
from users_bridge import BRIDGE, addresses, ip, users_bridge

pytestmark = [pytest.mark.e2e, pytest.mark.measures]

EXPERIMENT = """
name = "across"
[infrastructure]
this_host = false
{hosts}
[tiers.cloud]
machines = 2
memory = "128 MiB"
hosts = ["left"]
[tiers.edge]
machines = 2
memory = "128 MiB"
[[network.links]]
between = ["cloud", "edge"]
delay = "20 ms"
rate = "20 Mbit/s"
[[network.links]]
between = ["edge", "edge"]
delay = "10 ms"
"""

CLUSTER = """
name = "cluster-across"
[infrastructure]
this_host = false
{hosts}
[tiers.cloud]
machines = 2
cores = 2
memory = "1536 MiB"
hosts = ["left", "right"]
[tiers.endpoint]
machines = 1
memory = "256 MiB"
hosts = ["left"]
[software]
manager = "kubernetes"
execution_model = "container"
[benchmark]
application = "image_classification"
workers = "cloud"
frequency = "2 Hz"
warmup = "1 s"
duration = "3 s"
"""


@pytest.fixture(scope="module")
def stand_ins(shared: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    with nothing_left():
        made = StandIns(tmp_path_factory.mktemp("stand-ins"), 2, delay="3 ms")
        yield made
        shared("down", "--all", code=None)
        made.remove()


@pytest.fixture(scope="module")
def file(stand_ins: StandIns, shared: Any) -> Any:
    path = shared.folder / "across.toml"
    hosts = stand_ins.entry(1, "left") + stand_ins.entry(2, "right")
    path.write_text(EXPERIMENT.format(hosts=hosts))
    return path


def test_one_network_over_two_hosts(stand_ins: StandIns, shared: Any, file: Any) -> None:
    planned = json.loads(shared("plan", file, "--json").out)["infrastructure"]
    hosts = {each["name"]: each["host"] for each in planned["machines"]}
    # The cloud fills the left one.
    assert hosts == {"cloud-1": "left", "cloud-2": "left", "edge-1": "right", "edge-2": "right"}
    assert "room for all of tier edge" in planned["reasons"]["edge-1"]
    assert planned["network"]["mtu"] == 1450

    # What has our name on a host and is not ours is named, and left alone.
    taken = planned["network"]["bridge"]
    right = stand_ins.machines[1]
    right.run(Command(("ip", "link", "add", taken, "type", "bridge"))).check()
    ended = shared("up", file, code=1)
    assert "image on host left" in ended.err
    assert f"host right: the name {taken} is taken" in ended.err
    right.run(Command(("ip", "link", "delete", taken))).check()

    shared("up", file)
    ended = shared("up", file)
    assert "nothing was changed" in ended.err
    assert re.search(r"image on host right.*nothing to change", ended.err)

    # A full packet crosses, its parts do not have to.
    ping = ("ping", "-U", "-c3", "-i0.2", "-Mdo", "-s1422", "edge-1")
    told = shared("exec", "across", "cloud-1", "--", *ping).out
    least = float(re.findall(r"= ([0-9.]+)/", told)[0])
    assert 40 <= least < 45
    shown = json.loads(shared("status", "across", "--json").out)[0]
    assert shown["links_in_force"] == shown["links_asked"] == 3
    assert {each["host"] for each in shown["machines"]} == {"left", "right"}

    # Exit 0: every link is within its tolerance, also those across, whose path takes 3 ms itself.
    with alone():
        shared("run", file, "--results", "out")
    measured = json.loads((shared.folder / "out" / "run.json").read_text())
    assert defects(measured) == []
    assert {each["host"] for each in measured["host_share"]} == {"left", "right"}
    delays = json.loads(
        (shared.state / "continuum/deployments/across/links/hosts.json").read_text()
    )
    assert [each["hosts"] for each in delays] == [["left", "right"]]
    assert 3 <= delays[0]["delay_ms"] < 4

    # More than the path takes cannot be taken off, and is not hidden.
    shorter = ("--set", "network.links.0.delay='1 ms'", "--results", "shorter")
    ended = shared("run", file, *shorter, code=1)
    assert re.search(r"cloud-1 → edge-1 delay_ms: asked 1, measured (3|4)", ended.err)
    path = "link cloud → edge asks for 1 ms; the path between hosts left and right itself takes 3"
    assert path in ended.err


def test_a_host_that_is_gone_is_named_and_removed_later(
    stand_ins: StandIns, shared: Any, file: Any
) -> None:
    stand_ins.stop(2)
    assert "host right cannot be reached" in shared("up", file, code=4).err
    # Nor is it forgotten when it is taken out of the file.
    without = shared.folder / "without.toml"
    hosts = stand_ins.entry(1, "left")
    without.write_text(EXPERIMENT.format(hosts=hosts).replace("this_host = false", ""))
    assert (
        "host right cannot be reached" in shared("up", without, "--take-over", "--yes", code=4).err
    )
    shown = json.loads(shared("status", "across", "--json").out)[0]
    assert {each["name"]: each["state"] for each in shown["machines"]} == {
        "cloud-1": "running",
        "cloud-2": "running",
        "edge-1": "unreachable",
        "edge-2": "unreachable",
    }
    ended = shared("down", "across", code=4)
    assert "host right cannot be reached" in ended.err
    assert "continuum down across" in ended.err
    assert stand_ins.traces(1) == []

    stand_ins.start()
    assert stand_ins.traces(2) != [], f"nothing was left in {FOLDER}"
    shared("down", "across")
    assert stand_ins.traces(2) == []


def test_what_cannot_be_is_said_of_its_host(stand_ins: StandIns, shared: Any, file: Any) -> None:
    on_bridge = ("plan", file, "--set", f"infrastructure.bridge={BRIDGE}")
    assert f"there is no bridge {BRIDGE} on this host" in shared(*on_bridge, code=3).err
    with users_bridge(shared.folder):
        told = shared(*on_bridge, code=3).err
        assert re.search(rf"host (left|right): there is no bridge {BRIDGE}", told)
    pinned = ("--set", "infrastructure.cpu_pin=true", "--set", "tiers.cloud.cores=2")
    assert "host left has 2" in shared("plan", file, *pinned, code=3).err
    stand_ins.machines[0].put(b"#!/bin/sh\nexit 127\n", "/usr/local/bin/python3", mode=0o755)
    try:
        assert "host left has no python3" in shared("plan", file, code=3).err
    finally:
        stand_ins.machines[0].run(Command(("rm", "/usr/local/bin/python3"))).check()


@pytest.mark.cluster
def test_a_cluster_over_two_hosts(stand_ins: StandIns, shared: Any) -> None:
    file = shared.folder / "cluster.toml"
    file.write_text(CLUSTER.format(hosts=stand_ins.entry(1, "left") + stand_ins.entry(2, "right")))
    shared("run", file, "--results", "cluster")
    cluster = Cluster(shared, "cluster-across")
    assert cluster.nodes() == {"cloud-1": True, "cloud-2": True}
    # The worker is on the other host than its endpoint: photos and answers have crossed.
    run = cluster.results("cluster")
    assert [each["machine"] for each in run["workers"]] == ["cloud-2"]
    assert {each["name"]: each["host"] for each in run["machines"]} == {
        "cloud-1": "left",
        "cloud-2": "right",
        "endpoint-1": "left",
    }
    assert run["table"][0]["samples"] == run["table"][0]["ok"] == 6
    # And so have names: who knows them is beside the control plane.
    cluster.apply(server("hello", "cloud-2", cluster.image()), service("hello", "hello"))
    assert cluster.ask("hello", "http://hello.default.svc.cluster.local/") == REPLY
    shared("down", "cluster-across")
    assert stand_ins.traces(1) == stand_ins.traces(2) == []


def test_machines_on_a_bridge_of_the_users(continuum: Any, write: Any) -> None:
    file = write(
        f'name = "joined"\n[infrastructure]\nbridge = "{BRIDGE}"\n'
        '[tiers.edge]\nmachines = 2\nmemory = "128 MiB"\n'
    )
    continuum("up", file, code=3)
    with users_bridge(continuum.folder):
        before = addresses()
        continuum("up", file)
        assert "nothing was changed" in continuum("up", file).err
        continuum("exec", "joined", "edge-1", "--", "ping", "-c1", "-W2", "edge-2")
        # To a bridge of the deployment's own, and back.
        own = write(file.read_text().replace(f'bridge = "{BRIDGE}"', ""), "own.toml")
        assert "belongs to another" in continuum("up", own, code=2).err
        continuum("up", own, "--take-over", "--yes")
        assert addresses() == before
        continuum("up", file, "--take-over", "--yes")
        assert "nothing was changed" in continuum("up", file).err
        continuum("down", "joined")
        assert addresses() == before
        assert ip("-oneline", "link", "show", "master", BRIDGE) == ""
