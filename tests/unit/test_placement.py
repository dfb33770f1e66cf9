"""Which host carries which machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from continuum.errors import NotPossibleHere
from continuum.experiment.load import load_text
from continuum.experiment.model import Experiment, problems_over_fields
from continuum.experiment.write import to_toml
from continuum.infrastructure.configure import (
    Surroundings,
    changes,
    configure,
    from_json,
    kept_hosts,
    to_json,
)
from continuum.infrastructure.placement import Room, place
from continuum.infrastructure.plan import HostPlan, InfrastructurePlan

GIB = 2**30
TWO = (Room("", 4, 8 * GIB), Room("big", 8, 16 * GIB))


def experiment(tiers: dict[str, Any], **infrastructure: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "sample",
            "hosts": [{"name": "big", "ssh": "root@big"}],
            "infrastructure": infrastructure,
            "tiers": tiers,
        }
    )


def hosts(tiers: dict[str, Any], kept: dict[str, str] | None = None) -> dict[str, str]:
    placed = place(experiment(tiers), TWO, kept or {})
    return {name: each.host for name, each in placed.items()}


def test_one_host_needs_no_placement() -> None:
    assert place(experiment({"edge": {"machines": 3}}), (), {}) == {}


def test_a_tier_stays_together_on_the_first_host_that_has_room() -> None:
    found = hosts({"cloud": {"machines": 2, "cores": 2}, "edge": {"machines": 2, "cores": 2}})
    assert found == {"cloud-1": "", "cloud-2": "", "edge-1": "big", "edge-2": "big"}
    small_again = hosts(
        {
            "cloud": {"machines": 1, "cores": 3},
            "edge": {"machines": 2, "cores": 2},
            "endpoint": {"machines": 1},
        }
    )
    assert small_again["endpoint-1"] == ""


def test_memory_counts_as_cores_do() -> None:
    assert hosts({"edge": {"memory": "9 GiB"}}) == {"edge-1": "big"}


def test_a_tier_that_fits_nowhere_whole_is_spread() -> None:
    found = place(experiment({"edge": {"machines": 6, "cores": 2}}), TWO, {})
    assert [each.host for each in found.values()] == ["", "", "big", "big", "big", "big"]
    assert "room for it: 2 of 4 cores" in found["edge-2"].reason


def test_without_any_room_the_least_promised_gets_it() -> None:
    found = place(experiment({"edge": {"machines": 9, "cores": 4}}), TWO, {})
    assert [each.host for each in found.values()].count("big") == 6
    assert "no host has room" in found["edge-9"].reason


def test_a_tier_is_only_where_it_may_be() -> None:
    tiers = {"cloud": {"hosts": ["big"]}, "edge": {"hosts": ["this"], "cores": 64}}
    found = place(experiment(tiers), TWO, {})
    assert {name: each.host for name, each in found.items()} == {"cloud-1": "big", "edge-1": ""}
    assert found["cloud-1"].reason == "tiers.cloud.hosts names it"


def test_what_is_there_stays_and_is_counted() -> None:
    tiers = {"cloud": {"machines": 1, "cores": 4}, "edge": {"machines": 2, "cores": 4}}
    found = hosts(tiers, kept={"edge-1": "", "edge-2": "big"})
    assert found == {"cloud-1": "big", "edge-1": "", "edge-2": "big"}
    moved = hosts({"edge": {"hosts": ["big"]}}, kept={"edge-1": ""})
    assert moved == {"edge-1": "big"}
    assert hosts({"edge": {}}, kept={"edge-1": "gone"}) == {"edge-1": ""}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"hosts": [{"ssh": "a", "name": "this"}]}, "is what this host is called"),
        ({"hosts": [{"ssh": "a", "name": "b"}, {"ssh": "c", "name": "b"}]}, 'called "b"'),
        ({"hosts": [{"ssh": "a"}, {"ssh": "a"}]}, "a is named twice"),
        ({"infrastructure": {"this_host": False}}, "no other host"),
        ({"tiers": {"edge": {"hosts": ["there"]}}}, 'no host "there" carries machines'),
        (
            {
                "hosts": [{"ssh": "a"}],
                "infrastructure": {"this_host": False},
                "tiers": {"edge": {"hosts": ["this"]}},
            },
            "hosts: host-1",
        ),
    ],
)
def test_rules_over_hosts(parts: dict[str, Any], expected: str) -> None:
    whole = Experiment.model_validate({"name": "x", "tiers": {"edge": {}}, **parts})
    assert any(expected in message for _, message in problems_over_fields(whole))


@pytest.mark.parametrize("ssh", ["a b", "-oProxyCommand=x", "a@", "@b", "u@-h", "h:port", "u@h;x"])
def test_what_is_no_host_is_refused(ssh: str) -> None:
    with pytest.raises(ValueError, match="ssh"):
        Experiment.model_validate({"name": "x", "tiers": {}, "hosts": [{"ssh": ssh}]})


def test_hosts_are_written_as_they_are_read(tmp_path: Path) -> None:
    text = """name = "x"
