"""Phase 1, configure: from an experiment to a plan of machines, addresses and links. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from pydantic import TypeAdapter

from continuum.errors import NotPossibleHere
from continuum.experiment import units
from continuum.experiment.model import PRIVATE_RANGES, Experiment, Tcp
from continuum.experiment.model import Link as LinkEntry
from continuum.experiment.presets import PRESETS
from continuum.infrastructure import placement, tcp
from continuum.infrastructure.links import rules
from continuum.infrastructure.plan import (
    Block,
    Existing,
    HostPlan,
    InfrastructurePlan,
    Link,
    LinkSettings,
    MachineSpec,
    NetworkPlan,
)

_WAY_OUT = 8
"""Routes to blocks with a shorter prefix are ways out of the host, as the two halves of a VPN's default
route are; they take no addresses from anybody."""

_SHOWN = 6
"""Blocks that an error names at most."""

SMALLEST_TIER = 256
FIRST_MACHINE = 2
"""Offset of a tier's first machine in its block: 0 is the network, 1 the host on the first."""

SMALLEST_CLUSTER = 16
"""Machines of a cluster's tier that there is room for at least: more can join live."""

MACHINE_BLOCK = 256
"""Addresses of a machine in a cluster: its own and, in the upper half, those of its pods. So what
is said of a machine or of a tier holds for its pods without being said again."""

PLAN = TypeAdapter(InfrastructurePlan)


@dataclass(frozen=True)
class Surroundings:
    """What the plan depends on beside the experiment: facts about the host.

    Attributes:
        deployment, identity: of the deployment.
        image: fingerprint of the machine image.
        host_cores: cores of the host.
        blocks_in_use: address blocks to keep away from, and `block_user` of each what has it, as
            `route through vpn0`; "" where that is not known.
        kept_block: first address of the block that this deployment already has, if it has one.
        kept_size: addresses of each of its tiers, 0 when it has none.
        block_preferred: whether the experiment's block is a wish only: a deployment keeps the one
            that it has, and gets another free one where the wish's is in use.
        host_time: whether machines are to have this host's time.
        existing: the machines, where they exist already; None where they are made.
        hosts: the other hosts, and `rooms` what each has, this one as "" first where it carries
            machines; both empty when this one carries all.
        kept_hosts: the host of each machine that this deployment already has, where it stays one.
        mtu: of the network between the hosts where it is less than 1500, else None.
    """

    deployment: str
    identity: str
    image: str
    host_cores: int
    blocks_in_use: Sequence[str] = ()
    block_user: Callable[[str], str] = lambda _: ""
    kept_block: str | None = None
    kept_size: int = 0
    block_preferred: bool = False
    host_time: bool = False
    existing: Existing | None = None
    hosts: tuple[HostPlan, ...] = ()
    rooms: tuple[placement.Room, ...] = ()
    kept_hosts: Mapping[str, str] = field(default_factory=dict)
    mtu: int | None = None


def configure(
    experiment: Experiment, surroundings: Surroundings, settings: dict[str, Any]
) -> InfrastructurePlan:
    """The plan of phase 1.

    Raises:
        NotPossibleHere: the addresses clash, none are free, or cores cannot be pinned.
    """
    if surroundings.existing is not None:
        return _of_existing(experiment, surroundings, surroundings.existing, settings)
    tiers = _tier_blocks(experiment, surroundings)
    block = _covering(tiers.values())
    first = next(iter(tiers.values()))
    placed = placement.place(experiment, surroundings.rooms, surroundings.kept_hosts)
    bridge = experiment.infrastructure.bridge
    return InfrastructurePlan(
        deployment=surroundings.deployment,
        identity=surroundings.identity,
        provider=experiment.infrastructure.provider,
        image=surroundings.image,
        machines=_machines(experiment, surroundings, tiers, placed),
        network=NetworkPlan(
            bridge=bridge or f"ctm{surroundings.identity}",
            block=block,
            host_address=str(first[1]),
            tiers=tiers,
            links=resolve_links(experiment, _blocks(experiment, tiers)),
            emulator=experiment.network.emulator if experiment.network else "auto",
            internet=experiment.infrastructure.internet,
            host_time=surroundings.host_time,
            joined=bridge is not None,
            mtu=None if bridge is not None else surroundings.mtu,
            tcp=_tcp(experiment),
        ),
        settings=settings,
        hosts=surroundings.hosts,
        reasons={name: each.reason for name, each in placed.items()},
    )


