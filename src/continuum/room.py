"""Room on disks, told: which folder is full, how much was needed, how much is free."""

from __future__ import annotations

import errno
import resource
import shutil
from pathlib import Path

from continuum import folders
from continuum.errors import StepFailed
from continuum.experiment.units import show_bytes

ERRORS = (*folders.NO_ROOM, errno.EROFS)
"""Numbers of errors of a folder in which nothing more can be written."""


def no_room(error: OSError, folder: Path) -> str:
    """Reason why nothing can be written to a folder, in one sentence without its end."""
    needed = error.needed if isinstance(error, folders.NoRoom) else 0
    file = f" for {_name(error)}" if error.filename else ""
    what = f"{show_bytes(needed)}{file}" if needed else f"room{file}"
    match error.errno:
        case errno.EROFS:
            return f"{folder} can only be read"
        case errno.EFBIG:
            limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
            most = f" ({show_bytes(limit)}, ulimit -f)" if limit >= 0 else ""
            return f"a file of {show_bytes(needed)} in {folder} is larger than this process may write{most}"
        case errno.EDQUOT:
            return f"the quota of {folder} is used up: {what} is not left"
        case _:
            return f"{folder} is full: {what} needed, {show_bytes(free(folder))} free"


def _name(error: OSError) -> str:
    return Path(str(error.filename)).name


def free(folder: Path) -> int:
    """Bytes that we can still write where the folder is, or will be."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return shutil.disk_usage(there).free


def full(error: OSError) -> StepFailed:
    """A file that could not be written for want of room: where, how much, what stays, what to do."""
    path = Path(str(error.filename))
    folder, variable, stays = _place(path)
    other = f"set {variable} to another folder" if variable else "name another folder"
    advice = {
        errno.EFBIG: "ulimit -f unlimited, then the same command again",
        errno.EROFS: other,
    }.get(error.errno or 0, f"make room there, or {other}")
    sentence = f"{error.strerror}: {no_room(error, folder)}; {stays}"
    return StepFailed(sentence, where=str(path), hint=advice)


def _place(path: Path) -> tuple[Path, str, str]:
    """The folder of a file, the variable that puts it elsewhere ("" for none), and what is kept."""
    again = "what was done stays, and the same command goes on from there"
    for folder, variable, stays in (
        (folders.state_folder(), "XDG_STATE_HOME", again),
        (folders.cache_folder(), "XDG_CACHE_HOME", "nothing half is left in it"),
    ):
        if folder in path.parents:
            return folder, variable, stays
    return path.parent, "", "what was there before stays"
