"""The programs on machines' ports, run on frames as the kernel would run them."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import replace

import pytest

from continuum.infrastructure.host import port_filter
from continuum.infrastructure.plan import LinkSettings, MachineSpec
from continuum.machine import Command, Result
from continuum.testing.link_lab import make_plan

PLAN = make_plan({"edge": 2}, {("edge", "edge"): LinkSettings(5)})
ALONE = PLAN.machines[0]
NODE = replace(ALONE, pods=ipaddress.IPv4Network("10.213.0.128/25"))
SELF, POD, OTHER = "10.213.0.1", "10.213.0.200", "10.213.0.77"


def passes(program: str, frame: bytes, *, tagged: bool = False) -> bool:
    """What classic BPF says of a frame: the few instructions that are used."""
    count, *rest = program.split(",")
    code = [tuple(map(int, each.split())) for each in rest]
    assert len(code) == int(count)
    value = place = 0
    while True:
        word, taken, other, constant = code[place]
        place += 1
        match word:
            case 0x20 if constant == 0xFFFFF030:
                value = int(tagged)
            case 0x20:
                (value,) = struct.unpack_from("!I", frame, constant)
            case 0x28:
                (value,) = struct.unpack_from("!H", frame, constant)
            case 0x54:
                value &= constant
            case 0x15:
                place += taken if value == constant else other
            case 0x06:
                return constant == 0
            case _:
                pytest.fail(f"an instruction that nobody expects: {word}")


def frame(protocol: int, source: str = SELF, destination: str = SELF) -> bytes:
    addresses = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(destination).packed
    return bytes(12) + protocol.to_bytes(2) + bytes(12) + addresses + bytes(20)


@pytest.mark.parametrize(
    ("machine", "source", "taken"),
    [
        (ALONE, SELF, True),
        (ALONE, OTHER, False),
        (ALONE, POD, False),
        (ALONE, "192.168.7.1", False),
        (NODE, SELF, True),
        (NODE, POD, True),
        (NODE, OTHER, False),
    ],
)
def test_a_port_takes_what_comes_from_its_machines_own_addresses(
    machine: MachineSpec, source: str, taken: bool
) -> None:
    sent, _ = port_filter.programs(machine, PLAN.network)
    for destination in ("10.213.0.2", "8.8.8.8", "224.0.0.251"):
        assert passes(sent, frame(0x0800, source, destination)) is taken


@pytest.mark.parametrize(
    ("machine", "destination", "given"),
    [
        (ALONE, SELF, True),
        (ALONE, OTHER, False),
        (ALONE, POD, False),
        (NODE, POD, True),
        (NODE, OTHER, False),
        (ALONE, "224.0.0.251", True),
        (ALONE, "239.255.255.255", True),
        (ALONE, "240.0.0.1", False),
        (ALONE, "255.255.255.255", True),
        (ALONE, "10.213.255.255", True),
    ],
)
def test_a_port_gives_what_is_for_its_machine_or_for_everybody(
    machine: MachineSpec, destination: str, given: bool
) -> None:
    _, received = port_filter.programs(machine, PLAN.network)
    assert passes(received, frame(0x0800, "10.213.255.254", destination)) is given


@pytest.mark.parametrize("machine", [ALONE, NODE])
def test_arp_passes_and_no_other_protocol_nor_any_vlan(machine: MachineSpec) -> None:
    for program in port_filter.programs(machine, PLAN.network):
        assert passes(program, frame(0x0806))
        for protocol in (0x86DD, 0x8100, 0x88A8, 0x88B5, 0x8847):
            assert not passes(program, frame(protocol))
        assert passes(program, frame(0x0800))
        assert not passes(program, frame(0x0800), tagged=True)


def test_ports_that_are_closed_are_left_alone_and_others_closed_in_one_batch() -> None:
    ports = {"one": ALONE, "two": PLAN.machines[1]}
    wanted = [
        each for machine in ports.values() for each in port_filter.programs(machine, PLAN.network)
    ]
    batches: list[str] = []
    there = wanted[:2]

    def run(command: Command) -> Result:
        assert command.input is not None
        text = command.input.decode()
        batches.append(text)
        shown = there if "dev one" in text else wanted[2:]
        if "dev two" in text and "dev one" not in text:
            shown = there[2:]
        elif "dev two" in text:
            shown = there
        told = "".join(f"bytecode '{each}'\n" for each in shown)
        return Result(command, 0, told.encode(), b"", 0.0)

    assert port_filter.closed(ports, PLAN.network, run) == {"one"}
    assert port_filter.ensure(ports, PLAN.network, run)
    assert batches[-1].startswith("qdisc replace dev two clsact\n")
    assert "dev one" not in batches[-1]
    there = wanted
    assert not port_filter.ensure(ports, PLAN.network, run)
