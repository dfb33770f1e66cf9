"""The topmost layer of a machine image: container images that containerd has from its first start.

/opt/continuum/containerd/           what containerd's own folder is at first: its databases, and
                                     links to what is big
/opt/continuum/container-layers/     the unpacked layers, and the blobs that they came in

The first is copied when a machine boots for the first time, which takes a moment, since it is
small. The second is never copied: all machines share it through their image, and what a container
writes lies in an upper folder of its own.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from continuum import folders
from continuum.errors import StepFailed, TimedOut
from continuum.images import base, containers, isolated, store
from continuum.machine import stream_on_host
from continuum.parallel import for_each

if TYPE_CHECKING:
    from continuum.images.containers import ContainerImage, Progress

LAYOUT = 1
"""Raise when what this module writes changes for the same inputs."""

SKELETON = "/opt/continuum/containerd"
LAYERS = "/opt/continuum/container-layers"
UNIT = "continuum-container-images.service"

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
    root: Path, images: Sequence[ContainerImage], below: Path, progress: Progress
) -> dict[str, Any]:
    """Fill `root`; `below` is the root folder of the base layer, which has containerd.

    Raises:
        StepFailed: containerd did not take an image; with its last output.
    """
    archives = {
        str(archive.archive): archive.name
        for archive in for_each(
            lambda image: containers.archive(image, progress), images, threads=_THREADS
        )
    }
    work = root.parent / "containerd"
    target = root / SKELETON.lstrip("/")
    folders.make_open_folder(target.parent)
    _import(below, target, work, archives, progress)
    store.remove(work)
    _share(target, root / LAYERS.lstrip("/"))
    for path, content in _FILES.items():
        base.put(root / path, content)
    return {"container_images": sorted(archives.values())}


def _import(
    below: Path, target: Path, work: Path, archives: dict[str, str], progress: Progress
) -> None:
    program = ("unshare", "--net", sys.executable, "-m", "continuum.images.preload")
    arguments = (*program, str(below), str(target), str(work), *archives)
    done = 0
    try:
        for line in stream_on_host(
            isolated.in_own_namespaces(arguments, _LIMIT, store.temporary_files(work))
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


def _share(skeleton: Path, layers: Path) -> None:
    """Move what is big out of containerd's folder, with links in its place."""
    moves = {blob: f"blobs/{blob.name}" for blob in (skeleton / _BLOBS).iterdir()}
    moves |= {each / "fs": f"layers/{each.name}" for each in (skeleton / _SNAPSHOTS).iterdir()}
    for path, name in moves.items():
        folders.make_open_folder((layers / name).parent)
        path.rename(layers / name)
        path.symlink_to(f"{LAYERS}/{name}")
    for folder, subfolders, files in os.walk(layers):
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
