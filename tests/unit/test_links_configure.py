"""What emulators generate, and what they understand of what the kernel says back."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from pathlib import Path

import pytest

from continuum.deployment import Deployment
from continuum.infrastructure.links import namespaces, netem, nfqueue, rules, shaping
from continuum.infrastructure.links.contract import Interface, LinkEmulator
from continuum.infrastructure.links.netem import Netem
from continuum.infrastructure.links.nfqueue import Nfqueue
from continuum.infrastructure.plan import InfrastructurePlan, Link, LinkSettings
from continuum.testing.link_lab import HOST, make_plan

GOLDEN = Path(__file__).parents[1] / "golden" / "links"

PLAN = make_plan(
    {"cloud": 1, "edge": 2, "endpoint": 1},
    {
        ("edge-2", "endpoint-1"): LinkSettings(12.5, 0, 1.5, 29.66),
        ("cloud", "cloud"): LinkSettings(rate_mbit=1000),
        ("cloud", "edge"): LinkSettings(7.5, 2.5, 0, 1000),
        ("edge", "cloud"): LinkSettings(7.5, 2.5, 0, 1000),
        ("edge", "endpoint"): LinkSettings(7.5, 2.5, 0, 7.21),
        ("endpoint", "edge"): LinkSettings(7.5, 2.5, 0, 7.21),
        ("endpoint", "cloud"): LinkSettings(45, 5),
    },
)


@pytest.mark.parametrize("emulator", [Netem(), Nfqueue()], ids=["netem", "nfqueue"])
def test_files_are_those_in_the_golden_folder(emulator: LinkEmulator) -> None:
    golden = GOLDEN / emulator.name
    kept = {path.name: path.read_text() for path in golden.iterdir()}
    assert dict(emulator.configure(PLAN)) == kept


def test_netem_counts_links_whose_machines_all_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    interfaces = [Interface(machine) for machine in PLAN.machines]
    kernel = {
        each.machine.name: shaping.InForce(
            netem.traffic_classes(PLAN, each.machine),
            has_root=True,
            passed_by=(ipaddress.IPv4Network(HOST),),
        )
        for each in interfaces
    }
    monkeypatch.setattr(namespaces, "read_shaping", lambda each: kernel[each.machine.name])
    deployment, links = Deployment("lab", tmp_path), list(PLAN.network.links)
    assert Netem().in_force(deployment, PLAN, interfaces) == links

    without = [each for each in interfaces if each.machine.name != "endpoint-1"]
    found = Netem().in_force(deployment, PLAN, without)
    assert found == [each for each in links if "endpoint" not in each.source + each.destination]
    assert Netem().in_force(deployment, PLAN, []) == []

    apart = Link(
        "edge-1",
        "endpoint-1",
        (ipaddress.IPv4Network(PLAN.machines[1].address),),
        (ipaddress.IPv4Network(PLAN.machines[3].address),),
        LinkSettings(),
    )
    more = replace(PLAN, network=replace(PLAN.network, links=(apart, *links)))
    assert Netem().in_force(deployment, more, interfaces) == links


def test_nothing_to_emulate_needs_no_commands() -> None:
    plan = make_plan({"edge": 2}, {})
    assert set(Netem().configure(plan).values()) == {""}


def test_a_large_packet_does_not_pass_a_slow_link_in_one_piece() -> None:
    assert rules.FRAME <= rules.burst(0.008) < 2 * rules.FRAME
    assert rules.burst(7.21) < 2 * rules.FRAME
    assert rules.burst(500) < rules.LARGEST_PACKET
    assert rules.burst(1000) > rules.LARGEST_PACKET


@pytest.mark.parametrize("rate", [0.008, 1.0, 7.21, 200.0, 10_000.0, 400_000.0])
def test_a_burst_takes_a_frame_and_a_millisecond(rate: float) -> None:
    seconds = (rules.burst(rate) - rules.FRAME) / (rate * 125_000)
    assert seconds <= 1.2e-3 or rate * 125_000 < 1 / rules.SLACK


def test_a_queue_that_nobody_asked_for_holds_a_tenth_of_a_second_or_a_round_trip() -> None:
    def queue(rate: float, delay: float = 0.0) -> int:
        return rules.queue_bytes(LinkSettings(delay_ms=delay, rate_mbit=rate))

    assert queue(0.008) == queue(1.0) == 32 * rules.FRAME
    assert queue(100) == 1_250_000
    assert queue(100, 10) == 1_250_000
    assert queue(100, 150) == 3_750_000
    assert queue(400_000) == rules.LONGEST_QUEUE


def test_netem_holds_what_is_under_way_and_what_waits() -> None:
    assert rules.queue_packets(LinkSettings(0, 0, 0, 1.0)) == 32
    assert rules.queue_packets(LinkSettings(0, 0, 0, 1.0, 1_514_000)) == 1000
    # No packet is dropped for being small while less is under way than the rate carries.
    small = rules.queue_packets(LinkSettings(45, 5, 0, 7.21))
    assert small * rules.SMALL_PACKET > 0.065 * 7.21 * 125_000
    fast = rules.queue_packets(LinkSettings(100, 0, 0, 1000.0))
    assert fast * rules.FRAME > 0.1 * 125_000_000 + 0.2 * 125_000_000
    assert rules.queue_packets(LinkSettings(delay_ms=1)) == 1000
    assert rules.queue_packets(LinkSettings(delay_ms=60_000)) == 10**6


def test_what_is_sent_to_everybody_gets_the_most_of_everything() -> None:
    links = [each for each in PLAN.network.links if each.source == "edge"]
    assert rules.strictest(links) == LinkSettings(7.5, 2.5, 0, 7.21)
    assert rules.strictest(PLAN.network.links) == LinkSettings(45, 5, 1.5, 7.21)
    for emulator in (nfqueue, netem):
        assert emulator.traffic_classes(PLAN, PLAN.machines[1])[-1].destinations == (
            ipaddress.IPv4Network("224.0.0.0/4"),
            ipaddress.IPv4Network("255.255.255.255/32"),
            ipaddress.IPv4Network("10.213.255.255/32"),
        )


@pytest.mark.parametrize("size", [1514, 48_448, 64_000, 270_375, 3_000_000])
@pytest.mark.parametrize("rate", [0.25, 1.0, 7.21, 100.0])
def test_a_queue_is_read_back_as_it_was_asked_for(rate: float, size: int) -> None:
    """As the kernel tells it: the microseconds that a full queue takes beyond the bucket."""
    asked = LinkSettings(rate_mbit=rate, queue_bytes=size)
    bucket = nfqueue.bucket(asked)
    assert bucket is not None
    lasts = int((size - bucket.burst) / bucket.rate * 1e6)
    told = round(lasts * bucket.rate / 1e6) + bucket.burst
    assert rules.same_queue(told, asked) == size
    assert rules.same_queue(2 * size + 3000, asked) == 2 * size + 3000
    held = netem.traffic_classes(_one_link(asked), _one_link(asked).machines[0])[0]
    assert netem.settings_of(held, asked) == asked
    longer = LinkSettings(rate_mbit=rate, queue_bytes=2 * size + 3000)
    assert netem.settings_of(held, longer) != longer


def _one_link(settings: LinkSettings) -> InfrastructurePlan:
    return make_plan({"edge": 1, "endpoint": 1}, {("edge", "endpoint"): settings})


def test_a_machine_sends_over_what_no_more_specific_link_hides() -> None:
    machines = {machine.name: machine for machine in PLAN.machines}

    def names(found: list[tuple[int, Link]]) -> list[tuple[str, str]]:
        return [(link.source, link.destination) for _, link in found]

    links = PLAN.network.links
    assert names(rules.outgoing(links, machines["edge-2"])) == [
        ("edge-2", "endpoint-1"),
        ("edge", "cloud"),
        ("edge", "endpoint"),
    ]
    assert names(rules.incoming(links, machines["endpoint-1"])) == [
        ("edge-2", "endpoint-1"),
        ("edge", "endpoint"),
    ]
    both = make_plan(
        {"edge": 1, "cloud": 1},
        {("edge-1", "cloud"): LinkSettings(1), ("edge", "cloud"): LinkSettings(2)},
    )
    special, general = both.network.links
    assert names(rules.outgoing(both.network.links, both.machines[0])) == [("edge-1", "cloud")]
    assert rules.beginning(both.network.links, general, both.machines) == []
    assert rules.beginning(both.network.links, special, both.machines) == [both.machines[0]]


def test_the_first_link_that_fits_counts() -> None:
    cloud, first, second, endpoint = PLAN.machines
    links = PLAN.network.links
    assert rules.link_between(links, second, endpoint) == links[0]
    assert rules.link_between(links, first, endpoint) == links[4]
    assert rules.link_between(links, cloud, endpoint) is None


def test_rates_that_the_kernel_rounded_are_as_asked_for() -> None:
    assert rules.same_rate(7.210001, 7.21) == 7.21
    assert rules.same_rate(7.3, 7.21) == 7.3
    assert rules.same_rate(None, 7.21) is None
    assert rules.same_rate(5.0, None) == 5.0


# As tc 6.1 prints them; the netem entries follow the source of its `q_netem.c`.
DISCIPLINES = """[
{"kind":"htb","handle":"1:","root":true,"refcnt":3,"options":{"r2q":10,"default":"0",
 "direct_packets_stat":1,"direct_qlen":1000}},
{"kind":"tbf","handle":"10:","parent":"1:10","options":{"rate":901250,"burst":2415,"lat":1677210}},
{"kind":"tbf","handle":"11:","parent":"1:11","options":{"rate":1250000000,"burst":2415,"lat":837}},
{"kind":"netem","handle":"1011:","parent":"11:1","options":{"limit":122,
 "delay":{"delay":0.0075,"jitter":0.0025,"correlation":0},
 "loss-random":{"loss":0.015,"correlation":0},
 "rate":{"rate":901250,"packetoverhead":0,"cellsize":0,"celloverhead":0},"ecn":false,"gap":0}},
{"kind":"netem","handle":"1012:","parent":"1:12","options":{"limit":1000,
 "delay":{"delay":0.045,"jitter":0,"correlation":0},
 "rate":{"rate":12500000000,"packetoverhead":0,"cellsize":0,"celloverhead":0}}}
]"""
FILTERS = """filter parent 1: protocol ip pref 1 u32 chain 0
filter parent 1: protocol ip pref 1 u32 chain 0 fh 800: ht divisor 1
filter parent 1: protocol ip pref 1 u32 chain 0 fh 800::800 order 2048 key ht 800 bkt 0 *flowid 1: not_in_hw
  match 0a140001/ffffffff at 16
