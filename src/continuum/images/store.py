"""Where image layers are kept: built once, under a lock, complete or not at all.

images/KEY/root          the layer's files
images/KEY/record.json   what came out: versions, seconds
images/FINGERPRINT.json  the layers of one image, the topmost first
images/.KEY.building     a build under way, or one that was interrupted: the next removes it
images/.KEY.lock         held while the layer is built
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from continuum import folders, interruption, state_file
from continuum.errors import NotFound, StepFailed, TimedOut
from continuum.experiment.units import show_bytes
from continuum.machine import Command, run_on_host

LOCK_LIMIT = 1800.0
"""Seconds to wait for another process that builds the same layer."""

_REMOVE_LIMIT = 10.0

ROOM = 256 * 2**20
"""Bytes; a build that fails with less than this left has most likely filled the disk."""


class DiskFull(StepFailed):
    """There is no room left for what is built."""


@dataclass(frozen=True)
class Layer:
    """One layer: `make(root, progress)` writes its files and returns what came out."""

    key: str
    title: str
    make: Callable[[Path, Callable[[str, float | None], None]], dict[str, Any]]


@dataclass(frozen=True)
class _Record:
    """Content of `images/FINGERPRINT.json`."""

    layers: list[str]


_RECORD = TypeAdapter(_Record)


@dataclass(frozen=True)
class ImagePaths:
    """An image in the cache: the root folders of its layers, the topmost first."""

    fingerprint: str
    layers: tuple[Path, ...]


def images_folder() -> Path:
    """The cache of images. Private: what lies in it has set-user-ID programs."""
    return folders.cache_folder() / "images"


def find(fingerprint: str) -> ImagePaths:
    """An image that has been built.

    Raises:
        NotFound: it is not in the cache, or a layer of it is missing.
    """
    path = images_folder() / f"{fingerprint}.json"
    kept = state_file.kept(path, _RECORD)
    keys = kept.layers if kept is not None else []
    if not keys or not all(is_built(key) for key in keys):
        raise NotFound(
            f"machine image {fingerprint} is not in the cache", where=str(path), hint="continuum up"
        )
    return ImagePaths(fingerprint, tuple(images_folder() / key / "root" for key in keys))


def save(fingerprint: str, keys: list[str]) -> ImagePaths:
    """Write down which layers make an image; `keys` has the topmost first."""
    path = images_folder() / f"{fingerprint}.json"
    content = json.dumps({"layers": keys}, indent=2) + "\n"
    with telling_disk_full(path):
        if state_file.read_text(path) != content:
            folders.write_file(path, content)
    return find(fingerprint)


def is_built(key: str) -> bool:
    """Tell whether a layer is in the cache, whole; a link is none, wherever it leads."""
    folder = images_folder() / key
    return (folder / "record.json").is_file() and not (folder / "root").is_symlink()


def record(key: str) -> dict[str, Any]:
    """What came out when a layer was built."""
    path = images_folder() / key / "record.json"
    return state_file.kept(path, state_file.OBJECT) or {}


WORTH_NAMING = ("containerd", "mosquitto", "openssh-server", "runc", "systemd")
"""Debian packages whose versions a run's record names; all of them are in the layers' records."""


def versions(fingerprint: str) -> dict[str, str]:
    """Versions of the release, of the packages worth naming, and of all Python packages."""
    found: dict[str, str] = {}
    for layer in find(fingerprint).layers:
        kept = record(layer.parent.name)
        packages: dict[str, str] = kept.get("packages", {})
        if "suite" in kept:
            found["machine image"] = f"{kept['distribution']} {kept['suite']}"
            packages = {name: packages[name] for name in WORTH_NAMING if name in packages}
        found |= {f"{name} (in machines)": number for name, number in sorted(packages.items())}
    return found


def ensure(
    layer: Layer,
    progress: Callable[[str, float | None], None],
    *,
    lock_limit: float = LOCK_LIMIT,
) -> bool:
    """Build a layer unless it is in the cache; True when it was built here.

    Raises:
        StepFailed: the disk is full, or what makes the layer failed.
        TimedOut: another process has been building the same layer for longer than the limit.
    """
    if is_built(layer.key):
        return False
    cache = folders.make_folder(images_folder(), folders.PRIVATE_FOLDER)
    with telling_disk_full(cache), locked(cache / f".{layer.key}.lock", progress, lock_limit):
        if is_built(layer.key):
            return False
        temporary, final = cache / f".{layer.key}.building", cache / layer.key
        remove(temporary)
        remove(final)
        began = time.monotonic()
        root = temporary / "root"
        root.mkdir(parents=True)
        root.chmod(0o755)
        temporary_files(root).mkdir()
        try:
            came_out = layer.make(root, progress)
            remove(temporary_files(root))
            came_out |= {"title": layer.title, "seconds": round(time.monotonic() - began, 1)}
            folders.write_file(temporary / "record.json", json.dumps(came_out, indent=2) + "\n")
            temporary.replace(final)
        except BaseException:
            remove(temporary)
            raise
    return True


def temporary_files(root: Path) -> Path:
    """Where programs that build the layer of that root put temporary files; gone afterwards."""
    return root.parent / "tmp"


def remove(folder: Path) -> None:
    """Remove a folder of ours, and first whatever is mounted under it.

    What stands there instead, as a link or a file, is removed itself.
    """
    if not folders.is_own_folder(folder):
        folders.remove_tree(folder)
        return
    for point in sorted(_mounts_under(folder), reverse=True):
        run_on_host(Command(("umount", "--lazy", str(point)), timeout=30)).check()
    deadline = time.monotonic() + _REMOVE_LIMIT
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError as error:
            # What was killed a moment ago may still write or remove a file.
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.EBUSY):
                raise
            if time.monotonic() > deadline:
                raise StepFailed(
                    f"cannot remove {folder}: {error.strerror}", where=str(error.filename)
                ) from error
            time.sleep(0.02)


def _mounts_under(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> list[Path]:
    prefix = f"{folder.resolve()}/"
    points = []
    for line in mounts.read_bytes().splitlines():
        # The kernel writes white space and backslashes as octal numbers.
        written = re.sub(rb"\\([0-7]{3})", lambda each: bytes([int(each[1], 8)]), line.split()[4])
        point = os.fsdecode(written)
        if point.startswith(prefix):
            points.append(Path(point))
    return points


@contextmanager
def locked(
    path: Path, progress: Callable[[str, float | None], None], limit: float
) -> Iterator[None]:
    """Hold the lock of one thing that is built; wait for whoever holds it, and say so.

    Raises:
        TimedOut: another process has held it for longer than `limit` seconds.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, folders.PRIVATE_FILE)
    try:
        folders.give_to_caller(path)
        deadline = time.monotonic() + limit
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode() or "unknown"
                if not told:
                    progress(f"waiting for process {holder}, which builds the same", None)
                    told = True
                if time.monotonic() > deadline:
                    raise TimedOut(
                        f"process {holder} has been building the same for {limit:g} s",
                        where=str(path),
                        hint=f"look at process {holder}, stop it if it hangs, then try again",
                    ) from None
                interruption.pause(0.1)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def telling_disk_full(folder: Path, variable: str = "XDG_CACHE_HOME") -> Iterator[None]:
    """Turn any failure that comes from a full disk into one that says so.

    `variable` is the one that puts the folder elsewhere.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in folders.NO_ROOM:
            raise
        raise _disk_full(folder, str(error), variable) from error
    except StepFailed as error:
        little = free(folder) < ROOM and not isinstance(error, TimedOut)
        if little or "no space left" in error.output.lower():
            raise _disk_full(folder, error.output, variable) from error
        raise


def free(folder: Path) -> int:
    """Bytes that root can still write where the folder is, or will be."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return shutil.disk_usage(there).free


def _disk_full(folder: Path, output: str, variable: str) -> DiskFull:
    return DiskFull(
        f"the disk is full: {show_bytes(free(folder))} free under {folder} is not enough",
        where=str(folder),
        output=output,
        hint=f"free about 1 GiB there, or set {variable} to a folder on another disk",
    )
