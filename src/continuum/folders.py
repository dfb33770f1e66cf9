"""Where things lie on disk, and whose they are.

The XDG folders of the person who called, also after `sudo`: the launcher hands the caller's
folders on, and what we write there is given back to them.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""A full disk, a full quota, a file larger than this process may write."""


def state_folder() -> Path:
    """Deployments: one folder each."""
    return platformdirs.user_state_path("continuum") / "deployments"


def carried_folder() -> Path:
    """What this host carries of deployments that were begun on others: one folder for each."""
    return platformdirs.user_state_path("continuum") / "carried"


def first_use_folder() -> Path:
    """Sums of downloads that nothing pins: one file for each; not part of the cache."""
    return platformdirs.user_state_path("continuum") / "first-use"


def cache_folder() -> Path:
    """Machine images and artifacts; safe to delete."""
    return platformdirs.user_cache_path("continuum")


def caller() -> tuple[int, int] | None:
    """User and group of the person behind `sudo`; None when we are not run through it."""
    user, group = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if os.geteuid() != 0 or user is None or group is None:
        return None
    return int(user), int(group)


def give_to_caller(path: Path) -> None:
    """Hand the ownership of one file or folder to the person behind `sudo`."""
    owner = caller()
    if owner is not None:
        os.chown(path, *owner, follow_symlinks=False)


def make_folder(path: Path, mode: int = 0o755) -> Path:
    """Make a folder with its parents, all owned by the caller. Returns the path."""
    _refuse_links(path)
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=mode if folder == path else 0o755, exist_ok=True)
        give_to_caller(folder)
    return path


def make_open_folder(path: Path) -> None:
    """Make a folder with its parents, that everybody may enter whatever our umask is.

    For what stands inside a machine, or serves everybody on the host. What is there stays as it is.
    """
    for folder in reversed([each for each in (path, *path.parents) if not each.exists()]):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)


def write_file(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """Write a file whole or not at all, owned by the caller; several threads may write the same.

    Raises:
        NoRoom: the disk or a quota is full, or the file larger than this process may write.
        OSError: another reason; `ELOOP` where a folder of ours has become a symbolic link.
    """
    data = content.encode() if isinstance(content, str) else content
    with telling_no_room(path, len(data)):
        make_folder(path.parent)
        # Nobody else who may write to the folder can have put anything of that name there.
        temporary = path.with_name(f".{os.urandom(8).hex()}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, PRIVATE_FILE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                owner = caller()
                if owner is not None:
                    os.fchown(file.fileno(), *owner)
                os.fchmod(file.fileno(), mode)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


class NoRoom(OSError):
    """A file that could not be written for want of room; `needed` in bytes, 0 when unknown."""

    needed = 0


@contextmanager
def telling_no_room(path: Path, needed: int = 0) -> Iterator[None]:
    """Name the file and its size where the disk, a quota or a limit leaves no room for it.

    Raises:
        NoRoom: with the same error number; `write` itself says of none for which file it was.
    """
    try:
        yield
    except NoRoom:
        raise
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        problem = NoRoom(error.errno, error.strerror, str(path))
        problem.needed = needed
        raise problem from error


def _refuse_links(path: Path) -> None:
    """Write nothing through a symbolic link that stands where a deployment's folder should.

    Raises:
        OSError: `ELOOP`, with the link.
    """
    state = platformdirs.user_state_path("continuum")
    if state not in path.parents:
        return
    parts = path.relative_to(state).parts
    # What is above a deployment may be moved to another disk, and a link be left.
    for count in range(2, len(parts) + 1):
        part = state.joinpath(*parts[:count])
        if part.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(part))


def is_own_folder(path: Path) -> bool:
    """Tell whether a folder is there, and is no link to one."""
    return path.is_dir() and not path.is_symlink()


def remove_other_kinds(path: Path) -> None:
    """Remove what stands where a file of ours should be and is none: a folder, a link, a FIFO."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        remove_tree(path)


def write_private_file(path: Path, content: bytes | str, root: Path) -> None:
    """Write a file below `root`: it, the folders between and `root` are for the caller alone."""
    between = [root, *(each for each in reversed(path.parents) if root in each.parents)]
    for folder in between:
        make_folder(folder, PRIVATE_FOLDER)
    write_file(path, content, PRIVATE_FILE)


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it, or whatever else stands there; nothing is fine.

    A symbolic link is removed itself, not what it leads to.
    """
    if is_own_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
