"""How SSH reaches machines that exist: by the user's own settings, written out for each of them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from continuum.errors import StepFailed
from continuum.infrastructure.host import ssh_config
from continuum.infrastructure.providers.ssh.settings import SshSettings, parts
from continuum.machine import Command, run_on_host

_KEPT = {
    "addressfamily": "AddressFamily",
    "bindaddress": "BindAddress",
    "bindinterface": "BindInterface",
    "certificatefile": "CertificateFile",
    "ciphers": "Ciphers",
    "compression": "Compression",
    "hostkeyalgorithms": "HostKeyAlgorithms",
    "hostkeyalias": "HostKeyAlias",
    "identitiesonly": "IdentitiesOnly",
    "identityagent": "IdentityAgent",
    "identityfile": "IdentityFile",
    "kexalgorithms": "KexAlgorithms",
    "macs": "MACs",
    "proxycommand": "ProxyCommand",
    "pubkeyacceptedalgorithms": "PubkeyAcceptedAlgorithms",
}
"""Settings that are taken over where the user has them differently from SSH's own defaults."""


@dataclass(frozen=True)
class Entry:
    """A machine's name in the deployment, and what the user calls it."""

    name: str
    target: str


def configuration(
    entries: Sequence[Entry],
    settings: SshSettings,
    *,
    known_hosts: Path,
    control: Path | None = None,
) -> str:
    """Configuration for `ssh -F`, by which `ssh NAME` reaches the machine of that name.

    Args:
        entries: the machines.
        settings: the provider's.
        known_hosts: where keys of hosts that were never seen are kept, if they are accepted.
        control: folder for sockets of master connections; each command has a connection of its
            own without it.

    Raises:
        StepFailed: the user's own settings of SSH cannot be read.
    """
    hosts = "".join(_host(entry, settings, known_hosts) + "\n" for entry in entries)
    accept = "accept-new" if settings.accept_new_host_keys else "yes"
    master = (
        "    ControlMaster no\n"
        if control is None
        else f"    ControlMaster auto\n    ControlPath {control}/%C\n    ControlPersist 60\n"
    )
    return hosts + (
        "Host *\n"
        "    BatchMode yes\n"
        f"    StrictHostKeyChecking {accept}\n"
        "    ForwardAgent no\n"
        "    ConnectTimeout 10\n"
        "    ServerAliveInterval 5\n"
        "    ServerAliveCountMax 3\n"
        f"{master}"
        "    LogLevel ERROR\n"
    )


def _host(entry: Entry, settings: SshSettings, known_hosts: Path) -> str:
    found = _resolved(entry.target)
    usual = _resolved(entry.target, "-F", "none")
    lines = [f"Host {entry.name}"]
    lines += [f"    {word} {found[word.lower()][0]}" for word in ("HostName", "User", "Port")]
    for key, word in _KEPT.items():
        if found.get(key, []) != usual.get(key, []):
            lines += [f"    {word} {value}" for value in found.get(key, [])]
    jumps = found.get("proxyjump", ["none"])[0]
    if jumps != "none":
        lines.append(f"    ProxyCommand {_through(jumps)}")
    if settings.key is not None:
        lines.append(f"    IdentityFile {ssh_config.quoted(settings.key.expanduser())}")
        lines.append("    IdentitiesOnly yes")
    files = found.get("userknownhostsfile", ["~/.ssh/known_hosts"])[0]
    own = f"{ssh_config.quoted(known_hosts)} " if settings.accept_new_host_keys else ""
    lines.append(f"    UserKnownHostsFile {own}{files}")
    return "\n".join(lines) + "\n"


def _through(jumps: str) -> str:
    """The same by a program of its own: the hosts on the way are names of the user's settings."""
    *before, last = jumps.split(",")
    way = ("-J", ",".join(before)) if before else ()
    return shlex.join(("ssh", *way, "-W", "[%h]:%p", "--", last))


@cache
def _resolved(target: str, *options: str) -> Mapping[str, list[str]]:
    """What SSH would do for a target, by its own word: values by lower-case key."""
    described = parts(target)
    assert described is not None
    user, host, port = described
    arguments = (
        *("ssh", "-G", *options),
        *(("-l", user) if user else ()),
        *(("-p", port) if port else ()),
        host,
    )
    shown = run_on_host(Command(arguments, timeout=30)).check(
        "your settings of SSH cannot be read", hint="`ssh -G HOST` shows what is wrong"
    )
    found: dict[str, list[str]] = {}
    for line in shown.text.splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    if "hostname" not in found:
        raise StepFailed(f"ssh does not say how it reaches {host}", output=shown.last_output)
    return found


def control_folder(identity: str) -> Path | None:
    """Where sockets of master connections lie; None where no path is short enough."""
    if os.geteuid() == 0:
        return ssh_config.control_folder(identity)
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if not runtime or len(runtime) > 20 or not Path(runtime).is_dir():
        return None
    return Path(runtime, "continuum", identity)
