"""Packet filters of this host's own that drop what machines send: found, and named.

The kernel asks every base chain; what our rules accept, another table may still drop. This is so for
packets that are routed and, where `br_netfilter` is switched on as Docker and Kubernetes do, for
those within our bridge too. Others' tables are left as they are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continuum.errors import ContinuumError
from continuum.machine import Command, run_on_host

BRIDGES = "ctm"
"""Begin of the names of our bridges."""

_BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_LEGACY_TABLES = Path("/proc/net/ip_tables_names")

_OF_IPV4 = frozenset({"ip", "inet"})
_NAMING = {
    "ip": frozenset({"iifname", "oifname", "iif", "oif"}),
    "inet": frozenset({"iifname", "oifname", "iif", "oif"}),
    "bridge": frozenset({"ibrname", "obrname"}),
}
"""Words that name our bridge, by family: to a bridge's own chains the interfaces are its ports."""

_HARMLESS = frozenset({"counter", "log", "comment"})


@dataclass(frozen=True)
class Drop:
    """A chain that drops what machines send.

    Attributes:
        chain: its place, as `table inet filter, chain forward`.
        within: whether it drops what machines of one deployment send each other.
        mend: the command that lets it through.
    """

    chain: str
    within: bool
    mend: str

    def __str__(self) -> str:
        what = "packets between machines" if self.within else "machines' packets to other networks"
        return f"{what} are dropped by {self.chain}"


def found(bridge: str = "", *, internet: bool = True) -> list[Drop]:
    """Chains of this host that drop what machines on our bridge send; looks, and changes nothing.

    Args:
        bridge: its name; any of ours when empty.
        internet: whether machines have a way out, which the host's routes are for.
    """
    drops = [*_of_nft(bridge or f"{BRIDGES}*"), *_of_legacy(bridge or f"{BRIDGES}+")]
    return [each for each in drops if each.within or internet]


def _bridge_is_filtered() -> bool:
    try:
        return _BRIDGE_FILTER.read_text().strip() == "1"
    except OSError:
        return False


def _of_nft(bridge: str) -> list[Drop]:
    if shutil.which("nft") is None:
        return []
    try:
        shown = run_on_host(Command(("nft", "-j", "list", "ruleset"), timeout=30)).check()
        ruleset = json.loads(shown.stdout)["nftables"]
    except (ContinuumError, ValueError, KeyError, TypeError, RecursionError):
        return []
    # Ours are in the chain of the same iptables, in front of all that drops there.
    version = run_on_host(Command(("iptables", "--version"), timeout=10)).text
    ours = ("ip", "filter", "FORWARD") if "nf_tables" in version else None
    return of_ruleset(ruleset, bridge, ours=ours, bridge_is_filtered=_bridge_is_filtered())


def of_ruleset(
    ruleset: Iterable[Mapping[str, Any]],
    bridge: str,
    *,
    ours: tuple[str, str, str] | None,
    bridge_is_filtered: bool,
) -> list[Drop]:
    """Chains of a ruleset, as `nft -j` tells it, that drop what machines send; pure.

    Args:
        ruleset: its objects.
        bridge: name of a bridge, or its begin with a `*`.
        ours: family, table and chain of the rules that we set ourselves.
        bridge_is_filtered: whether packets within a bridge pass the chains for IPv4 too.
    """
    chains: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    rules: dict[tuple[str, str, str], list[Sequence[Mapping[str, Any]]]] = {}
    for each in ruleset:
        if "chain" in each:
            one = each["chain"]
            chains[one["family"], one["table"], one["name"]] = one
        elif "rule" in each:
            one = each["rule"]
            key = (one["family"], one["table"], one["chain"])
            rules.setdefault(key, []).append(one["expr"])
    drops = []
    for key, chain in chains.items():
        family, table, name = key
        if chain.get("hook") != "forward" or family not in {*_OF_IPV4, "bridge"} or key == ours:
            continue
        verdict = _verdict(key, rules, bridge)
        if verdict == "drop" or (verdict is None and chain.get("policy") == "drop"):
            drops.append(
                Drop(
                    chain=f"table {family} {table}, chain {name}",
                    within=family == "bridge" or bridge_is_filtered,
                    mend=_mend(family, table, name, bridge),
                )
            )
    return drops


