from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest

from continuum.errors import NotPossibleHere
from continuum.experiment.model import Experiment
from continuum.infrastructure.configure import (
    Surroundings,
    changes,
    configure,
    from_json,
    other_addresses,
    remarks,
    to_json,
)
from continuum.infrastructure.plan import InfrastructurePlan, LinkSettings


def experiment(**parts: Any) -> Experiment:
    tiers = parts.pop(
        "tiers",
        {"cloud": {"machines": 1}, "edge": {"machines": 2}, "endpoint": {"machines": 2}},
    )
    return Experiment.model_validate({"name": "sample", "tiers": tiers, **parts})


SURROUNDINGS = Surroundings(deployment="sample", identity="0badcafe", image="image", host_cores=2)


def plan(
    of: Experiment, *, used: tuple[str, ...] = (), kept: str | None = None, cores: int = 2
) -> InfrastructurePlan:
    surroundings = replace(SURROUNDINGS, host_cores=cores, blocks_in_use=used, kept_block=kept)
    return configure(of, surroundings, {})


def test_every_tier_has_an_aligned_block_and_every_machine_an_address_of_its_own() -> None:
    made = plan(experiment())
    blocks = list(made.network.tiers.values())
    assert all(block.subnet_of(made.network.block) for block in blocks)
    assert not any(a.overlaps(b) for a in blocks for b in blocks if a is not b)
    addresses = [machine.address for machine in made.machines]
    assert len(set(addresses)) == len(addresses)
    assert made.network.host_address not in addresses
    assert len({machine.mac for machine in made.machines}) == len(addresses)
    for machine in made.machines:
        assert ipaddress.IPv4Address(machine.address) in made.network.tiers[machine.tier]


def test_a_block_in_use_is_avoided() -> None:
    first = plan(experiment()).network.block
    second = plan(experiment(), used=(str(first),)).network.block
    assert not first.overlaps(second)


def test_a_wide_route_is_a_way_out_and_takes_no_block() -> None:
    halves = ("0.0.0.0/1", "128.0.0.0/1")
    assert plan(experiment(), used=halves) == plan(experiment())
    asked = experiment(infrastructure={"address_block": "172.20.0.0"})
    assert str(plan(asked, used=halves).network.block.network_address) == "172.20.0.0"


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        (("10.0.0.0/8",), "172.16.0.0/12"),
        (("10.0.0.0/9", "10.128.0.0/9"), "172.16.0.0/12"),
        (("10.0.0.0/8", "172.16.0.0/12"), "192.168.0.0/16"),
        (("10.0.0.0/8", "172.16.0.0/13", "172.24.0.0/14", "172.30.0.0/15"), "172.28.0.0/15"),
        (("172.16.0.0/12", "192.168.0.0/16"), "10.0.0.0/8"),
    ],
)
def test_a_block_is_looked_for_in_all_private_ranges(used: tuple[str, ...], expected: str) -> None:
    made = plan(experiment(), used=used).network.block
    assert made.subnet_of(ipaddress.IPv4Network(expected))


def test_when_all_are_taken_what_takes_them_is_named() -> None:
    whole = {"10.0.0.0/8": "route through vpn0", "172.16.0.0/12": "", "192.168.0.0/16": "x"}
    surroundings = Surroundings(
        deployment="sample",
        identity="0badcafe",
        image="image",
        host_cores=2,
        blocks_in_use=(*whole, "127.0.0.0/8", *(f"10.0.{number}.0/24" for number in range(9))),
        block_user=lambda block: whole.get(block, ""),
    )
    with pytest.raises(NotPossibleHere) as caught:
        configure(experiment(), surroundings, {})
    assert "10.0.0.0/8 (route through vpn0), 172.16.0.0/12, 192.168" in caught.value.where
    assert "and 6 more" in caught.value.where
    assert "127.0.0.0" not in caught.value.where
    assert "VPN" in caught.value.hint
    with pytest.raises(NotPossibleHere, match=r"10\.0\.0\.0/8 \(route through vpn0\)"):
        configure(experiment(infrastructure={"address_block": "10.9.0.0"}), surroundings, {})