[infrastructure]
bridge = "br0"
[[hosts]]
ssh = "me@one:2222"
ssh_config = "keys/config"
[[hosts]]
ssh = "two"
name = "big"
folder = "/srv/continuum"
[tiers.edge]
hosts = ["big", "this"]
"""
    path = tmp_path / "x.toml"
    read = load_text(text, path).experiment
    assert read.hosts[0].ssh_config == str(tmp_path / "keys" / "config")
    assert load_text(to_toml(read), path).experiment == read


# -- in the plan ---------------------------------------------------------------------------------


def plan(
    tiers: dict[str, Any], kept: dict[str, str] | None = None, **infrastructure: Any
) -> InfrastructurePlan:
    surroundings = Surroundings(
        deployment="sample",
        identity="0badcafe",
        image="image",
        host_cores=4,
        hosts=(HostPlan("big", "root@big", address="192.0.2.2", seen_from="192.0.2.1"),),
        rooms=TWO,
        kept_hosts=kept or {},
        mtu=1450,
    )
    return configure(experiment(tiers, **infrastructure), surroundings, {})


SPREAD = {"cloud": {"cores": 4}, "edge": {"machines": 2, "cores": 2}}


def test_a_share_holds_the_hosts_own_machines_and_knows_the_others() -> None:
    whole = plan(SPREAD)
    assert whole == from_json(to_json(whole))
    here, there = whole.share(""), whole.share("big")
    assert [each.name for each in here.machines] == ["cloud-1"]
    assert [each.name for each in there.machines] == ["edge-1", "edge-2"]
    assert {*here.machines, *here.elsewhere} == {*there.machines, *there.elsewhere}
    assert here.peers == ("192.0.2.2",)
    assert there.peers == ("192.0.2.1",)
    assert there == from_json(to_json(there))


def test_cores_are_pinned_on_every_host_from_its_first() -> None:
    pinned = {each.name: each.pinned_cores for each in plan(SPREAD, cpu_pin=True).machines}
    assert pinned == {"cloud-1": (0, 1, 2, 3), "edge-1": (0, 1), "edge-2": (2, 3)}
    with pytest.raises(NotPossibleHere, match="host big has 8"):
        plan({"edge": {"machines": 3, "cores": 4, "hosts": ["big"]}}, cpu_pin=True)


def test_a_bridge_of_the_users_needs_no_smaller_packets() -> None:
    network = plan(SPREAD, bridge="br0").network
    assert (network.bridge, network.joined, network.mtu) == ("br0", True, None)
    assert plan(SPREAD).network.mtu == 1450


def test_a_move_and_other_hosts_are_changes() -> None:
    before = plan(SPREAD)
    kept = {each.name: each.host for each in before.machines}
    after = plan({**SPREAD, "cloud": {"cores": 4, "hosts": ["big"]}}, kept)
    states = {each.name: "running" for each in before.machines}
    assert [str(each) for each in changes(before, states, after)] == [
        "replace cloud-1: host this → big"
    ]


def over(*ways: str, before: InfrastructurePlan | None = None) -> InfrastructurePlan:
    """Three machines over hosts without names; the first two go to the first host."""
    made = Experiment.model_validate(
        {
            "name": "sample",
            "hosts": [{"ssh": way} for way in ways],
            "infrastructure": {"this_host": False},
            "tiers": {"cloud": {"cores": 2}, "edge": {"machines": 2, "cores": 2}},
        }
    )
    reached = tuple(HostPlan(name, way) for name, way in zip(made.host_names, ways, strict=True))
    surroundings = Surroundings(
        deployment="sample",
        identity="0badcafe",
        image="image",
        host_cores=4,
        hosts=reached,
        rooms=tuple(Room(each.name, 4, 8 * GIB) for each in reached),
        kept_hosts=kept_hosts(before, reached),
    )
    return configure(made, surroundings, {})


def carriers(whole: InfrastructurePlan) -> dict[str, str]:
    ways = {each.name: each.ssh for each in whole.hosts}
    return {each.name: ways[each.host] for each in whole.machines}


RUNNING = dict.fromkeys(("cloud-1", "edge-1", "edge-2"), "running")


def test_machines_stay_when_their_hosts_change_places() -> None:
    before = over("a", "b")
    assert carriers(before) == {"cloud-1": "a", "edge-1": "b", "edge-2": "b"}
    for ways in (("b", "a"), ("c", "b", "a")):
        after = over(*ways, before=before)
        assert carriers(after) == carriers(before)
        found = [(each.action, each.what) for each in changes(before, RUNNING, after)]
        assert found == [("update", "hosts")]


@pytest.mark.parametrize("ways", [("other", "b"), ("b",)])
def test_only_machines_whose_host_is_left_are_replaced(ways: tuple[str, ...]) -> None:
    before = over("a", "b")
    after = over(*ways, before=before)
    assert carriers(after) == {"cloud-1": ways[0], "edge-1": "b", "edge-2": "b"}
    # A host that is written otherwise is the same computer: the machine is seen. Else it is not.
    for states in (RUNNING, {"edge-1": "running", "edge-2": "running"}):
        assert [str(each) for each in changes(before, states, after)] == [
            "replace cloud-1: its host host-1 (a) is left",
            "update hosts: the hosts of the experiment differ",
        ]


def test_a_machine_of_a_host_that_is_left_may_be_wanted_no_more() -> None:
    before = over("a", "b")
    after = over("a", before=before)
    fewer = replace(after, machines=after.machines[:2])
    assert [str(each) for each in changes(before, {"cloud-1": "running"}, fewer)][:2] == [
        "replace edge-1: its host host-2 (b) is left",
        "remove edge-2: the experiment does not have it any more",
    ]