def _verdict(
    key: tuple[str, str, str],
    rules: Mapping[tuple[str, str, str], list[Sequence[Mapping[str, Any]]]],
    bridge: str,
    depth: int = 0,
) -> str | None:
    """Verdict of a chain on a packet of our bridges that no other condition speaks of; None: not."""
    if depth > 16:
        return None
    for expressions in rules.get(key, []):
        if not all(_holds(each, key[0], bridge) for each in expressions):
            continue
        for each in expressions:
            if "accept" in each or "return" in each:
                return "accept" if "accept" in each else None
            if "drop" in each or "reject" in each:
                return "drop"
            target = each.get("jump") or each.get("goto")
            if target:
                inner = _verdict((*key[:2], target["target"]), rules, bridge, depth + 1)
                if inner is not None or "goto" in each:
                    return inner
    return None


def _holds(expression: Mapping[str, Any], family: str, bridge: str) -> bool:
    """Tell whether a part of a rule holds for every packet of the bridge, as far as we can read it."""
    if "match" in expression:
        match = expression["match"]
        left, right = match.get("left"), match.get("right")
        key = left.get("meta", {}).get("key") if isinstance(left, dict) else None
        named = right if isinstance(right, list) else [right]
        if isinstance(right, dict):
            named = right.get("set", [])
        same = any(isinstance(each, str) and _covers(each, bridge) for each in named)
        if key in _NAMING[family]:
            return same if match.get("op", "==") in {"==", "in"} else not same
        return False
    if "xt" in expression:
        return bool(expression["xt"].get("name") == "comment")
    verdicts = {"accept", "drop", "reject", "return", "jump", "goto"}
    return bool((verdicts | _HARMLESS) & expression.keys())


def _covers(name: str, bridge: str) -> bool:
    begin = name.rstrip("*")
    return bridge.startswith(begin) if name.endswith("*") else name == bridge


def _mend(family: str, table: str, chain: str, bridge: str) -> str:
    if table == "firewalld":
        one = f"{BRIDGES}NAME" if bridge.endswith("*") else bridge
        return f"firewall-cmd --zone=trusted --add-interface={one}"
    incoming, outgoing = ("ibrname", "obrname") if family == "bridge" else ("iifname", "oifname")
    # All that they let through our own rules judge too.
    return "; ".join(
        f"nft insert rule {family} {table} {chain} {key} '\"{bridge}\"' accept"
        for key in (incoming, outgoing)
    )


def _of_legacy(bridge: str) -> list[Drop]:
    """Those of the older tables, where our own rules are in the newer ones."""
    try:
        if "filter" not in _LEGACY_TABLES.read_text().split():
            return []
    except OSError:
        return []
    if "nf_tables" not in run_on_host(Command(("iptables", "--version"), timeout=10)).text:
        return []
    if shutil.which("iptables-legacy-save") is None:
        return []
    shown = run_on_host(Command(("iptables-legacy-save", "-t", "filter"), timeout=30)).text
    return of_legacy(shown, bridge, bridge_is_filtered=_bridge_is_filtered())


def of_legacy(saved: str, bridge: str, *, bridge_is_filtered: bool) -> list[Drop]:
    """The same of the older tables' chain FORWARD, as `iptables-save` tells it; pure."""
    lines = saved.splitlines()
    begin = bridge.rstrip("+")
    accepted = any(
        line.startswith("-A FORWARD") and f" {begin}" in line and line.endswith("-j ACCEPT")
        for line in lines
    )
    dropping = {"-A FORWARD -j DROP", "-A FORWARD -j REJECT"}
    drops = any(
        line.startswith((":FORWARD DROP", "-A FORWARD -j REJECT ")) or line in dropping
        for line in lines
    )
    if accepted or not drops:
        return []
    mend = "; ".join(f"iptables-legacy -I FORWARD {way} {bridge} -j ACCEPT" for way in ("-i", "-o"))
    return [Drop("the older iptables' chain FORWARD (iptables-legacy)", bridge_is_filtered, mend)]
