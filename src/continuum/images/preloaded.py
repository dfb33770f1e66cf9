"""The topmost layer of a machine image: container images that containerd has from its first start.

/opt/continuum/containerd/           what containerd's own folder is at first: its databases, and
                                     links to what is big
/opt/continuum/container-layers/     the unpacked layers, and the blobs that they came in

The first is copied when a machine boots for the first time, which takes a moment, since it is
small. The second is never copied: all machines share it through their image, and what a container
writes lies in an upper folder of its own.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from continuum import folders, state_file
from continuum.errors import StepFailed, TimedOut
from continuum.images import base, containers, isolated, store
from continuum.machine import Command, run_on_host, stream_on_host
from continuum.parallel import for_each

if TYPE_CHECKING:
    from continuum.images.containers import ContainerImage, Progress

LAYOUT = 1
"""Raise when what this module writes changes for the same inputs."""

STORE_LAYOUT = 2
"""Raise when layers made before are no place to take images over from."""

SKELETON = "/opt/continuum/containerd"
LAYERS = "/opt/continuum/container-layers"
UNIT = "preloaded-container-images.service"


@dataclass(frozen=True)
class _Record:
    """Content of the record of a layer with container images, beside much else."""

    release: str
    keys: frozenset[str]


_RECORD = TypeAdapter(_Record)
_CONTAINERD = "/var/lib/containerd"
_COPIED = f"{_CONTAINERD}/.continuum"
_LIMIT = 900.0
_THREADS = 2

_BLOBS = "io.containerd.content.v1.content/blobs/sha256"
_SNAPSHOTS = "io.containerd.snapshotter.v1.overlayfs/snapshots"

_OPAQUE = "trusted.overlay.opaque"

# Before containerd's first start, once: what was cut off is copied again.
_UNIT_TEXT = f"""\
[Unit]
Description=Container images of the machine image
ConditionPathExists=!{_COPIED}
Before=containerd.service

[Service]
Type=oneshot
ExecStart=/bin/cp --archive --remove-destination {SKELETON}/. {_CONTAINERD}
ExecStart=/bin/touch {_COPIED}
"""
_FILES = {
    f"etc/systemd/system/{UNIT}": _UNIT_TEXT,
    "etc/systemd/system/containerd.service.d/continuum-images.conf": (
        f"[Unit]\nRequires={UNIT}\nAfter={UNIT}\n"
    ),
}


def make(
    root: Path, images: Sequence[ContainerImage], below: Path, release: str, progress: Progress
) -> dict[str, Any]:
    """Fill `root`; `below` is the root folder of the base layer, which has containerd.

    What another layer of the same `release` has of the images is taken from there, by hard links.

    Raises:
        StepFailed: containerd did not take an image; with its last output.
    """
    folders.make_open_folder((root / SKELETON.lstrip("/")).parent)
    there = _take_over(root, images, release)
    folders.make_open_folder(root / LAYERS.lstrip("/"))
    missing = [image for image in images if image.key not in there]
    work = folders.make_folder(root.parent / "archives")
    archives = for_each(
        lambda image: containers.archive(image, work, progress), missing, threads=_THREADS
    )
    _import(
        below,
        root,
        [name for image in images for name in image.names],
        {str(each.archive): each.name for each in archives},
        progress,
    )
    folders.remove_tree(work)
    _share(root / SKELETON.lstrip("/"), root / LAYERS.lstrip("/"))
    for path, content in _FILES.items():
        base.put(root / path, content)
    return {
        "release": release,
        "container_images": sorted(image.reference for image in images),
        "keys": sorted(image.key for image in images),
    }


def _take_over(root: Path, images: Sequence[ContainerImage], release: str) -> frozenset[str]:
    """Start from the layer in the cache that has most of the images; the keys of all that it has.

    Of equal ones from the newest: what it has beside may have layers in common with what is
    missing. Nothing is taken over from a layer that somebody removes meanwhile.
    """
    wanted = {image.key for image in images}
    others = [
        (len(keys & wanted), made, folder, keys)
        for folder, made, keys in _layers_of(release)
        if keys & wanted
    ]
    if not others:
        return frozenset()
    _, _, folder, keys = max(others)
    opt = SKELETON.lstrip("/").rpartition("/")[0]
    copied = [
        run_on_host(Command(("cp", "--archive", *how, f"{folder}/root{path}", f"{root / opt}")))
        for path, how in ((SKELETON, ()), (LAYERS, ("--link",)))
    ]
    if all(each.exit_code == 0 for each in copied):
        return keys
    for path in (SKELETON, LAYERS):
        folders.remove_tree(root / path.lstrip("/"))
    return frozenset()


def _layers_of(release: str) -> Iterator[tuple[Path, float, frozenset[str]]]:
    """Layers in the cache with container images: folder, when it was made, keys of its images."""
    for path in store.images_folder().glob("containers-*/record.json"):
        record = state_file.kept(path, _RECORD)
        if record is not None and record.release == release:
            with suppress(OSError):
                yield path.parent, path.stat().st_mtime, record.keys


def _import(
    below: Path, root: Path, names: list[str], archives: dict[str, str], progress: Progress
) -> None:
    work = root.parent / "containerd"
    task = {
        "lower": str(below),
        "store": str(root / SKELETON.lstrip("/")),
        "layers": str(root / LAYERS.lstrip("/")),
        "work": str(work),
        "names": names,
        "archives": list(archives),
    }
    program = ("unshare", "--net", sys.executable, "-m", "continuum.images.preload")
    done = 0
    try:
        for line in stream_on_host(
            isolated.in_own_namespaces(
                (*program, json.dumps(task)), _LIMIT, store.temporary_files(root)
            )
        ):
            if line in archives:
                done += 1
                progress(f"unpacked {archives[line]}", done / len(archives))
    except StepFailed as error:
        raise StepFailed(
            "container images could not be put into the machine image"
            + (f": no end within {_LIMIT:g} s" if isinstance(error, TimedOut) else ""),
            where=f"containerd of the machine image: {', '.join(archives.values())}",
            output=error.output,
        ) from error
    store.remove(work)


def _share(skeleton: Path, layers: Path) -> None:
    """Move what is big out of containerd's folder, with links in its place.

    What nothing links to any more was of images that are not wanted here.
    """
    places = {blob: f"blobs/{blob.name}" for blob in (skeleton / _BLOBS).iterdir()}
    places |= {each / "fs": f"layers/{each.name}" for each in (skeleton / _SNAPSHOTS).iterdir()}
    for path, name in places.items():
        if path.is_symlink():
            continue
        folders.make_open_folder((layers / name).parent)
        path.rename(layers / name)
        path.symlink_to(f"{LAYERS}/{name}")
        _refuse_removals(layers / name)
    for place in layers.glob("*/*"):
        if str(place.relative_to(layers)) not in places.values():
            store.remove(place) if place.is_dir() else place.unlink()


def _refuse_removals(place: Path) -> None:
    for folder, subfolders, files in os.walk(place):
        for each in (*subfolders, *files):
            _refuse_removal(Path(folder, each))


def _refuse_removal(path: Path) -> None:
    """The machine's own overlay would take a layer's mark for a removed file as its own.

    Raises:
        StepFailed: the layer removes something of the ones below.
    """
    found = path.lstat()
    removed = stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
    if removed or (stat.S_ISDIR(found.st_mode) and _OPAQUE in os.listxattr(path)):
        raise StepFailed(
            "a container image with layers that remove files cannot lie in a machine image",
            where=str(path),
            hint="merge its layers into one",
        )
