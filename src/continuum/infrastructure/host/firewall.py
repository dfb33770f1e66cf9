"""The rules that close a deployment's network, by iptables; known by their comments.

Machines reach each other and nothing else: no other network, no other deployment, no port of the
host but that of its time, where they have clocks of their own. The host reaches the machines. Where
several hosts carry machines, each hears the others, and nobody else, at the port that joins their
networks.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from continuum.images.recipe import fingerprint
from continuum.infrastructure.plan import TIME_PORT, NetworkPlan
from continuum.machine import Command, run_on_host

WAIT = ("--wait", "20")
_TABLES = ("filter", "nat")


@dataclass(frozen=True)
class Rule:
    """One rule, without its comment. `text` is what follows the chain's name."""

    table: str
    chain: str
    text: str


def rules(network: NetworkPlan, peers: Sequence[str] = (), port: int = 0) -> tuple[Rule, ...]:
    """The rules of one deployment, in the order in which they are tried; a pure function.

    Args:
        network: of the deployment.
        peers: addresses of the other hosts.
        port: UDP port at which the hosts hear one another.
    """
    bridge = network.bridge
    answers = "-m conntrack --ctstate ESTABLISHED,RELATED"
    # A bridge of the user's own carries others too: only what is of our block is ours to close.
    sent = f"-i {bridge} -s {network.block}" if network.joined else f"-i {bridge}"
    received = f"-o {bridge} -d {network.block}" if network.joined else f"-o {bridge}"
    # With br_netfilter, frames within the bridge pass here too.
    forward = [f"{sent} {received} -j ACCEPT"]
    if network.internet:
        forward += [
            f"{sent} -o ctm+ -j DROP",
            f"-i ctm+ {received} -j DROP",
            f"{sent} -j ACCEPT",
            f"{received} {answers} -j ACCEPT",
        ]
    forward += [f"{sent} -j DROP", f"{received} -j DROP"]
    enter = [
        f"{sent} {answers} -j ACCEPT",
        f"{sent} -p icmp -j ACCEPT",
        *(
            [f"{sent} -d {network.host_address}/32 -p udp --dport {TIME_PORT} -j ACCEPT"]
            if network.host_time
            else []
        ),
        f"{sent} -j DROP",
    ]
    if peers and not network.joined:
        enter += [f"-s {peer} -p udp --dport {port} -j ACCEPT" for peer in peers]
        enter.append(f"-p udp --dport {port} -j DROP")
    out = [f"-s {network.block} ! -o {bridge} -j MASQUERADE"] if network.internet else []
    return (
        *(Rule("filter", "FORWARD", text) for text in forward),
        *(Rule("filter", "INPUT", text) for text in enter),
        *(Rule("nat", "POSTROUTING", text) for text in out),
    )


def ensure(identity: str, network: NetworkPlan, peers: Sequence[str] = (), port: int = 0) -> bool:
    """Put the rules in force, in front of all others; True when anything was changed."""
    wanted = rules(network, peers, port)
    comments = _comments(identity, wanted)
    there = _marked(f"continuum {identity} ")
    if sorted(comment for _, _, comment in there) == sorted(comments):
        return False
    batch: dict[str, list[str]] = {table: [] for table in _TABLES}
    for table, line, _ in there:
        batch[table].append(line)
    # Each is inserted at the front, so the last comes first.
    for rule, comment in reversed(list(zip(wanted, comments, strict=True))):
        batch[rule.table].append(f'-I {rule.chain} 1 {rule.text} -m comment --comment "{comment}"')
    _restore(batch)
    return True


def missing(
    identity: str, network: NetworkPlan, peers: Sequence[str] = (), port: int = 0
) -> tuple[int, int]:
    """Number of a deployment's rules that are not in force, and of those that should be."""
    wanted = _comments(identity, rules(network, peers, port))
    there = {comment for _, _, comment in _marked(f"continuum {identity} ")}
    return len(set(wanted) - there), len(wanted)


def _comments(identity: str, wanted: Sequence[Rule]) -> list[str]:
    """Comment that each of the rules is known by."""
    version = fingerprint([(rule.table, rule.chain, rule.text) for rule in wanted])
    return [f"continuum {identity} {version} {number}" for number in range(len(wanted))]


def remove(identity: str) -> bool:
    """Remove the rules of one deployment; True when there were any."""
    there = _marked(f"continuum {identity} ")
    batch: dict[str, list[str]] = {table: [] for table in _TABLES}
    for table, line, _ in there:
        batch[table].append(line)
    _restore(batch)
    return bool(there)


def let_anybody_out() -> bool:
    """Whether any deployment, of whichever state folder, has a way out of this host."""
    return bool(_marked("continuum ", ("nat",)))


def _marked(begin: str, tables: Sequence[str] = _TABLES) -> list[tuple[str, str, str]]:
    """(table, the line that deletes the rule, its comment) of rules whose comment begins so."""
    found = []
    for table in tables:
        shown = run_on_host(Command(("iptables-save", "-t", table))).check(
            hint="apt-get install -y iptables"
        )
        for line in shown.text.splitlines():
            if line.startswith("-A ") and f'--comment "{begin}' in line:
                words = shlex.split(line)
                comment = words[words.index("--comment") + 1]
                found.append((table, f"-D {line[3:]}", comment))
    return found


def _restore(batch: dict[str, list[str]]) -> None:
    """Apply changes, each table at one stroke."""
    text = "".join(
        f"*{table}\n" + "".join(f"{line}\n" for line in lines) + "COMMIT\n"
        for table, lines in batch.items()
        if lines
    )
    if text:
        run_on_host(
            Command(("iptables-restore", "--noflush", *WAIT), input=text.encode(), timeout=40)
        ).check(
            "the rules that close the emulated network could not be set", hint="continuum doctor"
        )
