"""Packet filters beside ours, as `nft -j list ruleset` and `iptables-save` tell them."""

from __future__ import annotations

from typing import Any

import pytest

from continuum.infrastructure.host import other_filters

OURS = ("ip", "filter", "FORWARD")
BRIDGE = "ctm0badcafe"
ESTABLISHED: list[dict[str, Any]] = [
    {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}},
    {"accept": None},
]
INVALID: list[dict[str, Any]] = [
    {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "invalid"}},
    {"drop": None},
]


def chain(
    policy: str = "accept",
    *,
    family: str = "inet",
    table: str = "filter",
    name: str = "forward",
    hook: str = "forward",
) -> dict[str, Any]:
    based = {"type": "filter", "hook": hook, "prio": 0, "policy": policy} if hook else {}
    return {"chain": {"family": family, "table": table, "name": name, **based}}


def rule(
    *expressions: dict[str, Any], family: str = "inet", table: str = "filter", name: str = "forward"
) -> dict[str, Any]:
    return {"rule": {"family": family, "table": table, "chain": name, "expr": [*expressions]}}


def named(key: str, name: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": {"meta": {"key": key}}, "right": name}}


DROP, ACCEPT, COUNTER = {"drop": None}, {"accept": None}, {"counter": {"packets": 0, "bytes": 0}}
REJECT = {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}
COMMENT = {"xt": {"type": "match", "name": "comment"}}


@pytest.mark.parametrize(
    ("ruleset", "drops"),
    [
        ([chain("drop"), rule(*ESTABLISHED)], True),
        ([chain("accept"), rule(*ESTABLISHED)], False),
        ([chain("drop", hook="input", name="input")], False),
        ([chain("drop", family="ip6")], False),
        ([chain("drop", family="bridge")], True),
        ([chain(), rule(COUNTER, DROP)], True),
        ([chain(), rule(*INVALID)], False),
        ([chain("drop"), rule(named("iifname", "ctm*"), COUNTER, ACCEPT)], False),
        ([chain("drop"), rule(named("iifname", BRIDGE), COMMENT, ACCEPT)], False),
        ([chain("drop"), rule(named("iifname", {"set": ["eth0", "ctm*"]}), ACCEPT)], False),
        ([chain("drop"), rule(named("iifname", "eth0"), ACCEPT)], True),
        ([chain("drop"), rule(named("iifname", "eth0", "!="), ACCEPT)], False),
        (
            [chain("drop"), rule(named("iifname", BRIDGE), {"xt": {"name": "limit"}}, ACCEPT)],
            True,
        ),
        # As firewalld has it: other chains are asked first, and the last rule refuses.
        (
            [
                chain(table="firewalld", name="filter_FORWARD"),
                chain(table="firewalld", name="policies", hook=""),
                rule(*ESTABLISHED, table="firewalld", name="filter_FORWARD"),
                rule({"jump": {"target": "policies"}}, table="firewalld", name="filter_FORWARD"),
                rule(REJECT, table="firewalld", name="filter_FORWARD"),
                rule(named("iifname", "eth0"), ACCEPT, table="firewalld", name="policies"),
            ],
            True,
        ),
        (
            [
                chain("drop"),
                chain(name="ours", hook=""),
                rule({"jump": {"target": "ours"}}),
                rule(named("oifname", "ctm*"), {"goto": {"target": "more"}}, name="ours"),
                rule(ACCEPT, name="more"),
            ],
            False,
        ),
        # A chain that calls itself is none that the kernel would take.
        ([chain("drop"), rule({"jump": {"target": "forward"}})], True),
        ([chain("drop", family="ip", name="FORWARD")], False),
        ([chain("drop", family="ip", name="FORWARD", table="other")], True),
    ],
)
def test_chains_that_drop_what_machines_send_are_found(
    ruleset: list[dict[str, Any]], drops: bool
) -> None:
    found = other_filters.of_ruleset(ruleset, BRIDGE, ours=OURS, bridge_is_filtered=True)
    assert bool(found) == drops


def test_they_are_named_with_what_lets_packets_through() -> None:
    (found,) = other_filters.of_ruleset([chain("drop")], BRIDGE, ours=None, bridge_is_filtered=True)
    assert str(found) == "packets between machines are dropped by table inet filter, chain forward"
    assert f"nft insert rule inet filter forward iifname '\"{BRIDGE}\"' accept" in found.mend
    (found,) = other_filters.of_ruleset(
        [chain("drop", table="firewalld")], "ctm*", ours=None, bridge_is_filtered=False
    )
    assert "to other networks" in str(found)
    assert found.mend.startswith("firewall-cmd --zone=trusted")


@pytest.mark.parametrize(
    ("saved", "drops"),
    [
        (":FORWARD ACCEPT [0:0]\n-A FORWARD -i x -j DROP\n", False),
        (":FORWARD DROP [0:0]\n", True),
        (":FORWARD ACCEPT [0:0]\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited\n", True),
        (":FORWARD DROP [0:0]\n-A FORWARD -i ctm+ -o ctm+ -j ACCEPT\n", False),
    ],
)
def test_the_older_tables_are_read_too(saved: str, drops: bool) -> None:
    assert bool(other_filters.of_legacy(saved, "ctm+", bridge_is_filtered=True)) == drops
