"""Our own program as it is brought to other hosts: what the agent imports, by the hash of it all."""

from __future__ import annotations

import hashlib
import io
import platform
import tarfile
from collections.abc import Iterator
from functools import cache
from importlib import util
from pathlib import Path

from continuum import native

PACKAGES = (
    "annotated_types",
    "continuum",
    "continuum_runtime",
    "platformdirs",
    "pydantic",
    "pydantic_core",
    "typing_extensions",
    "typing_inspection",
)
"""What `continuum.infrastructure.hosts.agent` needs beside Python itself; a test pins it."""

_SUFFIXES = (".c", ".py", ".so")


@cache
def files() -> dict[str, Path]:
    """Every file of it, by its path in the bundle, sorted."""
    return dict(sorted(_files()))


def _files() -> Iterator[tuple[str, Path]]:
    for name in PACKAGES:
        found = util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        origin = Path(found.origin)
        if origin.name != "__init__.py":
            yield origin.name, origin
            continue
        for path in origin.parent.rglob("*"):
            # A program that came compiled is `native/ARCHITECTURE/NAME`.
            if path.suffix in _SUFFIXES or path.parent.parent.name == "native":
                yield f"{name}/{path.relative_to(origin.parent)}", path
            compiled = native.program(path.stem) if path.suffix == ".c" else None
            if compiled is not None and not compiled.is_relative_to(origin.parent):
                # Where modules of Python's fit so do programs, and no compiler is needed there.
                yield f"{name}/{path.parent.name}/{platform.machine()}/{path.stem}", compiled


@cache
def key() -> str:
    """16 hexadecimal digits that change with every byte of it."""
    whole = hashlib.sha256()
    for name, path in files().items():
        whole.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:16]


def packed() -> bytes:
    """It all, as a compressed tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, path in files().items():
            archive.add(path, name, recursive=False)
    return buffer.getvalue()