def test_a_kept_block_stays_while_it_is_free() -> None:
    made = plan(experiment(), kept="10.9.8.0")
    assert str(made.network.tiers["cloud"]) == "10.9.8.0/24"


def test_an_asked_block_that_clashes_is_refused() -> None:
    asked = experiment(infrastructure={"address_block": "192.168.100.0"})
    assert str(plan(asked).network.tiers["cloud"]) == "192.168.100.0/24"
    with pytest.raises(NotPossibleHere, match=r"192\.168\.0\.0/16"):
        plan(asked, used=("192.168.0.0/16",))


def test_an_asked_block_need_not_be_aligned_to_all_tiers() -> None:
    made = plan(experiment(infrastructure={"address_block": "192.168.101.0"}))
    assert [str(block) for block in made.network.tiers.values()] == [
        "192.168.101.0/24",
        "192.168.102.0/24",
        "192.168.103.0/24",
    ]
    assert str(made.network.block) == "192.168.100.0/22"


CLUSTER = {
    "tiers": {"cloud": {"machines": 2}, "endpoint": {"machines": 1}},
    "software": {"manager": "kubernetes", "execution_model": "container"},
}


def asking(block: str, **parts: Any) -> Experiment:
    return experiment(infrastructure={"address_block": block}, **parts)


def test_blocks_that_are_too_large_to_begin_where_asked_begin_elsewhere() -> None:
    of = asking("192.168.200.0", **CLUSTER)
    block = plan(of).network.block
    assert not block.overlaps(ipaddress.IPv4Network("192.168.0.0/16"))
    assert plan(of, used=(str(block),)).network.block != block
    (remark,) = other_addresses(of, plan(of))
    assert remark == (
        f"infrastructure.address_block: {block} is taken, since no block of 4,096 addresses, which "
        "each tier needs, begins at 192.168.200.0; in a cluster a machine has 256, for its pods"
    )
    assert str(plan(asking("192.168.192.0", **CLUSTER)).network.block[0]) == "192.168.192.0"


def test_a_wish_for_a_block_in_use_yields_and_what_is_up_stays() -> None:
    of = asking("192.168.200.0")
    wished = replace(SURROUNDINGS, block_preferred=True)
    assert str(configure(of, wished, {}).network.tiers["cloud"][0]) == "192.168.200.0"
    taken = configure(of, replace(wished, blocks_in_use=["192.168.201.0/24"]), {})
    assert not taken.network.block.overlaps(ipaddress.IPv4Network("192.168.0.0/16"))
    (remark,) = other_addresses(of, taken)
    assert remark.endswith("192.168.200.0 was in use on this host; after `down` it is tried again")
    kept = replace(wished, kept_block=str(taken.network.tiers["cloud"][0]))
    assert configure(of, kept, {}) == taken


def test_there_is_nothing_to_say_of_addresses_as_asked() -> None:
    of = asking("192.168.200.0")
    assert other_addresses(of, plan(of)) == []
    assert other_addresses(experiment(), plan(experiment())) == []


@pytest.mark.parametrize("block", ["10.255.255.0", "172.31.254.0", "192.168.254.0"])
def test_tiers_do_not_leave_the_private_range_that_they_begin_in(block: str) -> None:
    with pytest.raises(NotPossibleHere, match="do not fit into"):
        plan(experiment(infrastructure={"address_block": block}))


def test_many_machines_get_a_larger_block() -> None:
    made = plan(experiment(tiers={"edge": {"machines": 600}}))
    assert made.network.tiers["edge"].num_addresses == 1024
    assert len({machine.address for machine in made.machines}) == 600


def test_a_preset_gives_both_directions_and_only_between_its_tiers() -> None:
    links = {
        (link.source, link.destination): link.settings
        for link in plan(experiment(network={"preset": "4g"})).network.links
    }
    assert links["edge", "endpoint"] == LinkSettings(7.5, 2.5, 0, 7.21, 270_375)
    assert links["endpoint", "cloud"] == LinkSettings(45, 5, 0, 7.21, 270_375)
    assert ("endpoint", "endpoint") not in links
    assert ("cloud", "cloud") not in links, "one machine has nobody to talk to"


