"""Traffic through a machine's port on the bridge, where links are emulated: what they can speak of.

Links tell packets apart by machines' IPv4 addresses, so nothing else may pass between machines: a
port takes from its machine ARP and IPv4 from its own addresses, and gives to it ARP and IPv4 to
its own addresses or to everybody. IPv6, other protocols, VLANs and other addresses are dropped.
It is the host's end of the interface: nothing in the machine can change it.

A program of classic BPF in each direction (clsact, cls_bpf), which every kernel with either
emulator can run; of 6.1 to 6.18 some lack the actions that other filters would need.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence

from continuum.infrastructure.links import namespaces
from continuum.infrastructure.links.rules import everybody
from continuum.infrastructure.plan import Block, MachineSpec, NetworkPlan
from continuum.machine import Command, Result, run_on_host

Run = Callable[[Command], Result]

_ARP, _IPV4 = 0x0806, 0x0800
_PROTOCOL, _SOURCE, _DESTINATION = 12, 26, 30
"""Offsets in the frame."""

_VLAN_TAG = 0xFFFFF000 + 48
"""BPF's name for the offset of "there is a VLAN tag beside the frame"."""

_LOAD_WORD, _LOAD_HALF, _MASK, _IF_EQUAL, _RETURN = 0x20, 0x28, 0x54, 0x15, 0x06
_PASS, _DROP = 0, 2
_WAYS = ("ingress", "egress")
_BYTECODE = re.compile(r"bytecode '([^']*)'")


def own(machine: MachineSpec) -> tuple[Block, ...]:
    """A machine's addresses: its own, and those of its pods."""
    address = ipaddress.IPv4Network(machine.address)
    return (address,) if machine.pods is None else (address, machine.pods)


def programs(machine: MachineSpec, network: NetworkPlan) -> tuple[str, str]:
    """The programs of a port, from its machine and to it, as `tc` takes and prints them."""
    mine = own(machine)
    return _program(_SOURCE, mine), _program(_DESTINATION, (*mine, *everybody(network)))


def _program(offset: int, blocks: Sequence[Block]) -> str:
    """ARP, and IPv4 whose address at the offset is in one of the blocks."""
    tests: list[tuple[int, int, int, int]] = []
    for block in blocks:
        tests.append((_LOAD_WORD, 0, 0, offset))
        if block.prefixlen < 32:
            tests.append((_MASK, 0, 0, int(block.netmask)))
        tests.append((_IF_EQUAL, -1, 0, int(block.network_address)))
    last = 5 + len(tests)
    code = [
        (_LOAD_WORD, 0, 0, _VLAN_TAG),
        (_IF_EQUAL, 0, last - 2, 0),
        (_LOAD_HALF, 0, 0, _PROTOCOL),
        (_IF_EQUAL, last - 3, 0, _ARP),
        (_IF_EQUAL, 0, last - 5, _IPV4),
        *tests,
        (_RETURN, 0, 0, _DROP),
        (_RETURN, 0, 0, _PASS),
    ]
    # Who finds its block goes to the end, wherever that is.
    done = [
        (word, len(code) - 2 - place if taken == -1 else taken, other, value)
        for place, (word, taken, other, value) in enumerate(code)
    ]
    return f"{len(done)}," + ",".join(" ".join(map(str, each)) for each in done)


def batch(ports: Mapping[str, MachineSpec], network: NetworkPlan) -> str:
    """Lines for `tc -batch` that close the machines' ports; a pure function."""
    lines = []
    for port, machine in ports.items():
        lines.append(f"qdisc replace dev {port} clsact")
        for way, program in zip(_WAYS, programs(machine, network), strict=True):
            lines.append(
                f"filter replace dev {port} {way} protocol all prio 1 handle 1 "
                f'bpf da bytecode "{program},"'
            )
    return "".join(f"{line}\n" for line in lines)


def ensure(ports: Mapping[str, MachineSpec], network: NetworkPlan, run: Run = run_on_host) -> bool:
    """Close the ports that are not closed; True when anything was changed.

    Raises:
        CommandFailed: the kernel refuses.
    """
    shut = closed(ports, network, run)
    todo = {port: machine for port, machine in ports.items() if port not in shut}
    if not todo:
        return False
    _tc(run, batch(todo, network)).check(
        "the machines' ports cannot be closed to what no link speaks of", hint="continuum doctor"
    )
    return True


def closed(
    ports: Mapping[str, MachineSpec], network: NetworkPlan, run: Run = run_on_host
) -> set[str]:
    """The ports that are closed as they should be."""
    wanted = {port: programs(machine, network) for port, machine in ports.items()}
    # All at once as a rule: a program for each of a thousand ports would take seconds.
    if not wanted or _found(run, list(wanted)) == [
        each for both in wanted.values() for each in both
    ]:
        return set(wanted)
    return {port for port, both in wanted.items() if _found(run, [port]) == list(both)}


def remove(ports: Sequence[str], run: Run = run_on_host) -> bool:
    """Open ports that were closed; True when there were any."""
    shown = run(Command(("tc", "qdisc", "show"))).text
    shut = [
        port for port in ports if re.search(rf"^qdisc clsact .* dev {port} ", shown, re.MULTILINE)
    ]
    if shut:
        _tc(run, "".join(f"qdisc del dev {port} clsact\n" for port in shut)).check()
    return bool(shut)


def probe(run: Run = run_on_host) -> str | None:
    """The obstacle to closing ports here, found by trying; None when there is none."""
    lines = 'qdisc add dev lo clsact\nfilter add dev lo ingress bpf da bytecode "1,6 0 0 2,"\n'
    return namespaces.scratch(run, "tc", "-batch", "-", lines=lines)


def _found(run: Run, ports: Sequence[str]) -> list[str]:
    """The programs on some ports, in order; nothing when one of them is not there."""
    shown = _tc(run, "".join(f"filter show dev {port} {way}\n" for port in ports for way in _WAYS))
    return _BYTECODE.findall(shown.text) if shown.exit_code == 0 else []


def _tc(run: Run, lines: str) -> Result:
    return run(Command(("tc", "-batch", "-"), input=lines.encode(), timeout=60))
