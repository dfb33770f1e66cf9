"""One reader for the files that Continuum keeps for itself: a damaged one is named, and hinders nothing.

A file may be cut, garbage, nested without end, a folder, a link or a FIFO. None of these is a
defect, and none may block: None is a file that is not there, `Damaged` one that cannot be read.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from continuum import folders
from continuum.errors import StepFailed

T = TypeVar("T")

MOST_BYTES = 2**28
"""The largest file that is read: a plan of ten thousand machines has a tenth of it."""

OF_THE_HOST = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO)
"""Errors that say nothing about the file."""

OBJECT = TypeAdapter(dict[str, Any])
"""Any JSON object, for files whose fields are looked at one by one."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFREG: "a file",
}


_OPENING = {
    errno.ELOOP: "it is a symbolic link",
    errno.ENXIO: "it is a socket or a device",
    errno.EISDIR: "it is a folder",
    errno.ENOTDIR: "a file stands where its folder should be",
}


@dataclass(frozen=True)
class Damaged:
    """A file that cannot be read as that which it should hold, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path} is damaged: {self.reason}"


def kind(mode: int) -> str:
    """The kind of a file with that mode, in words."""
    return _KINDS.get(stat.S_IFMT(mode), "of an unknown kind")


def read_bytes(path: Path, *, most: int = MOST_BYTES) -> bytes | Damaged | None:
    """The content of a regular file; never waits, and follows no link at the path's end."""
    try:
        # Nobody may write to a FIFO: without the flag that would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return Damaged(path, reason(error))
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return Damaged(path, f"it is {kind(found.st_mode)}, not a file")
        if found.st_size > most:
            return Damaged(path, f"it has {found.st_size} bytes")
        return b"".join(iter(lambda: os.read(descriptor, 2**20), b""))
    except OSError as error:
        return Damaged(path, reason(error))
    finally:
        os.close(descriptor)


def read_text(path: Path) -> str | Damaged | None:
    """The text of a regular file in UTF-8."""
    content = read_bytes(path)
    if not isinstance(content, bytes):
        return content
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        return Damaged(path, reason(error))


def read_json(path: Path, schema: TypeAdapter[T]) -> T | Damaged | None:
    """A value of that schema from a file of JSON; fields that it does not have are left out."""
    content = read_bytes(path)
    if not isinstance(content, bytes):
        return content
    try:
        return schema.validate_json(content)
    except (ValueError, RecursionError) as error:
        return Damaged(path, reason(error))


def kept(path: Path, schema: TypeAdapter[T]) -> T | None:
    """Value that `read_json` reads, where a damaged file is as good as none."""
    content = read_json(path, schema)
    return None if isinstance(content, Damaged) else content


def failure(error: OSError) -> StepFailed | None:
    """An operation that failed for what lies in a deployment's folder, told as its damage.

    None where the error is not about such a file, or comes from the host: a full disk, missing
    rights.
    """
    if error.errno in (*folders.NO_ROOM, *OF_THE_HOST):
        return None
    state = folders.state_folder()
    if not state.is_dir():
        return None
    for name in (error.filename2, error.filename):
        path = Path(os.fsdecode(name)) if isinstance(name, str | bytes) else Path()
        if state in path.parents:
            deployment = path.relative_to(state).parts[0]
            return StepFailed(
                str(Damaged(path, reason(error))),
                hint=f"continuum down {deployment} removes the deployment, whatever is damaged in it",
            )
    return None


def undamaged(content: T | Damaged | None) -> T | None:
    """Content that was read, where a damaged file is as good as none."""
    return None if isinstance(content, Damaged) else content


def reason(error: Exception) -> str:
    """Reason why a file cannot be read, in one line."""
    if isinstance(error, OSError):
        return _OPENING.get(error.errno or 0) or error.strerror or str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    if not isinstance(error, ValidationError):
        return str(error).partition("\n")[0][:200]
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part)[:40] for part in first["loc"][:8])
    return f"{place}: {first['msg']}"[:300] if place else first["msg"][:300]
