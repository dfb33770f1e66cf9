"""Room on disks, told: which folder is full, how much was needed, how much is free."""

from __future__ import annotations

import errno
import resource
import shutil
from pathlib import Path

from continuum import folders
from continuum.experiment.units import show_bytes


def no_room(error: OSError, folder: Path) -> str:
    """Why nothing can be written to a folder, in one sentence without its end."""
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
