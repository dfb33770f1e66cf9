"""What phase 1 will do: frozen values that `configure` makes and `execute` carries out."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Block = ipaddress.IPv4Network

TIME_PORT = 46_983
"""UDP port of this host's time: the usual one belongs to its own time service, if it has one."""


@dataclass(frozen=True)
class MachineSpec:
    """One machine to be made.

    Attributes:
        name: within the deployment, as `edge-1`; also its host name.
        address: IPv4 address on the emulated network.
        mac: hardware address of its interface.
        cores: number of cores.
        quota: share of each core, 0.1 … 1.
        memory: bytes.
        disk_read, disk_write: bytes per second, None without a limit.
        pinned_cores: cores of the host, one for each core of the machine; empty when not pinned.
        nested: whether it carries containers of its own.
        privileged: whether it is a cluster's node, which works on the kernel as the host's root
            does, and so cannot be in a user namespace.
        pods: block of its pods' addresses, in the machine's own part of its tier's block; None
            when it is no node of a cluster.
        login: who SSH logs in as; another than root becomes root by sudo, without a password.
        host: name of the host that carries it; "" for this one.
    """

    name: str
    tier: str
    address: str
    mac: str
    cores: int
    quota: float
    memory: int
    disk_read: int | None = None
    disk_write: int | None = None
    pinned_cores: tuple[int, ...] = ()
    nested: bool = False
    privileged: bool = False
    pods: Block | None = None
    login: str = "root"
    host: str = ""


@dataclass(frozen=True)
class Existing:
    """Machines that were there before.

    Attributes:
        machines: what each one is, by its name in the deployment.
        host_address: from where they see this host; no machine's.
    """

    machines: Mapping[str, MachineSpec]
    host_address: str


@dataclass(frozen=True)
class HostPlan:
    """Another host that carries machines.

    Attributes:
        name: as the experiment calls it.
        ssh: `user@host`, `user@host:port`, or a name that `ssh` knows.
        ssh_config: file for `ssh -F`; "" for the caller's own.
        folder: where machines and images are kept there; "" for root's own folders.
        address: by which the others reach it.
        seen_from: the address by which it reaches this host.
    """

    name: str
    ssh: str
    ssh_config: str = ""
    folder: str = ""
    address: str = ""
    seen_from: str = ""


@dataclass(frozen=True)
class LinkSettings:
    """One direction's properties: delay and jitter (standard deviation) in ms, loss in percent,
    rate in Mbit/s, None when it is not limited. `queue_bytes` wait for the rate before more is
    dropped; None for `links.rules.queue_bytes`, and without a rate.
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss_percent: float = 0.0
    rate_mbit: float | None = None
    queue_bytes: int | None = None


@dataclass(frozen=True)
class Link:
    """A directed class of traffic: from all of `source` to all of `destination`.

    The ends are names of tiers or machines; the blocks are what packets are told apart by: one
    for a tier whose machines got their addresses together, one for each machine where they had
    them before. Links come most specific first (machine to machine, machine to tier, tier to machine, tier to tier),
    and the first that fits a packet counts.
    """

    source: str
    destination: str
    source_blocks: tuple[Block, ...]
    destination_blocks: tuple[Block, ...]
    settings: LinkSettings

    def __str__(self) -> str:
        return f"{self.source} → {self.destination}"


@dataclass(frozen=True)
class NetworkPlan:
    """The emulated network of one deployment.

    Attributes:
        bridge: name of the bridge on the host, at most 15 characters.
        block: the whole private block; the bridge's prefix length.
        host_address: the host's own address on the bridge; never shaped.
        tiers: the aligned block of each tier; empty for machines that had addresses before.
        links: directed classes; empty when nothing is emulated.
        emulator: `auto`, `netem` or `nfqueue`.
        internet: whether machines have a way out through the host.
        host_time: whether machines may ask for this host's time, at `TIME_PORT` of
            `host_address`.
        joined: whether the bridge is the user's own, which we neither make nor remove.
        mtu: bytes of the largest packet, where it is less than Ethernet's 1500; else None.
        tcp: how TCP behaves on every machine: values by the names of the kernel's settings.
    """

    bridge: str
    block: Block
    host_address: str
    tiers: dict[str, Block]
    links: tuple[Link, ...] = ()
    emulator: str = "auto"
    internet: bool = False
    host_time: bool = False
    joined: bool = False
    mtu: int | None = None
    tcp: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class InfrastructurePlan:
    """Everything that a provider needs to know.

    Attributes:
        deployment: the deployment's name.
        identity: 8 hexadecimal digits that no other deployment on this host has; part of the
            names of all that is made on the host.
        provider: name of the provider.
        image: fingerprint of the machine image's recipe.
        settings: the provider's own settings, checked.
        hosts: the other hosts; empty when this one carries all machines.
        reasons: why each machine is on its host, where there are several.
        host: whose share of the whole plan this is; "" for this host's, and for the whole.
        elsewhere: in a share, the machines on other hosts; `machines` holds the host's own.
    """

    deployment: str
    identity: str
    provider: str
    image: str
    machines: tuple[MachineSpec, ...]
    network: NetworkPlan
    settings: dict[str, Any] = field(default_factory=dict)
    hosts: tuple[HostPlan, ...] = ()
    reasons: dict[str, str] = field(default_factory=dict)
    host: str = ""
    elsewhere: tuple[MachineSpec, ...] = ()

    @property
    def peers(self) -> tuple[str, ...]:
        """Addresses of the other hosts, as the one whose share this is reaches them."""
        own = next((each for each in self.hosts if each.name == self.host), None)
        others = [each.address for each in self.hosts if each.name != self.host]
        return tuple(others if own is None else [own.seen_from, *others])

    def share(self, host: str) -> InfrastructurePlan:
        """What of the plan the host of that name carries out; "" for this one."""
        return replace(
            self,
            host=host,
            machines=tuple(each for each in self.machines if each.host == host),
            elsewhere=tuple(each for each in self.machines if each.host != host),
        )
