"""What is put into a machine before its first boot; pure functions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from continuum.infrastructure.host.keys import KeyPair
from continuum.infrastructure.plan import InfrastructurePlan, MachineSpec


def hosts_file(plan: InfrastructurePlan) -> str:
    """/etc/hosts: the names of all machines of the deployment; the same in every machine."""
    return "127.0.0.1 localhost\n" + "".join(
        f"{machine.address} {machine.name}\n" for machine in (*plan.machines, *plan.elsewhere)
    )


def files(
    plan: InfrastructurePlan,
    spec: MachineSpec,
    host_key: KeyPair,
    authorized_key: str,
    resolver: str,
) -> Mapping[str, tuple[bytes, int]]:
    """What is put into a machine before its first boot: (content, mode) by path."""
    machine_id = hashlib.sha256(f"{plan.identity} {spec.name}".encode()).hexdigest()[:32]
    return {
        "etc/hostname": (f"{spec.name}\n".encode(), 0o644),
        "etc/hosts": (hosts_file(plan).encode(), 0o644),
        "etc/machine-id": (f"{machine_id}\n".encode(), 0o444),
        "etc/resolv.conf": (resolver.encode(), 0o644),
        "etc/ssh/ssh_host_ed25519_key": (host_key.private, 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": (f"{host_key.public}\n".encode(), 0o644),
        "root/.ssh/authorized_keys": (f"{authorized_key}\n".encode(), 0o600),
    }
