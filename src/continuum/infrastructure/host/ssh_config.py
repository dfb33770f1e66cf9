"""What `ssh` on the host needs to reach the machines of a deployment; pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from continuum.errors import NotPossibleHere
from continuum.infrastructure.plan import MachineSpec

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]+")
"""Paths that need no quotes. OpenSSH reads an apostrophe as a quote too, and # as a comment."""

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
    """A path as ssh_config wants it: quoted, its percent signs doubled.

    There is no way to write `${`, which stands for a variable: see `refuse`.
    """
    text = str(path).replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return text if _PLAIN.fullmatch(text) else f'"{text}"'


def refuse(folder: Path) -> None:
    """Raise when SSH's configuration cannot name a file in a folder.

    Raises:
        NotPossibleHere: it has a variable in its name, or a line's end.
    """
    awkward = next((each for each in ("${", "\n", "\r") if each in str(folder)), None)
    if awkward is not None:
        raise NotPossibleHere(
            f"ssh cannot be told of a folder with {awkward!r} in its name",
            where=str(folder),
            hint="set XDG_STATE_HOME to another folder",
        )
