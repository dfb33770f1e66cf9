"""Layers of machine images as tar files, to carry them to a host that cannot build them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from continuum.errors import NotFound, StepFailed
from continuum.images import base, isolated, store
from continuum.machine import run_on_host

LIMIT = 900.0
_RECORD = "record.json"
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


def unpack(key: str, source: Path, progress: Callable[[str, float | None], None]) -> bool:
    """Bring a layer into the cache, unless it is there; True when it was not.

    Raises:
        NotPossibleHere: we are not root.
        StepFailed: the file is no layer.
    """
    if store.is_built(key):
        return False
    base.need_root()

    def make(root: Path, tell: Callable[[str, float | None], None]) -> dict[str, Any]:
        tell(f"unpacking layer {key}", None)
        folder = root.parent / "unpacked"
        folder.mkdir()
        arguments = ("tar", "--extract", f"--file={source}", *_FAITHFUL, "--preserve-permissions")
        run_on_host(isolated.dying_with_us((*arguments, f"--directory={folder}"), LIMIT)).check()
        came_out = _record(folder / _RECORD)
        if came_out is None or not (folder / "root").is_dir():
            raise StepFailed(f"{source.name} is no layer of a machine image")
        root.rmdir()
        (folder / "root").rename(root)
        shutil.rmtree(folder)
        return came_out

    layer = store.Layer(key, key.rpartition("-")[0], make)
    return store.ensure(layer, progress)


def _record(path: Path) -> dict[str, Any] | None:
    """What came out when the layer was built; None when that is not told."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
