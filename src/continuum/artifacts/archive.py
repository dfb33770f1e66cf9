"""Archives of artifacts, for hosts without a network: a tar file that begins with its manifest.

manifest.json    what is in it: names, versions, SHA-256
files/SHA256     content
layers/KEY.tar   layers of machine images, when they were asked for
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from continuum import archives, folders
from continuum.artifacts import claims
from continuum.artifacts.catalogue import NAME_PATTERN, VERSION_PATTERN, Wanted
from continuum.artifacts.store import Artifact, ArtifactStore, digest
from continuum.artifacts.web import Progress
from continuum.errors import NotFound, StepFailed
from continuum.experiment.units import show_bytes
from continuum.images import base, packed
from continuum.images.store import free, images_folder, is_built, remove, telling_disk_full
from continuum.machine import refuse_when_stopped

MANIFEST = "manifest.json"
_MANIFEST_LIMIT = 2**22
_HEADERS = 2**26
"""Bytes that tar takes beside the files: a header and a filling for each of 50,000."""
_CHUNK = 2**20
_HINT = "export it again, or copy it again: it may have been cut on its way"

_Release = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
_Version = Annotated[str, Field(pattern=f"^{VERSION_PATTERN}$")]
_Sum = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Part):
    """One artifact in an archive."""

    name: Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
    version: _Version
    architecture: Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
    sha256: _Sum
    size: Annotated[int, Field(ge=0)]
    source: Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]

    @property
    def wanted(self) -> Wanted:
        """What it is the answer to."""
        return Wanted(self.name, self.version, self.architecture)


class LayerEntry(_Part):
    """One layer of a machine image in an archive."""

    key: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,100}$")]
    sha256: _Sum
    size: Annotated[int, Field(ge=0)]


class Manifest(_Part):
    """What an archive says of itself.

    `versions` is what minor releases were found to mean, as `v1.33.9` by `kubernetes-1.33`.
    """

    format: Literal["continuum artifacts"] = "continuum artifacts"
    schema_version: Literal[1] = 1
    artifacts: tuple[Entry, ...] = ()
    layers: tuple[LayerEntry, ...] = ()
    versions: Mapping[_Release, _Version] = Field(default={})

    @model_validator(mode="after")
    def _each_once(self) -> Manifest:
        keys = [entry.wanted.key for entry in self.artifacts]
        layers = [layer.key for layer in self.layers]
        if len(set(keys)) != len(keys) or len(set(layers)) != len(layers):
            raise ValueError("something stands in it twice")
        return self

    @property
    def members(self) -> dict[str, tuple[str, int]]:
        """SHA-256 and bytes by the member's name in the archive."""
        return {f"files/{each.sha256}": (each.sha256, each.size) for each in self.artifacts} | {
            f"layers/{each.key}.tar": (each.sha256, each.size) for each in self.layers
        }


def write(
    store: ArtifactStore,
    wanted: Sequence[Wanted],
    target: Path,
    progress: Progress,
    *,
    layers: Sequence[str] = (),
) -> Manifest:
    """Write artifacts of the store, verified, and layers of machine images to an archive.

    Raises:
        NotFound: an artifact is not in the store.
    """
    artifacts = []
    for each in wanted:
        found = store.find(each)
        if found is None:
            raise NotFound(
                f"{each} is not in the cache", hint=f"continuum artifacts fetch {each.name}"
            )
        artifacts.append(found)
    _remove_what_killed_ones_left(target.parent, f".{target.name}.")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    work = _work_folder(store, "export")
    try:
        with telling_disk_full(target.parent):
            packs = {key: _pack(key, work, progress) for key in layers}
            manifest = _described(artifacts, packs, store.versions(), progress)
            with tarfile.TarFile(temporary, "w", copybufsize=_CHUNK) as tar:
                _add_text(tar, MANIFEST, manifest.model_dump_json(indent=2))
                members = _members(artifacts, packs)
                total = sum(path.stat().st_size for _, path in members)
                for name, path in members:
                    refuse_when_stopped(name)
                    progress(f"writing {name}", min(tar.offset / total, 1.0) if total else None)
                    _add_file(tar, name, path)
            folders.give_to_caller(temporary)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
        folders.remove_tree(work)
    return manifest


