"""Where things lie on disk, and whose they are.

The XDG folders of the person who called, also after `sudo`: the launcher hands the caller's
folders on, and what we write there is given back to them.
"""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import platformdirs

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


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
    """Write a file whole or not at all, owned by the caller; several threads may write the same."""
    make_folder(path.parent)
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.chmod(mode)
        give_to_caller(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it; one that is not there is fine."""
    if path.exists():
        shutil.rmtree(path)
