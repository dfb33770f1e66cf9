"""Layers of machine images as tar files, to carry them to a host that cannot build them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from continuum import archives, folders
from continuum.errors import NotFound
from continuum.images import base, isolated, store
from continuum.machine import run_on_host

LIMIT = 900.0
_RECORD = "record.json"
_PARTS = ("root", _RECORD)
_HINT = "export it again on the host that has it"
# Owners by number, and what file systems keep beside: capabilities of programs, for one.
_FAITHFUL = ("--numeric-owner", "--xattrs", "--xattrs-include=*")


def keys() -> list[str]:
    """Keys of all layers in the cache."""
    folder = store.images_folder()
    return sorted(path.parent.name for path in folder.glob(f"[!.]*/{_RECORD}"))


def keys_of(fingerprint: str) -> list[str]:
    """Keys of the layers of a machine image, the lowest first.

    Raises:
        NotFound: it is not in the cache.
    """
    return [root.parent.name for root in reversed(store.find(fingerprint).layers)]


def pack(key: str, target: Path) -> Path:
    """Write a layer to a tar file; returns its path.

    Raises:
        NotFound: the layer is not in the cache.
        NotPossibleHere: we are not root.
    """
    base.need_root()
    if not store.is_built(key):
        raise NotFound(f"layer {key} is not in the cache", hint="continuum up")
    folder = store.images_folder() / key
    arguments = ("tar", "--create", f"--file={target}", *_FAITHFUL, f"--directory={folder}")
    run_on_host(isolated.dying_with_us((*arguments, _RECORD, "root"), LIMIT)).check()
    return target


def unpack(
    key: str,
    source: Path,
    progress: Callable[[str, float | None], None],
    *,
    origin: str = "",
) -> bool:
    """Bring a layer into the cache, unless it is there; True when it was not.

    `origin` is the name of the archive that it comes in.

    Raises:
        NotPossibleHere: we are not root.
        StepFailed: the file is no layer.
    """
    if store.is_built(key):
        return False
    base.need_root()
    title = f"layer {key} in {origin}" if origin else source.name

    def make(root: Path, tell: Callable[[str, float | None], None]) -> dict[str, Any]:
        tell(f"unpacking layer {key}", None)
        folder = root.parent / "unpacked"
        folder.mkdir(mode=folders.PRIVATE_FOLDER)
        headline = f"{title} is no layer of a machine image"
        with (
            archives.refusing(source, headline, _HINT),
            archives.open_file(source) as file,
            archives.tar_file(file) as tar,
        ):
            archives.extract_system(tar, folder, store.free(folder))
            came_out = _record(folder)
        root.rmdir()
        (folder / "root").rename(root)
        shutil.rmtree(folder)
        return came_out | {"from": f"archive {origin}"} if origin else came_out

    layer = store.Layer(key, key.rpartition("-")[0], make)
    return store.ensure(layer, progress)


def _record(folder: Path) -> dict[str, Any]:
    """Result of building the layer; nothing else lies beside it and the layer's root."""
    stranger = next((each.name for each in folder.iterdir() if each.name not in _PARTS), None)
    if stranger is not None:
        raise archives.Unsafe(f"{archives.shown(stranger)} does not belong there")
    root, record = (folder / part for part in _PARTS)
    if root.is_symlink() or not root.is_dir():
        raise archives.Unsafe("it has no folder root")
    if record.is_symlink() or not record.is_file():
        raise archives.Unsafe(f"it has no file {_RECORD}")
    with record.open("rb") as file:
        found = archives.json_of(archives.document(file, _RECORD), _RECORD)
    if not isinstance(found, dict):
        raise archives.Unsafe(f"{_RECORD} is no table")
    return found
