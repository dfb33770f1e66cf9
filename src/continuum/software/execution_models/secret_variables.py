"""Secret variables of a process, on their way to it: in a file that only root may read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from continuum.errors import StepFailed

if TYPE_CHECKING:
    from continuum.secret import Secret
    from continuum.software.contract import ProcessSpec

FOLDER = "/run/continuum/secrets"
MODE = 0o600
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def path_of(process: ProcessSpec) -> str:
    """Path of a process's file on its machine."""
    return f"{FOLDER}/{process.name}"


def for_systemd(process: ProcessSpec) -> bytes:
    """The content of an `EnvironmentFile`.

    Raises:
        StepFailed: systemd takes no such variable, and would leave it out without a word.
    """
    for name, value in process.secrets.items():
        if not _NAME.fullmatch(name):
            raise _refusal(process, f'a program is given no variable called "{name[:40]}"')
        if _CONTROL.search(value.open()):
            raise _refusal(process, f'the value of "{name[:40]}" holds a control character')
    return _lines({name: f'"{_quoted(value)}"' for name, value in process.secrets.items()})


def for_a_client(process: ProcessSpec) -> bytes:
    """The content of an `--env-file` of `ctr` and `docker`, which cannot write a line's end.

    Raises:
        StepFailed: a value has several lines.
    """
    for name, value in process.secrets.items():
        if "\n" in value.open() or "\r" in value.open():
            raise _refusal(process, f'the value of "{name[:40]}" has several lines')
    return _lines({name: value.open() for name, value in process.secrets.items()})


def _lines(variables: Mapping[str, str]) -> bytes:
    return "".join(f"{name}={value}\n" for name, value in variables.items()).encode()


def _quoted(value: Secret) -> str:
    return "".join(f"\\{each}" if each in '\\"`$' else each for each in value.open())


def _refusal(process: ProcessSpec, why: str) -> StepFailed:
    return StepFailed(
        why, where=f"{process.machine}: {process.name}", hint="hand it over in a file of your own"
    )