def _of_existing(
    experiment: Experiment,
    surroundings: Surroundings,
    existing: Existing,
    settings: dict[str, Any],
) -> InfrastructurePlan:
    """The plan for machines that have their addresses, and much else, already."""
    own = {spec.name: ipaddress.IPv4Network(spec.address) for spec in existing.machines.values()}
    blocks: dict[str, tuple[Block, ...]] = {name: (block,) for name, block in own.items()}
    for tier in experiment.tiers:
        blocks[tier] = tuple(sorted(own[name] for name in experiment.machine_names(tier)))
    return InfrastructurePlan(
        deployment=surroundings.deployment,
        identity=surroundings.identity,
        provider=experiment.infrastructure.provider,
        image=surroundings.image,
        machines=tuple(existing.machines[name] for name in experiment.all_machine_names),
        network=NetworkPlan(
            bridge="",
            block=_covering(own.values()),
            host_address=existing.host_address,
            tiers={},
            links=resolve_links(experiment, blocks),
            emulator=experiment.network.emulator if experiment.network else "auto",
            internet=experiment.infrastructure.internet,
            host_time=surroundings.host_time,
            tcp=_tcp(experiment),
        ),
        settings=settings,
    )


def _tcp(experiment: Experiment) -> dict[str, str]:
    """TCP's settings are made whether links are emulated or not."""
    return tcp.settings(experiment.network.tcp if experiment.network else Tcp())


def to_json(plan: InfrastructurePlan) -> str:
    """The plan as text; equal plans give equal texts."""
    return PLAN.dump_json(plan, indent=1).decode() + "\n"


def from_json(text: str | bytes) -> InfrastructurePlan:
    """The plan that `to_json` wrote."""
    return PLAN.validate_json(text)


