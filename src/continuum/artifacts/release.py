"""The source `release`: the project's own server, checked by the checksum that it publishes."""

from __future__ import annotations

import hashlib
import re
import tarfile
from pathlib import Path
from urllib.parse import urlsplit

from continuum import archives
from continuum.artifacts import catalogue, first_use
from continuum.artifacts.attempt import Unavailable
from continuum.artifacts.catalogue import Project, Wanted, fill, numbers
from continuum.artifacts.web import Progress, Web
from continuum.errors import StepFailed
from continuum.images.store import free

_ALGORITHMS = {64: "sha256", 128: "sha512"}
_SUM = re.compile(r"[0-9a-f]+", re.IGNORECASE)


def fetch(wanted: Wanted, web: Web, folder: Path, progress: Progress) -> Path:
    """The program, or the archive itself, in `folder`; a download that was cut is gone on with.

    Its checksum is the one that is published beside it, and then the one that the catalogue has
    pinned, or that of its first use.

    Raises:
        Unavailable: it cannot be had, or a checksum is wrong.
    """
    release = wanted.project.release
    assert release is not None
    address = wanted.fill(release.file)
    name = urlsplit(address).path.rpartition("/")[2]
    algorithm, digest = published(web.text(wanted.fill(release.checksum)), name)
    part = folder / f"{wanted.key}.part"
    resumed = web.download(address, part, progress)
    if resumed and _sum(part, algorithm) != digest:
        part.unlink()
        web.download(address, part, progress)
    found = _sum(part, algorithm)
    if found != digest:
        part.unlink()
        raise Unavailable(
            f"{address}: refused, its {algorithm} is {found[:16]}… where {digest[:16]}… is published"
        )
    pinned = catalogue.pinned_release(wanted)
    first_use.compare(part, address, f"release-{wanted.key}", pinned)
    if release.whole or not tarfile.is_tarfile(part):
        return part
    program = folder / f"{wanted.key}.unpacked"
    _unpack(part, wanted.name, program)
    part.unlink()
    return program


def published(text: str, name: str) -> tuple[str, str]:
    """Algorithm and digest of a file from a list of checksums, or from a checksum alone.

    Raises:
        Unavailable: the list does not name the file, or it is no list of checksums.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    fitting = [
        words[0]
        for words in lines
        if len(words) == 2 and words[1].lstrip("*").rpartition("/")[2] == name
    ]
    if len(lines) == 1 and len(lines[0]) == 1:
        fitting = lines[0]
    if len(set(fitting)) != 1:
        raise Unavailable(f"no checksum of {name} is published")
    digest = fitting[0].lower()
    if len(digest) not in _ALGORITHMS or not _SUM.fullmatch(digest):
        raise Unavailable(f"what is published as the checksum of {name} is none")
    return _ALGORITHMS[len(digest)], digest


def newest(project: Project, minor: str, web: Web) -> str:
    """The newest version of a minor release, as `v1.33.5`.

    Raises:
        Unavailable: the project publishes none, or cannot be reached.
    """
    if project.release is None or not project.release.newest:
        raise Unavailable("its official release does not tell its newest version")
    version = web.text(fill(project.release.newest, project, minor)).strip()
    found = numbers(version)
    if found is None or found[:2] != numbers(minor):
        raise Unavailable(f"its official release names no version of {minor}")
    return version


def _sum(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _unpack(archive: Path, program: str, target: Path) -> None:
    """The one file of the archive that has the program's name."""
    try:
        with (
            archives.open_file(archive) as file,
            archives.refusing(archive, f"{archive.name} cannot be unpacked", ""),
            archives.tar_stream(file, free(target.parent)) as tar,
        ):
            for member in archives.members(tar, stream=True):
                if member.isreg() and member.name.rpartition("/")[2] == program:
                    with target.open("wb") as written:
                        archives.copy(archives.content_of(tar, member), written)
                    return
    except StepFailed as error:
        target.unlink(missing_ok=True)
        raise Unavailable(error.message) from error
    raise Unavailable(f"there is no {program} in {archive.name}")