def look(source: Path) -> Manifest:
    """What an archive says of itself; what is in it is not read.

    Raises:
        NotFound: there is no such file.
        StepFailed: it is no archive of ours.
    """
    with _opened(source, archives.JSON_BYTES * 2) as tar:
        return _manifest(archives.members(tar, stream=True), tar)


def read(
    store: ArtifactStore, source: Path, progress: Progress, *, replace: bool = False
) -> tuple[Manifest, list[str]]:
    """Bring all that an archive holds into the store; all of it, or nothing.

    Where the store has another file under the same name, `replace` takes the archive's.

    Returns:
        What the archive says of itself, and what a person should know of it: a sentence each.

    Raises:
        NotFound: there is no such file.
        StepFailed: it is no archive of ours, it is cut, a SHA-256 is wrong, it holds what nobody
            asks for, or what the store has otherwise.
    """
    manifest = look(source)
    notes = claims.check(store, manifest.artifacts, manifest.versions, source, replace=replace)
    missing = [layer for layer in manifest.layers if not is_built(layer.key)]
    if missing:
        base.need_root()
    notes += [
        f"layer {each.key} is here already: kept" for each in manifest.layers if each not in missing
    ]
    work = _work_folder(store, "import")
    try:
        with telling_disk_full(store.folder):
            room = _room(manifest, work, source)
            with _opened(source, room) as tar:
                found = archives.members(tar, stream=True)
                if _manifest(found, tar) != manifest:
                    raise archives.Unsafe("it has changed while it was read")
                files = _unpack(tar, found, manifest, work, progress)
            _bring_layers(missing, files, source, progress)
            for release, version in manifest.versions.items():
                if replace or release not in store.versions():
                    store.remember(release, version)
            for entry in manifest.artifacts:
                _keep(store, entry, files[f"files/{entry.sha256}"], source)
    finally:
        folders.remove_tree(work)
    return manifest, notes


def parse(text: bytes) -> Manifest:
    """The manifest of an archive.

    Raises:
        ValueError: it is none.
    """
    return Manifest.model_validate_json(text)


def _work_folder(store: ArtifactStore, purpose: str) -> Path:
    folder = store.folder / "work"
    _remove_what_killed_ones_left(folder, f"{purpose}-")
    return folders.make_folder(folder / f"{purpose}-{os.getpid()}")


def _remove_what_killed_ones_left(folder: Path, prefix: str) -> None:
    """They are large: remove what carries the number of a process that is no more."""
    for path in folder.glob(f"{prefix}*"):
        number = path.name.removeprefix(prefix)
        if number.isdigit() and not Path("/proc", number).exists():
            folders.remove_tree(path) if path.is_dir() else path.unlink()


def _pack(key: str, work: Path, progress: Progress) -> Path:
    progress(f"packing machine image layer {key}", None)
    return packed.pack(key, work / f"{key}.tar")


def _described(
    artifacts: Iterable[Artifact],
    packs: dict[str, Path],
    versions: Mapping[str, str],
    progress: Progress,
) -> Manifest:
    def layer(key: str, path: Path) -> LayerEntry:
        progress(f"summing machine image layer {key}", None)
        return LayerEntry(key=key, sha256=digest(path), size=path.stat().st_size)

    return Manifest(
        artifacts=tuple(
            Entry(
                name=each.name,
                version=each.version,
                architecture=each.architecture,
                sha256=each.sha256,
                size=each.size,
                source=each.source,
            )
            for each in artifacts
        ),
        layers=tuple(layer(key, path) for key, path in packs.items()),
        versions=versions,
    )


def _members(artifacts: Iterable[Artifact], packs: dict[str, Path]) -> list[tuple[str, Path]]:
    files = {f"files/{each.sha256}": each.path for each in artifacts}
    return [*files.items(), *((f"layers/{key}.tar", path) for key, path in packs.items())]


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(text.encode())
    member.mode = 0o644
    tar.addfile(member, io.BytesIO(text.encode()))


def _add_file(tar: tarfile.TarFile, name: str, path: Path) -> None:
    member = tarfile.TarInfo(name)
    member.size = path.stat().st_size
    member.mode = 0o644
    with path.open("rb") as file:
        tar.addfile(member, file)


