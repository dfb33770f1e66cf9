"""Programs of ours in C: compiled once on each host, and kept in the cache by what they are made of.

Their sources are `continuum_runtime/native/NAME.c`. A wheel may bring a program that is compiled
already, in `continuum_runtime/native/ARCHITECTURE/NAME`. Each is one static file that needs nothing
beside it, so that it runs in machines too.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from continuum import folders

PACKAGES = {"cc": "gcc", "gencat": "libc6-dev"}
"""The Debian package by each program that the host needs to compile: `gencat` is no compiler's, but
comes with the headers and the static library, which hold no program of their own."""

FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-static", "-pthread")
TIMEOUT = 60.0
"""Seconds; a program of ours takes one or two."""

_EXECUTABLE = 0o755


_known: dict[str, Path] = {}


def program(name: str) -> Path | None:
    """The compiled program, which is made when it is not there; None where none can be had.

    That is found out each time: `up` may have installed the compiler meanwhile.
    """
    found = _known.get(name) or _shipped(name) or _compiled(name)
    if found is not None:
        _known[name] = found
    return found


def source(name: str) -> str:
    """The program's source."""
    return (_folder() / f"{name}.c").read_text(encoding="utf-8")


def _folder() -> Traversable:
    return resources.files("continuum_runtime") / "native"


def _shipped(name: str) -> Path | None:
    path = Path(str(_folder())) / platform.machine() / name
    return path if os.access(path, os.X_OK) else None


def _compiled(name: str) -> Path | None:
    compiler = shutil.which("cc")
    text = source(name)
    key = hashlib.sha256("\0".join((text, *FLAGS, platform.machine())).encode()).hexdigest()
    path = folders.cache_folder() / "native" / f"{name}-{key[:16]}"
    if path.exists():
        return path
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / name
        try:
            compiled = subprocess.run(
                (compiler, *FLAGS, "-x", "c", "-", "-o", str(made), "-lm"),
                input=text.encode(),
                capture_output=True,
                timeout=TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if compiled.returncode != 0:
            return None
        folders.write_file(path, made.read_bytes(), _EXECUTABLE)
    return path