def test_an_entry_overrides_the_preset_in_its_direction_only() -> None:
    network = {"preset": "4g", "links": [{"from": "endpoint", "to": "edge", "delay": "30 ms"}]}
    links = {
        (link.source, link.destination): link.settings
        for link in plan(experiment(network=network)).network.links
    }
    assert links["endpoint", "edge"] == LinkSettings(30, 2.5, 0, 7.21, 270_375)
    assert links["edge", "endpoint"].delay_ms == 7.5


def test_an_entry_about_a_machine_comes_first_and_starts_from_its_tier() -> None:
    network = {"preset": "4g", "links": [{"between": ["edge-2", "endpoint"], "loss": "2 %"}]}
    links = plan(experiment(network=network)).network.links
    assert [(link.source, link.destination) for link in links[:2]] == [
        ("edge-2", "endpoint"),
        ("endpoint", "edge-2"),
    ]
    assert links[0].settings == LinkSettings(7.5, 2.5, 2.0, 7.21, 270_375)
    assert links[0].source_blocks[0].prefixlen == 32


def test_an_entry_about_a_machine_can_take_off_what_its_tier_has() -> None:
    links = [
        {"between": ["edge", "endpoint"], "delay": "10 ms"},
        {"from": "edge-1", "to": "endpoint", "delay": "0 ms"},
    ]
    first = plan(experiment(network={"links": links})).network.links[0]
    assert (first.source, first.settings) == ("edge-1", LinkSettings())


def test_a_queue_is_the_links_own_else_the_networks_else_the_presets() -> None:
    def queue(network: dict[str, Any], rate: float = 7.21) -> int | None:
        links = plan(experiment(network=network)).network.links
        found = next(
            each.settings for each in links if (each.source, each.destination) == ("edge", "cloud")
        )
        assert found.rate_mbit == rate
        return found.queue_bytes

    preset = {"preset": "4g", "links": [{"from": "edge", "to": "cloud", "rate": "7.21 Mbit/s"}]}
    both = {"from": "edge", "to": "cloud", "rate": "8 Mbit/s"}
    assert queue(preset) == round(7.21 * 125 * 20)
    assert queue(preset | {"queue": "64 kB"}) == 64_000
    assert queue(preset | {"links": [both | {"queue": "50 ms"}]}, 8.0) == 50_000
    assert queue({"links": [both]}, 8.0) == 100_000
    assert queue({"links": [both | {"rate": "1 Mbit/s"}]}, 1.0) == 32 * 1514
    assert queue({"links": [both | {"delay": "200 ms"}]}, 8.0) == 400_000
    # It cannot be less than what enters it at once.
    assert queue({"links": [both | {"queue": "1 B"}]}, 8.0) == 1514
    assert queue({"links": [both | {"rate": "1 Gbit/s", "queue": "1 ms"}]}, 1000.0) == 125_000
    assert queue({"links": [both | {"rate": "1 Gbit/s", "queue": "1 kB"}]}, 1000.0) == 65_550


def test_a_link_without_a_rate_has_no_queue() -> None:
    links = [{"from": "edge", "to": "endpoint", "delay": "10 ms"}]
    made = plan(experiment(network={"queue": "1 s", "links": links}))
    assert [each.settings.queue_bytes for each in made.network.links] == [None]


def test_tcp_is_the_same_on_every_host_whether_links_are_emulated_or_not() -> None:
    tcp = plan(experiment()).network.tcp
    assert tcp == plan(experiment(network={"preset": "4g"})).network.tcp
    assert tcp["net.ipv4.tcp_congestion_control"] == "cubic"
    assert tcp["net.ipv4.tcp_rmem"] == "4096 131072 6291456"
    own = {"congestion_control": "bbr", "send_buffer": "8 KiB", "ecn": "request"}
    changed = plan(experiment(network={"tcp": own})).network.tcp
    assert {name for name in tcp if tcp[name] != changed[name]} == {
        "net.ipv4.tcp_congestion_control",
        "net.ipv4.tcp_ecn",
        "net.ipv4.tcp_wmem",
    }
    assert changed["net.ipv4.tcp_wmem"] == "4096 8192 8192"