@contextmanager
def _opened(source: Path, room: int) -> Iterator[tarfile.TarFile]:
    """The archive, from its beginning; what is wrong with it becomes one error.

    `room` is how many bytes of files there may be in it.
    """
    with (
        archives.open_file(source) as file,
        archives.refusing(source, f"{source.name} is refused", _HINT),
        archives.tar_stream(file, room + _HEADERS) as tar,
    ):
        yield tar


def _manifest(found: Iterator[tarfile.TarInfo], tar: tarfile.TarFile) -> Manifest:
    first = next(found, None)
    if first is None or first.name != MANIFEST or not first.isreg() or first.issparse():
        raise archives.Unsafe(f"it does not begin with {MANIFEST}")
    if first.size > _MANIFEST_LIMIT:
        raise archives.Unsafe(f"{MANIFEST} is longer than {show_bytes(_MANIFEST_LIMIT)}")
    try:
        return parse(archives.content_of(tar, first).read())
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise archives.Unsafe(
            f"{MANIFEST}: {archives.shown(place)} {archives.shown(problem['msg'])}"
        ) from error


def _room(manifest: Manifest, work: Path, source: Path) -> int:
    """Bytes that the archive says it takes.

    Raises:
        StepFailed: there is less on the disk.
    """
    whole = sum(size for _, size in manifest.members.values())
    layers = sum(each.size for each in manifest.layers)
    if whole + layers > free(work):
        raise StepFailed(
            f"{source.name} is refused: it says that it takes {show_bytes(whole + layers)}, "
            f"and {show_bytes(free(work))} are free",
            where=str(work),
            hint="free as much, or set XDG_CACHE_HOME to a folder on another disk",
        )
    return whole


def _unpack(
    tar: tarfile.TarFile,
    members: Iterator[tarfile.TarInfo],
    manifest: Manifest,
    work: Path,
    progress: Progress,
) -> dict[str, Path]:
    """The verified files by their names in the archive."""
    expected = manifest.members
    whole = sum(size for _, size in expected.values())
    found: dict[str, Path] = {}
    for member in members:
        if member.name not in expected or not member.isreg():
            raise archives.Unsafe(f"{archives.shown(member.name)} is not in its manifest")
        if member.name in found:
            raise archives.Unsafe(f"{member.name} stands in it twice")
        progress(f"reading {member.name}", min(member.offset / whole, 1.0) if whole else None)
        total, size = expected[member.name]
        path = work / member.name.replace("/", "-")
        if member.size != size or _copy(tar, member, path) != total:
            raise archives.Unsafe(f"{_titles(manifest, total)}: the SHA-256 is wrong")
        found[member.name] = path
    missing = expected.keys() - found.keys()
    if missing:
        raise archives.Unsafe(f"{min(missing)} is missing")
    return found


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> str:
    """Write a member to a file; returns its SHA-256."""
    total = hashlib.sha256()
    with target.open("wb") as file:
        archives.copy(archives.content_of(tar, member), file, [total])
    return total.hexdigest()


def _bring_layers(
    layers: Sequence[LayerEntry], files: Mapping[str, Path], source: Path, progress: Progress
) -> None:
    """Unpack all layers, or none."""
    brought: list[str] = []
    try:
        for layer in layers:
            file = files[f"layers/{layer.key}.tar"]
            if packed.unpack(layer.key, file, progress, origin=source.name):
                brought.append(layer.key)
    except BaseException:
        for key in brought:
            remove(images_folder() / key)
        raise


def _keep(store: ArtifactStore, entry: Entry, file: Path, source: Path) -> None:
    there = store.find(entry.wanted)
    if there is None or there.sha256 != entry.sha256:
        # Two artifacts may have one content: each moves a copy of its own.
        copy = file.with_name(f"{file.name}-{entry.wanted.key}")
        os.link(file, copy)
        store.add(entry.wanted, copy, claims.source(entry, source.name))


def _titles(manifest: Manifest, total: str) -> str:
    names = [str(each.wanted) for each in manifest.artifacts if each.sha256 == total]
    names += [f"layer {each.key}" for each in manifest.layers if each.sha256 == total]
    return ", ".join(names)
