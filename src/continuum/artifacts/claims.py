"""Claims of an archive about the programs in it, before any of it is believed.

An archive's sums tell that it came whole, not who made it: where a program came from is its claim,
unless the program's own published SHA-256 is in the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from continuum.artifacts import catalogue
from continuum.errors import StepFailed
from continuum.images.sources import architecture

if TYPE_CHECKING:
    from continuum.artifacts.archive import Entry
    from continuum.artifacts.catalogue import Project
    from continuum.artifacts.store import ArtifactStore

ARCHITECTURES = ("amd64", "arm64")
_OFFICIAL = "official release"
_SOURCE_LENGTH = 200


def source(entry: Entry, archive: str) -> str:
    """Origin of a program of an archive, in words that say who says so."""
    pinned = catalogue.pinned_program(entry.wanted)
    if pinned == entry.sha256:
        return f"official release by its published SHA-256, in archive {archive}"[:_SOURCE_LENGTH]
    return f"archive {archive}, which says: {entry.source}"[:_SOURCE_LENGTH]


def check(
    store: ArtifactStore,
    artifacts: Sequence[Entry],
    versions: Mapping[str, str],
    file: Path,
    *,
    replace: bool,
) -> list[str]:
    """Compare what an archive says it holds with the catalogue and the store.

    Returns:
        What a person should know of it: a sentence each.

    Raises:
        StepFailed: it holds what Continuum does not know, or, without `replace`, what is not what
            it says, or what the store has otherwise.
    """
    for entry in artifacts:
        reason = _refusal(entry)
        if reason is not None:
            raise _refused(file, reason, "it is of another version of Continuum, or damaged")
    for release, version in versions.items():
        if not _means(release, version):
            reason = f"{release} cannot mean {version}"
            raise _refused(file, reason, "it is of another version of Continuum, or damaged")
    notes = [note for entry in artifacts for note in _remarks(entry)]
    false = [found for entry in artifacts if (found := _contradiction(entry)) is not None]
    if false and not replace:
        raise _refused(file, false[0], "do not use it; --replace would take it all the same")
    others = []
    for entry in artifacts:
        here = store.find(entry.wanted)
        if here is not None and here.sha256 != entry.sha256:
            others.append(
                f"{entry.wanted}: {entry.sha256[:12]}… in the archive, "
                f"{here.sha256[:12]}… in the cache ({here.source})"
            )
    if others and not replace:
        names = others[0] + (f", and {len(others) - 1} more" if len(others) > 1 else "")
        raise StepFailed(
            f"{file.name} is refused: the cache has another file of {names}",
            where=str(file),
            output="\n".join(others[1:]),
            hint="keep what is there, or take the archive's: continuum artifacts import --replace",
        )
    known = store.versions()
    return [
        *notes,
        *false,
        *(f"replaced {other}" for other in others),
        *(
            f"{release} {'meant' if replace else 'stays'} {known[release]}, "
            f"the archive says {version}"
            for release, version in versions.items()
            if known.get(release, version) != version
        ),
    ]


def _refusal(entry: Entry) -> str | None:
    if entry.name not in catalogue.names():
        return f"{entry.name} is no artifact that Continuum knows"
    project = catalogue.project_of(entry.name)
    if not _is_version(project, entry.version):
        return f"{entry.version} is no version of {project.about}"
    if entry.architecture not in ARCHITECTURES:
        return f"{entry.wanted} is for {entry.architecture}, which no machine of Continuum is"
    return None


def _contradiction(entry: Entry) -> str | None:
    pinned = catalogue.pinned_program(entry.wanted)
    if pinned in (None, entry.sha256) or not entry.source.startswith(_OFFICIAL):
        return None
    return (
        f"{entry.wanted} is not the official release that it says it is: "
        f"its SHA-256 is {entry.sha256[:12]}…, that of the release {str(pinned)[:12]}…"
    )


def _is_version(project: Project, version: str) -> bool:
    if version == project.version:
        return True
    found = catalogue.numbers(version)
    return version.startswith("v") and found is not None and len(found) == 3


def _means(release: str, version: str) -> bool:
    """Tell whether `kubernetes-1.33` may mean `v1.33.9`."""
    name, _, minor = release.rpartition("-")
    found, asked = catalogue.numbers(version), catalogue.numbers(minor)
    project = catalogue.projects().get(name)
    return (
        project is not None
        and _is_version(project, version)
        and found is not None
        and found[:2] == asked
    )


def _remarks(entry: Entry) -> list[str]:
    tested = catalogue.project_of(entry.name).version
    told = []
    if entry.version != tested:
        told.append(f"{entry.wanted} is not the tested version, {tested}")
    if entry.architecture != architecture():
        told.append(f"{entry.wanted} is for {entry.architecture}, this host is {architecture()}")
    return told


def _refused(file: Path, reason: str, hint: str) -> StepFailed:
    return StepFailed(f"{file.name} is refused: {reason}", where=str(file), hint=hint)
