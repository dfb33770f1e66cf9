"""Which host carries which machine, where there are several. Pure.

The rule, in this order:

1. A machine that is there already stays where it is, unless its tier may not be there any more.
2. A tier goes only to the hosts that it names, if it names any.
3. Tiers are taken in the order of the file, and each is kept together: it goes to the first host
   (this one first, then in the order of the file) that has cores and memory left for all of it.
4. Where no host has room for all of a tier, each of its machines goes to the first that has room
   for it.
5. Where none has, it goes to the host with the fewest cores promised per core: machines may be
   promised more than there is, and `plan` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from continuum.experiment.model import THIS_HOST, Experiment, Tier
from continuum.experiment.units import show_bytes


@dataclass(frozen=True)
class Room:
    """What a host has. `host` is its name, "" for this one; `memory` in bytes."""

    host: str
    cores: int
    memory: int


@dataclass(frozen=True)
class Placed:
    """The host of a machine, "" for this one, and why."""

    host: str
    reason: str


def shown(host: str) -> str:
    """A host's name, for a person."""
    return host or THIS_HOST


class _Promises:
    """What has been promised of every host."""

    def __init__(self, rooms: Sequence[Room]) -> None:
        self.rooms = {room.host: room for room in rooms}
        self.cores = dict.fromkeys(self.rooms, 0)
        self.memory = dict.fromkeys(self.rooms, 0)

    def give(self, host: str, tier: Tier) -> None:
        self.cores[host] += tier.cores
        self.memory[host] += tier.memory

    def fits(self, host: str, tier: Tier, count: int) -> bool:
        room = self.rooms[host]
        return (
            self.cores[host] + tier.cores * count <= room.cores
            and self.memory[host] + tier.memory * count <= room.memory
        )

    def left(self, host: str) -> str:
        room = self.rooms[host]
        return (
            f"{room.cores - self.cores[host]} of {room.cores} cores and "
            f"{show_bytes(max(0, room.memory - self.memory[host]))} were left"
        )

    def emptiest(self, hosts: Sequence[str], tier: Tier) -> str:
        return min(hosts, key=lambda host: (self.cores[host] + tier.cores) / self.rooms[host].cores)


def place(
    experiment: Experiment, rooms: Sequence[Room], kept: Mapping[str, str]
) -> dict[str, Placed]:
    """The host of every machine; empty when there are no rooms, and so one host.

    Args:
        experiment: what is to be placed.
        rooms: the hosts that carry machines, in the order in which they are tried.
        kept: the host of each machine that exists.
    """
    if not rooms:
        return {}
    promises = _Promises(rooms)
    placed: dict[str, Placed] = {}
    allowed = {name: _allowed(tier, rooms) for name, tier in experiment.tiers.items()}
    for name, tier in experiment.tiers.items():
        for machine in experiment.machine_names(name):
            if kept.get(machine) in allowed[name]:
                promises.give(kept[machine], tier)
                placed[machine] = Placed(kept[machine], "it is there already")
    for name, tier in experiment.tiers.items():
        new = [each for each in experiment.machine_names(name) if each not in placed]
        hosts = allowed[name]
        named = f"tiers.{name}.hosts" if tier.hosts else ""
        whole = next((host for host in hosts if promises.fits(host, tier, len(new))), None)
        room = "" if whole is None else promises.left(whole)
        for machine in new:
            if len(hosts) == 1:
                found = Placed(hosts[0], f"{named} names it" if named else "it is the only host")
            elif whole is not None:
                found = Placed(whole, f"room for all of tier {name}: {room}")
            else:
                found = _alone(promises, hosts, tier)
            promises.give(found.host, tier)
            placed[machine] = found
    return placed


def _allowed(tier: Tier, rooms: Sequence[Room]) -> tuple[str, ...]:
    names = ["" if each == THIS_HOST else each for each in tier.hosts]
    return tuple(room.host for room in rooms if not names or room.host in names)


def _alone(promises: _Promises, hosts: Sequence[str], tier: Tier) -> Placed:
    for host in hosts:
        if promises.fits(host, tier, 1):
            return Placed(host, f"room for it: {promises.left(host)}")
    host = promises.emptiest(hosts, tier)
    return Placed(
        host,
        f"no host has room; fewest cores promised per core: {promises.cores[host]} of "
        f"{promises.rooms[host].cores} before it",
    )
