"""A plan of two machines, one with every limit and one that carries containers; of provider `lxc`."""

from __future__ import annotations

import ipaddress

from continuum.infrastructure.plan import InfrastructurePlan, MachineSpec, NetworkPlan

EDGE = MachineSpec(
    name="edge-1",
    tier="edge",
    address="10.1.1.2",
    mac="02:01:02:01:01:02",
    cores=2,
    quota=0.75,
    memory=2**30,
    disk_read=50_000_000,
    disk_write=20_000_000,
    pinned_cores=(3, 1),
)
CLOUD = MachineSpec(
    name="cloud-1",
    tier="cloud",
    address="10.1.0.2",
    mac="02:01:02:01:00:02",
    cores=4,
    quota=1.0,
    memory=2**31,
    nested=True,
)
PLAN = InfrastructurePlan(
    deployment="offload",
    identity="0badcafe",
    provider="lxc",
    image="0123456789abcdef",
    machines=(CLOUD, EDGE),
    network=NetworkPlan(
        bridge="ctm0badcafe",
        block=ipaddress.IPv4Network("10.1.0.0/23"),
        host_address="10.1.0.1",
        tiers={
            "cloud": ipaddress.IPv4Network("10.1.0.0/24"),
            "edge": ipaddress.IPv4Network("10.1.1.0/24"),
        },
    ),
)
