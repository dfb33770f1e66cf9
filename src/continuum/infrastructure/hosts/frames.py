"""What two processes of ours say to each other over a pipe: lines of JSON, and bytes after some.

host ─▶  {"call": "create", …}                       one at a time
◀─  {"progress": "3 of 4 machines started"}      any number
◀─  {"note": "…", "level": "info"}               any number
◀─  {"send": "KEY"}                              bytes are wanted now
host ─▶  {"bytes": 262144}⏎…  {"bytes": 0}⏎           until none are left
◀─  {"result": …}  or  {"error": {…}}            the end of the call
"""

from __future__ import annotations

import json
from typing import IO, Any

from continuum import errors
from continuum.errors import ContinuumError

CHUNK = 256 * 1024
BYTES = "bytes"

_KINDS: dict[str, type[ContinuumError]] = {
    kind.__name__: kind
    for kind in (
        ContinuumError,
        errors.CommandFailed,
        errors.Interrupted,
        errors.MachineUnreachable,
        errors.NotFound,
        errors.NotPossibleHere,
        errors.StepFailed,
        errors.TimedOut,
        errors.UsageError,
    )
}


def write(stream: IO[bytes], frame: dict[str, Any], content: bytes = b"") -> None:
    """Send one frame, and the bytes that it announces."""
    stream.write(json.dumps(frame).encode() + b"\n" + content)
    stream.flush()


def read(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """The next frame with its bytes; None at the end, or when what comes is no frame."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    try:
        frame: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(frame, dict):
        return None
    size = int(frame.get(BYTES, 0))
    content = stream.read(size) if size else b""
    return (frame, content) if len(content) == size else None


def of_error(error: ContinuumError) -> dict[str, str]:
    """An error as it is sent."""
    known = next(kind for kind in type(error).__mro__ if kind.__name__ in _KINDS)
    return {
        "kind": known.__name__,
        "message": error.message,
        "where": error.where,
        "output": error.output,
        "hint": error.hint,
    }


def to_error(sent: dict[str, str], host: str) -> ContinuumError:
    """The error that came from a host, which it names."""
    return _KINDS.get(sent["kind"], ContinuumError)(
        f"host {host}: {sent['message']}",
        where=f"host {host}: {sent['where'].removeprefix('this host: ')}".removesuffix(": "),
        output=sent["output"],
        hint=f"on host {host}: {sent['hint']}" if sent["hint"] else "",
    )
