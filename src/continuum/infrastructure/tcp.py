"""TCP's behaviour on the machines: set on every one, so that no figure is the host's own settings.

The defaults are Linux's own (`ip-sysctl.rst` of 5.10 to 6.18; cubic is RFC 9438), written down where
hosts may differ; but for two that would let a run depend on pauses, or on the runs before it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from continuum.errors import NotPossibleHere
from continuum.machine import Command, Machine, Result, run_on_host
from continuum.parallel import for_each

if TYPE_CHECKING:
    from continuum.experiment.model import Tcp

_PREFIX = "net.ipv4."
CONGESTION_CONTROL = f"{_PREFIX}tcp_congestion_control"
_AVAILABLE = f"{_PREFIX}tcp_available_congestion_control"
_ALLOWED = f"{_PREFIX}tcp_allowed_congestion_control"
_ECN = {"off": "0", "request": "1", "accept": "2"}
_LEAST_BUFFER, _RECEIVE, _SEND = 4096, 131_072, 16_384
"""Bytes of a connection's buffers at least, and at its beginning."""

_FIXED: Mapping[str, str] = {
    "tcp_autocorking": "1",
    "tcp_limit_output_bytes": "1048576",
    "tcp_min_tso_segs": "2",
    "tcp_moderate_rcvbuf": "1",
    "tcp_mtu_probing": "0",
    "tcp_no_metrics_save": "1",
    "tcp_pacing_ca_ratio": "120",
    "tcp_pacing_ss_ratio": "200",
    "tcp_sack": "1",
    "tcp_slow_start_after_idle": "0",
    "tcp_timestamps": "1",
    "tcp_window_scaling": "1",
}


_EVERYWHERE = frozenset(
    {
        "tcp_congestion_control",
        "tcp_ecn",
        "tcp_no_metrics_save",
        "tcp_rmem",
        "tcp_sack",
        "tcp_slow_start_after_idle",
        "tcp_timestamps",
        "tcp_window_scaling",
        "tcp_wmem",
    }
)


def settings(asked: Tcp) -> dict[str, str]:
    """Values of the kernel's settings, by their names; a pure function."""
    receive, send = asked.receive_buffer, asked.send_buffer
    named = {
        **_FIXED,
        "tcp_congestion_control": asked.congestion_control,
        "tcp_ecn": _ECN[asked.ecn],
        "tcp_rmem": f"{_LEAST_BUFFER} {min(_RECEIVE, receive)} {receive}",
        "tcp_wmem": f"{_LEAST_BUFFER} {min(_SEND, send)} {send}",
    }
    return {f"{_PREFIX}{name}": value for name, value in sorted(named.items())}


NAMES = tuple(
    f"{_PREFIX}{name}"
    for name in sorted({*_FIXED, "tcp_congestion_control", "tcp_ecn", "tcp_rmem", "tcp_wmem"})
)
"""Of all settings that are made."""


def everywhere(values: Mapping[str, str]) -> dict[str, str]:
    """Of some settings those that every network namespace has of its own, from Linux 4.17 on."""
    return {
        name: value for name, value in values.items() if name.removeprefix(_PREFIX) in _EVERYWHERE
    }


def set_command(values: Mapping[str, str]) -> tuple[str, ...]:
    """The program that makes settings in a network namespace.

    What the namespace does not have of its own is passed over: it is read back as it is.
    """
    return ("sysctl", "-e", "-q", "-w", *(f"{name}={value}" for name, value in values.items()))


def refuse(values: Mapping[str, str]) -> None:
    """Raise when this host's kernel lacks the congestion control that is asked for; needs no root.

    Raises:
        NotPossibleHere: it does.
    """
    wanted = values.get(CONGESTION_CONTROL, "")
    try:
        known = _file(_AVAILABLE).read_text().split()
    except OSError:
        return
    if wanted and wanted not in known and not _is_module(f"tcp_{wanted}"):
        raise _lacks("this host's kernel", wanted, known)


def allow(values: Mapping[str, str]) -> bool:
    """Let network namespaces of this host have the congestion control; True when they could not.

    A namespace may have only what any user's program may have (`tcp_allowed_congestion_control`).
    It stays allowed: what was started since may use it.
    """
    wanted = values.get(CONGESTION_CONTROL, "")
    try:
        allowed = _file(_ALLOWED).read_text().split()
        if not wanted or wanted in allowed:
            return False
        if wanted not in _file(_AVAILABLE).read_text().split():
            run_on_host(Command(("modprobe", "--quiet", f"tcp_{wanted}")))
        _file(_ALLOWED).write_text(" ".join([*allowed, wanted]))
    except OSError:
        return False  # Whoever sets it in a namespace then tells what is in the way.
    return True


def _file(name: str) -> Path:
    return Path("/proc/sys", name.replace(".", "/"))


def _is_module(name: str) -> bool:
    if shutil.which("modprobe") is None:
        return False
    return run_on_host(Command(("modprobe", "--dry-run", "--quiet", name))).exit_code == 0


def judge(result: Result, values: Mapping[str, str], known: Result, machine: str) -> None:
    """Raise when a machine's kernel did not take the settings.

    Args:
        result: of `set_command`.
        values: that it was given.
        known: of `available_command`, asked afterwards.
        machine: its name.

    Raises:
        CommandFailed: it did not.
        NotPossibleHere: for it lacks the congestion control.
    """
    wanted = values[CONGESTION_CONTROL]
    if known.exit_code == 0 and wanted not in known.text.split():
        raise _lacks(f"the kernel of {machine}", wanted, known.text.split())
    result.check(
        f"cannot set TCP's behaviour on {machine}",
        hint=f"does the host's {_ALLOWED} have {wanted}?",
    )


def available_command() -> tuple[str, ...]:
    """The program that shows what congestion controls a kernel has."""
    return ("sysctl", "-n", _AVAILABLE)


def _lacks(kernel: str, wanted: str, known: Sequence[str]) -> NotPossibleHere:
    return NotPossibleHere(
        f'{kernel} has no TCP congestion control "{wanted}"',
        where="network.tcp.congestion_control",
        hint=f"it has {', '.join(sorted(known))}; others are modules, as root: "
        f"modprobe tcp_{wanted}",
    )


def read(machines: Sequence[Machine]) -> dict[str, str]:
    """The settings as the machines have them, by name.

    Where machines differ, each value with those that have it.

    Raises:
        ContinuumError: a machine does not answer.
    """
    found: dict[str, dict[str, list[str]]] = {}
    shown = for_each(lambda each: each.run(Command(("sysctl", "-e", *NAMES))), machines)
    for machine, result in zip(machines, shown, strict=True):
        for line in result.text.splitlines():
            name, equals, value = line.partition("=")
            if equals:
                words = " ".join(value.split())
                found.setdefault(name.strip(), {}).setdefault(words, []).append(machine.name)
    return {name: _in_words(values) for name, values in sorted(found.items())}


def _in_words(values: Mapping[str, Sequence[str]]) -> str:
    if len(values) == 1:
        return next(iter(values))
    return ", ".join(f"{value} ({', '.join(names)})" for value, names in values.items())
