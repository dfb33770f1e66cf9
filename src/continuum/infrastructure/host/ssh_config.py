"""What `ssh` on the host needs to reach the machines of a deployment; pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from continuum.infrastructure.plan import MachineSpec

CONTROL_FOLDER = Path("/run/continuum")
"""Sockets of SSH master connections: their names must stay short, and only root makes folders
there, so that nobody can put a socket of theirs in the way."""


def control_folder(identity: str) -> Path:
    """Where the master connections of one deployment have their sockets."""
    return CONTROL_FOLDER / identity


def ssh_config(
    machines: Sequence[MachineSpec], folder: Path, identity: str, *, elsewhere: bool = False
) -> str:
    """Configuration for `ssh -F`, by which `ssh NAME` reaches the machine of that name.

    Args:
        machines: all machines of the plan.
        folder: where the deployment's `key` and `known_hosts` lie.
        identity: of the deployment.
        elsewhere: whether some are on other hosts, which may go without a word: connections to
            them then end within seconds.
    """
    alive = "    ServerAliveInterval 3\n    ServerAliveCountMax 3\n" if elsewhere else ""
    hosts = "".join(
        f"Host {machine.name}\n    HostName {machine.address}\n    HostKeyAlias {machine.name}\n\n"
        for machine in machines
    )
    return hosts + (
        "Host *\n"
        "    User root\n"
        f"    IdentityFile {quoted(folder / 'key')}\n"
        "    IdentitiesOnly yes\n"
        "    PasswordAuthentication no\n"
        "    KbdInteractiveAuthentication no\n"
        f"    UserKnownHostsFile {quoted(folder / 'known_hosts')}\n"
        "    GlobalKnownHostsFile /dev/null\n"
        "    StrictHostKeyChecking yes\n"
        "    UpdateHostKeys no\n"
        "    ForwardAgent no\n"
        "    ConnectTimeout 10\n"
        "    ControlMaster auto\n"
        f"    ControlPath {control_folder(identity)}/%C\n"
        "    ControlPersist 60\n"
        "    LogLevel ERROR\n"
        f"{alive}"
    )


def known_hosts(machines: Sequence[MachineSpec], host_keys: Mapping[str, str]) -> str:
    """The machines' host keys; `host_keys` holds public lines by machine."""
    return "".join(
        f"{machine.name},{machine.address} {host_keys[machine.name]}\n" for machine in machines
    )


def quoted(path: Path) -> str:
    """A path as ssh_config wants it: quoted, its percent signs doubled."""
    text = str(path).replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if any(character in text for character in ' \t"') else text