@pytest.mark.parametrize("turned", [False, True])
def test_from_a_machine_is_more_specific_than_to_one(turned: bool) -> None:
    to_machine = {"from": "endpoint", "to": "edge-1", "delay": "50 ms"}
    from_machine = {"from": "endpoint-1", "to": "edge", "delay": "10 ms"}
    links = [from_machine, to_machine] if turned else [to_machine, from_machine]
    found = plan(experiment(network={"links": links})).network.links
    assert [(link.source, link.destination) for link in found] == [
        ("endpoint-1", "edge"),
        ("endpoint", "edge-1"),
    ]


def test_pinning_gives_each_core_its_own_and_refuses_when_there_are_not_enough() -> None:
    asked = experiment(infrastructure={"cpu_pin": True})
    pinned = [machine.pinned_cores for machine in plan(asked, cores=5).machines]
    assert pinned == [(0,), (1,), (2,), (3,), (4,)]
    with pytest.raises(NotPossibleHere, match="needs 5 cores"):
        plan(asked, cores=4)


def test_a_plan_survives_being_written_down() -> None:
    made = plan(experiment(network={"preset": "5g"}))
    assert from_json(to_json(made)) == made


def test_what_the_host_cannot_give_is_remarked() -> None:
    assert remarks(plan(experiment()), {"": 5}, "all of it") == []
    large = plan(experiment(tiers={"edge": {"cores": 8, "quota": 0.2, "disk_read": "5 MB/s"}}))
    cores, disk = remarks(large, {"": 2}, "direct reads")
    assert "up to 8 cores and this host has 2" in cores
    assert disk == "disk limits hold for direct reads"


def test_more_cores_than_a_host_has_are_remarked_with_their_sum() -> None:
    made = plan(experiment(tiers={"edge": {"machines": 3, "cores": 2, "quota": 0.75}}))
    (remark,) = remarks(made, {"": 4}, "")
    assert "machines on this host may use 4.5 cores together and it has 4" in remark
    on_two = replace(
        made,
        machines=tuple(
            replace(spec, host=host)
            for spec, host in zip(made.machines, ("", "b", "b"), strict=True)
        ),
    )
    (remark,) = remarks(on_two, {"": 2, "b": 2}, "")
    assert "machines on host b may use 3 cores together and it has 2" in remark


def test_changes_name_what_differs_and_nothing_else() -> None:
    before = plan(experiment())
    running = {machine.name: "running" for machine in before.machines}
    assert changes(before, running, before) == []

    more = plan(experiment(tiers={"cloud": {}, "edge": {"machines": 3}, "endpoint": {}}))
    found = {(each.action, each.what) for each in changes(before, running, more)}
    assert found == {("create", "edge-3"), ("remove", "endpoint-2")}

    faster = plan(
        experiment(
            tiers={"cloud": {"cores": 2}, "edge": {"machines": 2}, "endpoint": {"machines": 2}}
        )
    )
    assert [str(each) for each in changes(before, running, faster)] == [
        "replace cloud-1: cores 1 → 2"
    ]

    linked = plan(experiment(network={"preset": "5g"}))
    assert [(each.action, each.what) for each in changes(before, running, linked)] == [
        ("update", "links")
    ]
    stopped = {**running, "edge-1": "stopped"}
    assert [(each.action, each.what) for each in changes(before, stopped, before)] == [
        ("update", "edge-1")
    ]


def test_a_further_tier_in_the_same_block_replaces_no_machine() -> None:
    tiers: dict[str, Any] = {"cloud": {}, "edge": {}, "endpoint": {}}
    before = plan(experiment(tiers=tiers))
    kept = str(before.network.tiers["cloud"].network_address)
    after = plan(experiment(tiers={**tiers, "fog": {}}), kept=kept)
    assert after.network.block == before.network.block
    running = dict.fromkeys((machine.name for machine in before.machines), "running")
    found = changes(before, running, after)
    assert [(each.action, each.what) for each in found] == [("create", "fog-1")]