filter parent 1: protocol ip pref 10 u32 chain 0 fh 804::800 order 2048 key ht 804 bkt 0 *flowid 1: not_in_hw
  match 0a150000/ffff0000 at 16
filter parent 1: protocol ip pref 2 u32 chain 0 fh 801::800 order 2048 key ht 801 bkt 0 flowid 1:10
  match 0a144000/ffffc000 at 16
filter parent 1: protocol ip pref 3 u32 chain 0 fh 802::800 order 2048 key ht 802 bkt 0 *flowid 1:11 not_in_hw
  match 0a148000/ffffc000 at 16
filter parent 1: protocol ip pref 4 u32 chain 0 fh 803::800 order 2048 key ht 803 bkt 0 *flowid 1:12 not_in_hw
  match 0a14c001/ffffffff at 16
"""


def test_traffic_control_is_read_back() -> None:
    found = shaping.read(DISCIPLINES, FILTERS)
    assert found.has_root
    assert found.classes is not None
    assert [",".join(map(str, each.destinations)) for each in found.classes] == [
        "10.20.64.0/18",
        "10.20.128.0/18",
        "10.20.192.1/32",
        "10.21.0.0/16",
    ]
    bucket, both, delay, direct = found.classes
    assert bucket.bucket == shaping.Bucket(901_250, 2415, 1_514_001)
    assert bucket.netem is None
    assert both.netem == shaping.Netem(7500, 2500, 1.5, 901_250, 122)
    assert delay.bucket is None
    assert direct.direct
    asked = LinkSettings(7.5, 2.5, 1.5, 7.21)
    assert rules.queue_packets(asked) == 122
    assert netem.settings_of(both, asked) == asked
    assert netem.settings_of(delay, asked) == LinkSettings(delay_ms=45)
    assert netem.settings_of(None, asked) == LinkSettings()


_SECOND = (
    "filter parent 1: protocol ip pref 1 u32 chain 0 fh 800::801 order 2049 key ht 800 bkt 0 "
    "*flowid 1: not_in_hw\n  match 0a144000/ffffffff at "
)
_BPF = (
    "filter parent 1: protocol all pref 8 bpf chain 0 handle 0x1 flowid 1: bytecode '1,6 0 0 1'\n"
)


@pytest.mark.parametrize("other", [f"{_SECOND}16\n", f"{_SECOND}12\n", _BPF])
def test_a_way_around_the_classes_is_seen(other: str) -> None:
    assert shaping.read(DISCIPLINES, FILTERS).unaltered("10.20.0.1")
    assert not shaping.read(DISCIPLINES, FILTERS).unaltered("10.20.0.2")
    assert not shaping.read(DISCIPLINES, FILTERS + other).unaltered("10.20.0.1")


@pytest.mark.parametrize(
    ("disciplines", "has_root"),
    [
        ('[{"kind":"noqueue","handle":"0:","root":true,"options":{}}]', False),
        ('[{"kind":"pfifo_fast","handle":"8001:","root":true,"options":{}}]', True),
        ('[{"kind":"htb","handle":"8001:","root":true,"options":{}}]', True),
        ("[]", False),
        ("", False),
    ],
)
def test_what_is_not_ours_is_no_link(disciplines: str, has_root: bool) -> None:
    assert shaping.read(disciplines, "") == shaping.InForce(None, has_root)


def test_rounding_is_no_difference_and_anything_else_is() -> None:
    block = ipaddress.IPv4Network("10.0.0.0/16")
    asked = shaping.TrafficClass((block,), shaping.Bucket(901_250, 2415, 1_514_000))
    rounded = shaping.TrafficClass((block,), shaping.Bucket(901_250, 2414, 1_513_990))
    assert shaping.same([asked], [rounded])
    for other in (
        [],
        None,
        [shaping.TrafficClass((block,))],
        [shaping.TrafficClass((block,), shaping.Bucket(910_000, 2415, 1_514_000))],
        [shaping.TrafficClass((ipaddress.IPv4Network("10.1.0.0/16"),), asked.bucket)],
        [asked, asked],
    ):
        assert not shaping.same([asked], other)


def test_the_process_does_what_the_queues_of_the_rules_mean() -> None:
    files = Nfqueue().configure(PLAN)
    for machine in json.loads(files["delay_emulator.json"]):
        queues = {queue["queue"] for queue in machine["queues"]}
        table = files[f"{machine['name']}.rules"]
        assert {
            int(line.rsplit(" ", 1)[1]) for line in table.splitlines() if "NFQUEUE" in line
        } == (queues)


def test_a_bucket_that_cuts_packets_is_read_back_coarsely() -> None:
    """As a Debian 12 kernel tells 2416 bytes at 1.25 GB/s: in whole microseconds."""
    block = ipaddress.IPv4Network("10.0.0.0/16")
    asked = shaping.TrafficClass((block,), shaping.Bucket(1_250_000_000, 2416, 1_048_576))
    told = shaping.TrafficClass((block,), shaping.Bucket(1_250_000_000, 1250, 1_047_500))
    assert shaping.same([asked], [told])
    slow = shaping.TrafficClass((block,), shaping.Bucket(901_250, 2416, 1_048_576))
    other = shaping.TrafficClass((block,), shaping.Bucket(901_250, 1250, 1_048_576))
    assert not shaping.same([slow], [other])


def test_several_filters_of_one_priority_are_one_class() -> None:
    """As for machines that had addresses before; two classes may share the way that is free."""
    filters = "".join(
        f"filter parent 1: protocol ip pref {priority} u32 chain 0 fh 80{number}::800 order 2048 "
        f"key ht 800 bkt 0 flowid {target} not_in_hw\n  match {address}/ffffffff at 16\n"
        for number, (priority, target, address) in enumerate(
            [
                (1, "1:", "0a140001"),
                (2, "1:10", "c000020d"),
                (2, "1:10", "c000020b"),
                (3, "1:", "0a000001"),
                (4, "1:", "0a000002"),
            ]
        )
    )
    found = shaping.read(DISCIPLINES, filters).classes
    assert found is not None
    assert [",".join(map(str, each.destinations)) for each in found] == [
        "192.0.2.11/32,192.0.2.13/32",
        "10.0.0.1/32",
        "10.0.0.2/32",
    ]
    assert found[0].bucket == shaping.Bucket(901_250, 2415, 1_514_001)
    assert shaping.same(found[:1], [replace(found[0], destinations=found[0].destinations[::-1])])
