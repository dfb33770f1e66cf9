"""The package `continuum_runtime` as an install step: what our programs in machines are made of."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from continuum import folders
from continuum.images.recipe import RUNTIME_FOLDER, Tree, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PACKAGE = "continuum_runtime"


def runtime_tree() -> Tree:
    """Our own programs, in `RUNTIME_FOLDER`."""
    return Tree("continuum-runtime", fingerprint(sorted(_modules().items())), _write)


def _modules() -> dict[str, str]:
    """Source of each module by its file name."""
    return {
        entry.name: entry.read_text()
        for entry in resources.files(PACKAGE).iterdir()
        if entry.name.endswith(".py")
    }


def _write(root: Path, progress: Callable[[str], None]) -> None:
    progress("copying our own programs")
    folder = root / RUNTIME_FOLDER.lstrip("/") / PACKAGE
    for name, source in _modules().items():
        folders.write_file(folder / name, source)
