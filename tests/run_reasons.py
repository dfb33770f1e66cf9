"""Reasons in a `run.json` for which a run is not `done`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OF_THE_HOST = frozenset({"links", "expectation", "emulator", "host-busy", "not-steady", "limits"})
"""Codes of what the computer below a test's host may cause: figures are off, and that is said."""


def sentences(run: Mapping[str, Any], *codes: str) -> list[str]:
    """All of them, or those of some codes."""
    return [reason["sentence"] for reason in run["reasons"] if not codes or reason["code"] in codes]


def exit_code(run: Mapping[str, Any]) -> int:
    """The exit code of a run that came to its end."""
    return int(any(reason["code"] not in run["accept"] for reason in run["reasons"]))


def defects(run: Mapping[str, Any]) -> list[str]:
    """Those that no host can be blamed for."""
    return [reason["sentence"] for reason in run["reasons"] if reason["code"] not in OF_THE_HOST]
