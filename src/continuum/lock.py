"""The lock of a deployment, which lies beside its folder, and the removal of that folder under it.

    .NAME.lock          held by whoever changes the deployment NAME; holds the number of the process
    .NAME.removing-…    a folder on its way out, which a killed `down` may have left

Neither stays unless its process is killed. Whoever takes the lock finishes a removal first.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from continuum import folders
from continuum.errors import StepFailed

if TYPE_CHECKING:
    from pathlib import Path

_TRACE = re.compile(r"\.(?P<name>[^.]+)\.(?:lock|removing-\d+)")
_TRIES = 1000
"""Locks that were removed while they were opened, one after the other."""


def path(folder: Path) -> Path:
    """The lock of a deployment's folder."""
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep every other process from changing a deployment.

    Raises:
        StepFailed: another process holds the lock; the message names it.
    """
    descriptor = _take(folder)
    try:
        os.ftruncate(descriptor, 0)
        with suppress(OSError):  # A full disk: others are refused all the same, by no number.
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        folders.give_to_caller(path(folder))
        _finish_removals(folder)
        yield
    finally:
        try:
            # Only who holds it removes it: others see that theirs is none, and take the next one.
            path(folder).unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def remove(folder: Path) -> None:
    """Remove a deployment's folder, whole for everybody else; hold the lock."""
    if not os.path.lexists(folder):
        return
    folder.rename(folder.with_name(f".{folder.name}.removing-{os.getpid()}"))
    _finish_removals(folder)


def traces(root: Path) -> list[str]:
    """Names of deployments of which a lock or a removal is there."""
    if not root.is_dir():
        return []
    found = (_TRACE.fullmatch(entry.name) for entry in root.iterdir())
    return sorted({match["name"] for match in found if match is not None})


def _take(folder: Path) -> int:
    """Open and lock the file; returns its descriptor."""
    place = path(folder)
    for _ in range(_TRIES):
        try:
            folders.make_folder(place.parent)
            folders.remove_other_kinds(place)
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            continue  # The last of its folder's deployments has just been removed, with the folder.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(place, descriptor):
                return descriptor
        except BlockingIOError as error:
            holder = os.read(descriptor, 32).decode(errors="replace") or "unknown"
            os.close(descriptor)
            raise _refusal(folder, f"is being changed by process {holder}") from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise _refusal(folder, "is being removed again and again")


def _is_at(place: Path, descriptor: int) -> bool:
    """Tell whether the open file is still the one at that place: who held it before has removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), place.stat())
    except FileNotFoundError:
        return False


def _refusal(folder: Path, why: str) -> StepFailed:
    return StepFailed(
        f'deployment "{folder.name}" {why}',
        where=str(path(folder)),
        hint="wait until it is done, or stop it, then try again",
    )


def _removals(folder: Path) -> list[Path]:
    start = f".{folder.name}.removing-"
    return [entry for entry in folder.parent.iterdir() if entry.name.startswith(start)]


def _finish_removals(folder: Path) -> None:
    for each in _removals(folder):
        folders.remove_tree(each)