def _tier_size(experiment: Experiment, surroundings: Surroundings) -> int:
    """Addresses of every tier: a power of two, all the same, with room for some more machines."""
    most = max(tier.machines for tier in experiment.tiers.values())
    # What has been given is kept, so that fewer machines change nothing for those that stay.
    size = max(SMALLEST_TIER, surroundings.kept_size)
    wanted = most + most // 4 + FIRST_MACHINE + 1
    if experiment.in_a_cluster:
        wanted = max(SMALLEST_CLUSTER, most + most // 4) * MACHINE_BLOCK
    while size < wanted:
        size *= 2
    return size


def _machine_block(experiment: Experiment, tier: Block, index: int) -> Block:
    """The addresses of a tier's machine; only the one that it has itself outside a cluster."""
    if not experiment.in_a_cluster:
        return ipaddress.IPv4Network(tier[FIRST_MACHINE + index])
    first = int(tier.network_address) + index * MACHINE_BLOCK
    return ipaddress.IPv4Network((first, 32 - (MACHINE_BLOCK.bit_length() - 1)))


def _address(block: Block) -> ipaddress.IPv4Address:
    return block[0] if block.num_addresses == 1 else block[FIRST_MACHINE]


def _pods(block: Block) -> Block | None:
    return None if block.num_addresses == 1 else list(block.subnets(1))[1]


def _tier_blocks(experiment: Experiment, surroundings: Surroundings) -> dict[str, Block]:
    size = _tier_size(experiment, surroundings)
    count = len(experiment.tiers)
    used = [ipaddress.IPv4Network(text, strict=False) for text in surroundings.blocks_in_use]
    asked = experiment.infrastructure.address_block
    kept = surroundings.kept_block
    wish = asked if asked is not None and _begins(asked, size) else None
    starts = [kept, wish] if surroundings.block_preferred else [wish or kept]
    for start in filter(None, starts):
        blocks = _consecutive(int(ipaddress.IPv4Address(start)), size, count)
        left = _left_range(blocks) if start == wish else None
        if left is not None and not surroundings.block_preferred:
            raise _too_late(blocks, left)
        clash = _first_clash(_covering(blocks), used)
        if clash is None and left is None:
            return dict(zip(experiment.tiers, blocks, strict=True))
        if clash is not None and start == wish and not surroundings.block_preferred:
            raise NotPossibleHere(
                f"addresses {_covering(blocks)} overlap with {_named(clash, surroundings)}, "
                "which this host uses",
                where="infrastructure.address_block",
                hint="choose another one, or leave it out to get a free one",
            )
    whole = size
    while whole < size * count:
        whole *= 2
    for space in PRIVATE_RANGES:
        positions = space.num_addresses // whole
        offset = int(surroundings.identity, 16)
        for attempt in range(positions):
            base = int(space[0]) + ((offset + attempt) % positions) * whole
            blocks = _consecutive(base, size, count)
            if _first_clash(_covering(blocks), used) is None:
                return dict(zip(experiment.tiers, blocks, strict=True))
    raise _none_free(whole, used, surroundings)


def _left_range(blocks: Sequence[Block]) -> Block | None:
    """The private range that tiers begin in, where they do not end in it."""
    return next(
        (
            space
            for space in PRIVATE_RANGES
            if blocks[0].subnet_of(space) and not blocks[-1].subnet_of(space)
        ),
        None,
    )


def _too_late(blocks: Sequence[Block], space: Block) -> NotPossibleHere:
    return NotPossibleHere(
        f"{len(blocks)} tiers of {blocks[0].num_addresses} addresses each, from {blocks[0][0]} on, "
        f"do not fit into {space}",
        where="infrastructure.address_block",
        hint="choose an earlier one, or leave it out to get a free one",
    )


def _none_free(size: int, used: Sequence[Block], surroundings: Surroundings) -> NotPossibleHere:
    """The error that names what takes the private ranges, the widest first."""
    taking = {
        each
        for each in used
        if each.prefixlen >= _WAY_OUT and any(each.overlaps(space) for space in PRIVATE_RANGES)
    }
    widest = sorted(taking, key=lambda each: (each.prefixlen, each))[:_SHOWN]
    named = ", ".join(_named(each, surroundings) for each in widest)
    more = f", and {len(taking) - _SHOWN} more" if len(taking) > _SHOWN else ""
    return NotPossibleHere(
        f"no free block of {size} addresses in {', '.join(map(str, PRIVATE_RANGES))} on this host",
        where=f"in the way: {named}{more}",
        hint="have the VPN or router behind them announce less than whole private ranges, or "
        "disconnect it while machines are up; where it is deployments, `continuum down` some",
    )


def _named(block: Block, surroundings: Surroundings) -> str:
    user = surroundings.block_user(str(block))
    return f"{block} ({user})" if user else str(block)


def _begins(address: str, size: int) -> bool:
    """Tell whether blocks of a size can begin at an address."""
    return int(ipaddress.IPv4Address(address)) % size == 0


def other_addresses(experiment: Experiment, plan: InfrastructurePlan) -> list[str]:
    """Remark, for a person, that the deployment does not have the addresses asked for, and why."""
    asked = experiment.infrastructure.address_block
    first = next(iter(plan.network.tiers.values()), None)
    if asked is None or first is None or str(first[0]) == asked:
        return []
    if not _begins(asked, first.num_addresses):
        size = f"{first.num_addresses:,} addresses"
        pods = "; in a cluster a machine has 256, for its pods" if experiment.in_a_cluster else ""
        why = f"no block of {size}, which each tier needs, begins at {asked}{pods}"
    else:
        why = f"{asked} was in use on this host; after `down` it is tried again"
    return [f"infrastructure.address_block: {plan.network.block} is taken, since {why}"]


def _consecutive(base: int, size: int, count: int) -> list[Block]:
    aligned = base - base % size
    prefix = 32 - (size.bit_length() - 1)
    return [
        ipaddress.IPv4Network((aligned + index * size, prefix), strict=True)
        for index in range(count)
    ]


def _covering(blocks: Iterable[Block]) -> Block:
    """The smallest block that holds all of them."""
    ordered = sorted(blocks)
    first, last = ordered[0].network_address, ordered[-1].broadcast_address
    bits = (int(first) ^ int(last)).bit_length()
    return ipaddress.IPv4Network((int(first) >> bits << bits, 32 - bits))


def _first_clash(block: Block, used: Iterable[Block]) -> Block | None:
    near = (other for other in used if other.prefixlen >= _WAY_OUT)
    return next((other for other in near if other.overlaps(block)), None)


def _machines(
    experiment: Experiment,
    surroundings: Surroundings,
    tiers: dict[str, Block],
    placed: Mapping[str, placement.Placed],
) -> tuple[MachineSpec, ...]:
    nodes = experiment.node_machines if experiment.carries_containers else ()
    cores = {room.host: room.cores for room in surroundings.rooms} or {"": surroundings.host_cores}
    free_cores = {host: iter(range(count)) for host, count in cores.items()}
    specs = []
    for name, tier in experiment.tiers.items():
        for index, machine in enumerate(experiment.machine_names(name)):
            block = _machine_block(experiment, tiers[name], index)
            address = _address(block)
            host = placed[machine].host if machine in placed else ""
            specs.append(
                MachineSpec(
                    name=machine,
                    tier=name,
                    address=str(address),
                    mac=_mac(surroundings.identity, address),
                    cores=tier.cores,
                    quota=tier.quota,
                    memory=tier.memory,
                    disk_read=tier.disk_read,
                    disk_write=tier.disk_write,
                    pinned_cores=(
                        _pin(free_cores[host], tier.cores, experiment, host, cores[host])
                        if experiment.infrastructure.cpu_pin
                        else ()
                    ),
                    nested=machine in nodes,
                    privileged=machine in nodes and experiment.in_a_cluster,
                    pods=_pods(block) if machine in nodes else None,
                    host=host,
                )
            )
    return tuple(specs)


def _pin(
    free: Iterator[int], count: int, experiment: Experiment, host: str, has: int
) -> tuple[int, ...]:
    cores = tuple(islice(free, count))
    if len(cores) < count:
        wanted = sum(tier.cores * tier.machines for tier in experiment.tiers.values())
        raise NotPossibleHere(
            f"cpu_pin needs {wanted} cores for all machines; "
            f"{f'host {host}' if host else 'this host'} has {has}",
            where="infrastructure.cpu_pin",
            hint="--set infrastructure.cpu_pin=false, or fewer machines or cores",
        )
    return cores


def _mac(identity: str, address: ipaddress.IPv4Address) -> str:
    """Locally administered; unique on the bridge by the last 24 bits of the address."""
    low = int(address) & 0xFFFFFF
    parts = [0x02, int(identity[0:2], 16), int(identity[2:4], 16)]
    parts += [low >> 16, (low >> 8) & 0xFF, low & 0xFF]
    return ":".join(f"{part:02x}" for part in parts)


def _blocks(experiment: Experiment, tiers: dict[str, Block]) -> dict[str, tuple[Block, ...]]:
    """Addresses of all tiers, and of the machines that links are about, by name."""
    found: dict[str, tuple[Block, ...]] = {name: (block,) for name, block in tiers.items()}
    links = experiment.network.links if experiment.network else ()
    tier_of = _tier_of(experiment) if links else {}
    for machine in {end for entry in links for pair in entry.directions for end in pair}:
        if machine not in tiers and machine in tier_of:
            tier = tier_of[machine]
            index = experiment.machine_names(tier).index(machine)
            found[machine] = (_machine_block(experiment, tiers[tier], index),)
    return found


def _tier_of(experiment: Experiment) -> dict[str, str]:
    return {
        machine: tier for tier in experiment.tiers for machine in experiment.machine_names(tier)
    }


def resolve_links(
    experiment: Experiment, blocks: Mapping[str, tuple[Block, ...]]
) -> tuple[Link, ...]:
    """Every emulated directed path, the most specific first.

    `blocks` are the addresses of tiers and machines, by name. The preset is the ground, entries of the file follow in their order. An entry about machines
    starts from what its tiers have by then.
    """
    network = experiment.network
    if network is None:
        return ()
    tier_of = _tier_of(experiment)
    machines = {
        end
        for entry in network.links
        for pair in entry.directions
        for end in pair
        if end in tier_of and end not in experiment.tiers
    }
    settings: dict[tuple[str, str], LinkSettings] = {}
    queues: dict[tuple[str, str], str] = {}
    for pair, values in PRESETS[network.preset].items() if network.preset else ():
        if pair[0] in experiment.tiers and pair[1] in experiment.tiers:
            settings[pair] = LinkSettings(
                values.delay_ms, values.jitter_ms, values.loss_percent, values.rate_mbit
            )
            queues[pair] = network.queue or f"{values.queue_ms:g} ms"
    for entry in network.links:
        for pair in entry.directions:
            on_tiers = (
                tier_of[pair[0]] if pair[0] in machines else pair[0],
                tier_of[pair[1]] if pair[1] in machines else pair[1],
            )
            ground = settings.get(pair) or settings.get(on_tiers) or LinkSettings()
            settings[pair] = _overridden(ground, entry)
            queue = entry.queue or queues.get(pair) or queues.get(on_tiers) or network.queue
            if queue is not None:
                queues[pair] = queue
    links = [
        Link(source, destination, blocks[source], blocks[destination], values)
        for (source, destination), values in _with_queues(settings, queues).items()
        if _can_carry(experiment, source, destination)
        # A path between tiers without any property needs no link; one of a machine may have to
        # take off what its tier's link has.
        and (values != LinkSettings() or source in machines or destination in machines)
    ]
    return tuple(
        sorted(
            links,
            key=lambda link: (
                -((link.source in machines) + (link.destination in machines)),
                link.source not in machines,
            ),
        )
    )


def _with_queues(
    settings: Mapping[tuple[str, str], LinkSettings], queues: Mapping[tuple[str, str], str]
) -> dict[tuple[str, str], LinkSettings]:
    """The bytes of each queue, now that its rate is known."""
    found = {}
    for pair, values in settings.items():
        asked = None
        if values.rate_mbit is not None:
            if pair in queues:
                asked = units.queue_size(queues[pair], values.rate_mbit)
            asked = rules.queue_bytes(replace(values, queue_bytes=asked))
        found[pair] = replace(values, queue_bytes=asked)
    return found


def _overridden(ground: LinkSettings, entry: LinkEntry) -> LinkSettings:
    written: dict[str, Any] = {
        "delay_ms": entry.delay,
        "jitter_ms": entry.jitter,
        "loss_percent": entry.loss,
        "rate_mbit": entry.rate,
    }
    return replace(ground, **{key: value for key, value in written.items() if value is not None})


def _can_carry(experiment: Experiment, source: str, destination: str) -> bool:
    """Whether there are two machines that the path could join."""
    ends = [experiment.tiers.get(end) for end in (source, destination)]
    if any(tier is not None and tier.machines == 0 for tier in ends):
        return False
    return not (source == destination and (ends[0] is None or ends[0].machines < 2))


def remarks(plan: InfrastructurePlan, host_cores: Mapping[str, int], disk_limits: str) -> list[str]:
    """Remarks for a person on a plan that can be carried out, but has a limit.

    `host_cores` are those of each host, by its name, "" for this one.
    """
    found: list[str] = []
    for host, cores in host_cores.items():
        carried = [spec for spec in plan.machines if spec.host == host]
        found += _on_few_cores(carried, cores, f"host {host}" if host else "this host")
    if any(spec.disk_read or spec.disk_write for spec in plan.machines):
        found.append(f"disk limits hold for {disk_limits}")
    return found


def _on_few_cores(carried: Sequence[MachineSpec], cores: int, where: str) -> Iterator[str]:
    most = max((spec.cores for spec in carried), default=0)
    if most > cores:
        yield (
            f"machines have up to {most} cores and {where} has {cores}: "
            "what they compute at once takes longer than it would on as many"
        )
    promised = sum(spec.cores * spec.quota for spec in carried)
    if promised > cores:
        yield (
            f"machines on {where} may use {promised:g} cores together and it has {cores}: "
            "what they compute at the same time takes longer"
        )


@dataclass(frozen=True)
class Change:
    """One difference between what is and what the plan wants.

    `action` is `create`, `replace`, `remove` or `update`; `reason` says why, for a person.
    """

    action: str
    what: str
    reason: str

    def __str__(self) -> str:
        return f"{self.action} {self.what}: {self.reason}"


def changes(
    before: InfrastructurePlan | None, states: dict[str, str], after: InfrastructurePlan
) -> list[Change]:
    """What `execute` will do. `states` maps existing machines to `running` or `stopped`."""
    found: list[Change] = []
    kept = kept_hosts(before, after.hosts)
    former = before.machines if before else ()
    # A host that has another name now has the same machines.
    old = {each.name: replace(each, host=kept[each.name]) for each in former if each.name in kept}
    lost = {each.name: each.host for each in former if each.name not in kept}
    new = {spec.name: spec for spec in after.machines}
    everything = _reason_to_replace_all(before, after)
    # Machines that existed before are never made anew.
    replace_ = "replace" if after.network.tiers else "update"
    for name, spec in new.items():
        if name in lost:
            found.append(
                Change(replace_, name, f"its host {_known_as(before, lost[name])} is left")
            )
        elif name not in states:
            found.append(Change("create", name, "it does not exist"))
        elif everything:
            found.append(Change(replace_, name, everything))
        elif name in old and old[name] != spec:
            found.append(Change(replace_, name, _field_differences(old[name], spec)))
        elif states[name] != "running":
            found.append(Change("update", name, f"it is {states[name]}; it is started"))
    found += [
        Change("remove", name, "the experiment does not have it any more")
        for name in dict.fromkeys((*states, *lost))
        if name not in new
    ]
    if before is not None and before.hosts != after.hosts:
        found.append(Change("update", "hosts", "the hosts of the experiment differ"))
    found += _network_changes(before, after)
    return found


def _network_changes(
    before: InfrastructurePlan | None, after: InfrastructurePlan
) -> Iterator[Change]:
    if before is None:
        if after.network.links:
            yield Change("create", "links", f"{len(after.network.links)} directed links")
        return
    if before.network.links != after.network.links:
        yield Change("update", "links", "the network of the experiment differs")
    if before.network.tcp != after.network.tcp:
        yield Change("update", "TCP", "its settings on the machines differ")


def kept_hosts(before: InfrastructurePlan | None, hosts: Sequence[HostPlan]) -> dict[str, str]:
    """The host of each machine that was there before, by its present name; without the machines
    whose host is not one of `hosts` any more.

    A host is known by its `ssh`: without a name of its own it is called by its place in the file.
    """
    if before is None:
        return {}
    present = {each.ssh: each.name for each in hosts}
    names = {each.name: present[each.ssh] for each in before.hosts if each.ssh in present}
    names[""] = ""
    return {each.name: names[each.host] for each in before.machines if each.host in names}


def _known_as(before: InfrastructurePlan | None, host: str) -> str:
    """A host's name with how it was reached: another may have that name now."""
    ways = {each.name: each.ssh for each in before.hosts} if before else {}
    return f"{host} ({ways.get(host, '?')})"


def _reason_to_replace_all(before: InfrastructurePlan | None, after: InfrastructurePlan) -> str:
    if before is None:
        return ""
    old, new = before.network, after.network
    # Machines that exist have their addresses, and nothing else of them is in the settings.
    made = bool(new.tiers)
    surroundings = [(each.block, each.host_address, each.internet) for each in (old, new)]
    differences = (
        (before.provider != after.provider, f"provider {before.provider} → {after.provider}"),
        (before.image != after.image, "the machine image differs"),
        (made and before.settings != after.settings, "the provider's settings differ"),
        (made and surroundings[0] != surroundings[1], "the addresses differ"),
        ((old.bridge, old.mtu) != (new.bridge, new.mtu), "the network between the hosts differs"),
    )
    return next((reason for differs, reason in differences if differs), "")


def _field_differences(old: MachineSpec, new: MachineSpec) -> str:
    fields = [name for name in old.__dataclass_fields__ if getattr(old, name) != getattr(new, name)]
    values = {name: (getattr(old, name), getattr(new, name)) for name in fields}
    if "host" in values:
        values["host"] = (placement.shown(old.host), placement.shown(new.host))
    return ", ".join(f"{name} {was} → {will}" for name, (was, will) in values.items())
