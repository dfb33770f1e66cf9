"""Container images that others made: read from an archive, or fetched by skopeo, and written again
as ours.

What is read: an OCI image layout or what `docker save` writes, as a tar file that may be compressed.
Where a layer removes files of the ones below, all layers are merged into one: a removal is a mark
that only the overlay of the container may see, and a machine's own overlay would see it first.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from functools import cache
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, Field, RootModel, ValidationError

from continuum import archives
from continuum.errors import NotFound, NotPossibleHere, StepFailed, UsageError
from continuum.images import isolated, oci, platforms, store
from continuum.images.containers import REPOSITORY, ContainerImage
from continuum.images.recipe import fingerprint
from continuum.images.sources import architecture
from continuum.machine import stream_on_host

if TYPE_CHECKING:
    from continuum.images.containers import Progress

FETCH_LIMIT = 900.0
_LAYOUT = 1
"""Raise when what this module writes changes for the same inputs."""

_FETCHED = "image.tar"
_INDEX_DEPTH = 3
_LAYERS = 256
_HINT = (
    "make one with `docker save --output worker.tar IMAGE`, "
    "or `skopeo copy … docker-archive:worker.tar`"
)
_Kind = TypeVar("_Kind", bound=BaseModel)
_REMOVED = ".wh."
_RENAMED = frozenset({"linkpath", "path", "size"})
_OPAQUE = ".wh..wh..opq"
# What skopeo says where nobody answers.
_NOBODY = re.compile(
    r"dial tcp|i/o timeout|no such host|network is unreachable|TLS handshake timeout"
)
# host[:port]/path:tag, or with @sha256:…; what names no server is on Docker's.
_REFERENCE = re.compile(
    r"[a-z0-9][a-z0-9._-]*(:\d+)?(/[a-z0-9][a-z0-9._-]*)*(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)


def problem_with_reference(reference: str) -> str | None:
    """Why a registry's image cannot be named so; None when it can.

    A name that means another image tomorrow makes figures that cannot be repeated.
    """
    if not _REFERENCE.fullmatch(reference):
        return f'"{reference[:60]}" is not an image as in "registry.example/me/worker:1.2"'
    last = reference.rpartition("/")[2]
    if "@" in last:
        return None
    tag = last.partition(":")[2]
    if not tag or tag == "latest":
        return (
            f'"{reference[:60]}" means another image every time; name a tag as ":1.2", or a digest'
        )
    return None


def problem_with_archive(path: Path) -> str | None:
    """Why a file cannot be an image's archive; None when it looks like one."""
    other = archives.other_kind(path)
    if other is not None:
        return f'"{path}" is no regular file, but {other}'
    try:
        with (
            archives.refusing(path, str(path), ""),
            archives.open_file(path) as file,
            archives.tar_stream(file, archives.JSON_BYTES) as tar,
        ):
            next(archives.members(tar, stream=True), None)
    except NotFound:
        return f'there is no file "{path}"'
    except StepFailed:
        return f'"{path}" is no tar file, as `docker save` writes it'
    return None


def of_archive(path: Path) -> ContainerImage:
    """An image from a tar file, by the hash of the file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        found = path.stat()
        digest = _digest(path, found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", where=str(path)) from error
    except StepFailed as error:
        raise UsageError(error.message, where=str(path)) from error

    def write(target: Path, work: Path, progress: Progress) -> oci.Image:
        return _rewrite(path, target, name, work, progress)

    name = _name(path.name.partition(".")[0], digest)
    return ContainerImage(path.name, name, _LAYOUT, write)


def of_registry(reference: str) -> ContainerImage:
    """An image from a registry, fetched once, by skopeo with this host's own settings."""

    def write(target: Path, work: Path, progress: Progress) -> oci.Image:
        return _rewrite(_fetched(reference, progress), target, name, work, progress)

    last = reference.partition("@")[0].rpartition("/")[2].partition(":")[0]
    name = _name(last, reference)
    return ContainerImage(reference, name, _LAYOUT, write)


@cache
def _digest(path: Path, size: int, changed: int) -> str:
    """SHA-256 of a file that has not changed since."""
    del size, changed
    with archives.open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(called: str, identity: str) -> oci.Name:
    plain = re.sub(r"[^a-z0-9]+", "-", called.lower()).strip("-")[:40].strip("-") or "image"
    return oci.Name(f"{REPOSITORY}/{plain}", fingerprint(_LAYOUT, identity, architecture()))


def _fetched(reference: str, progress: Progress) -> Path:
    """A registry's image as an archive in the cache: what a tag meant first, it means for good."""

    def make(root: Path, tell: Progress) -> dict[str, Any]:
        _fetch(reference, root / _FETCHED, store.temporary_files(root), tell)
        return {"reference": reference}

    key = f"fetched-{fingerprint(_LAYOUT, reference, architecture())}"
    store.ensure(store.Layer(key, reference, make), progress)
    return store.images_folder() / key / "root" / _FETCHED


def _fetch(reference: str, archive: Path, work: Path, progress: Progress) -> None:
    if shutil.which("skopeo") is None:
        raise NotPossibleHere(
            f"fetching {reference} from its registry takes the program skopeo, "
            "which is not on this host",
            hint="apt-get install -y skopeo; or, where the image is, "
            f"`docker save --output worker.tar {reference}`, and name that file as the archive",
        )
    progress(f"fetching {reference}", None)
    named, at, digest = reference.partition("@")
    if at:  # skopeo takes no tag beside a digest, which says it all.
        named = re.sub(r":[^:/]+$", "", named)
    arguments = (
        "skopeo",
        f"--override-arch={architecture()}",
        "--override-os=linux",
        "copy",
        f"docker://{named}{at}{digest}",
        f"docker-archive:{archive}",
    )
    try:
        for line in stream_on_host(isolated.dying_with_us(arguments, FETCH_LIMIT, work)):
            progress(f"{reference}: {line}", None)
    except StepFailed as error:
        if _NOBODY.search(error.output):
            raise NotPossibleHere(
                f"image {reference} is not in the cache, and its registry cannot be reached",
                where=reference,
                output=error.output,
                hint="bring it as an archive: where it can be had, "
                f"`skopeo copy docker://{reference} docker-archive:worker.tar`",
            ) from error
        raise StepFailed(
            f"image {reference} could not be fetched",
            where=error.where,
            output=error.output,
            hint="is it there, and does `skopeo login` know you there?",
        ) from error


# -- reading -------------------------------------------------------------------------------------


class _Descriptor(BaseModel):
    """Place of a document or a layer in an OCI layout, and what it says that it is."""

    digest: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$")]
    platform: platforms.Platform | None = None
    annotations: dict[str, str] | None = None

    @property
    def member(self) -> str:
        return f"blobs/{self.digest.replace(':', '/')}"


class _Index(BaseModel):
    manifests: list[_Descriptor]


class _Manifest(BaseModel):
    config: _Descriptor
    layers: Annotated[list[_Descriptor], Field(max_length=_LAYERS)]


class _Saved(BaseModel):
    """One image of what `docker save` writes."""

    config: Annotated[str, Field(alias="Config")]
    layers: Annotated[list[str], Field(alias="Layers", max_length=_LAYERS)]
    names: Annotated[list[str] | None, Field(alias="RepoTags")] = None


class _Archive(RootModel[list[_Saved]]):
    """All images of what `docker save` writes."""


class _RootFiles(BaseModel):
    diff_ids: list[str] | None = None


class _Program(BaseModel):
    """Start of a container of the image."""

    entrypoint: Annotated[list[str] | None, Field(alias="Entrypoint")] = None
    command: Annotated[list[str] | None, Field(alias="Cmd")] = None
    environment: Annotated[list[str] | None, Field(alias="Env")] = None
    folder: Annotated[str | None, Field(alias="WorkingDir")] = None
    user: Annotated[str | None, Field(alias="User")] = None
    stop_signal: Annotated[str | None, Field(alias="StopSignal")] = None

    def as_ours(self) -> oci.Config:
        return oci.Config(
            entrypoint=tuple(self.entrypoint or ()),
            command=tuple(self.command or ()),
            environment=dict(each.partition("=")[::2] for each in self.environment or ()),
            working_directory=self.folder or "/",
            architecture=architecture(),
            user=self.user or "",
            stop_signal=self.stop_signal or "",
        )


class _Config(BaseModel):
    os: str | None = None
    architecture: str | None = None
    variant: str | None = None
    config: _Program | None = None
    rootfs: _RootFiles | None = None


class _Layout:
    """The members of an image's archive, and the room that is left for what comes out of it."""

    def __init__(self, tar: tarfile.TarFile, room: int) -> None:
        self._tar = tar
        self._members = {each.name.removeprefix("./"): each for each in archives.members(tar)}
        self._links = 0
        self.room = room

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def member(self, name: str) -> tarfile.TarInfo:
        """A member; older versions of Docker write links where two layers are the same."""
        found = self._members.get(name)
        for _ in range(_LAYERS):
            if found is None or not (found.issym() or found.islnk()):
                break
            target = PurePosixPath(found.linkname)
            if found.issym():
                target = _normal(PurePosixPath(name).parent / target)
            name = str(target).removeprefix("./")
            found = self._members.get(name)
        if found is None:
            raise archives.Unsafe(f"{archives.shown(name)} is missing")
        return found

    def open(self, name: str) -> tuple[IO[bytes], int]:
        """A member's content, and its size."""
        found = self.member(name)
        return archives.content_of(self._tar, found), found.size

    def json(self, name: str, digest: str = "") -> Any:  # noqa: ANN401  whatever JSON holds
        """A document, which is what its digest says."""
        content, _ = self.open(name)
        text = archives.document(content, archives.shown(name))
        algorithm, _, total = digest.partition(":")
        if digest and hashlib.new(algorithm, text).hexdigest() != total:
            raise archives.Unsafe(
                f"{archives.shown(name)} is not what its name says: it is damaged"
            )
        return archives.json_of(text, archives.shown(name))

    def layer(self, name: str, target: Path) -> oci.Layer:
        """A layer, as a tar file that is not compressed."""
        content, size = self.open(name)
        digest = hashlib.sha256()
        with archives.unpacked(content, size, self.room) as plain, target.open("wb") as written:
            whole = archives.copy(plain, written, [digest])
        self.room -= whole
        return oci.Layer(target, digest.hexdigest(), whole)


def _rewrite(
    source: Path, target: Path, name: oci.Name, work: Path, progress: Progress
) -> oci.Image:
    """Write an archive of ours from another's.

    Raises:
        StepFailed: it is no image, or not one for this host's processor.
    """
    progress(f"reading {source.name}", None)
    headline = f"{source.name} is no archive of a container image"
    with (
        archives.refusing(source, headline, _HINT),
        archives.open_file(source) as given,
        ExitStack() as stack,
    ):
        # What comes out is written twice: layer by layer here, and as our archive.
        room = store.free(work) // 2
        file: IO[bytes] = given
        if archives.is_compressed(given):
            room -= _unpack(given, work / "plain.tar", room)
            file = stack.enter_context((work / "plain.tar").open("rb"))
        layout = _Layout(stack.enter_context(archives.tar_file(file)), room)
        config, names = _image(layout, source)
        _check_platform(config, source)
        layers = [
            layout.layer(each, work / f"layer-{number}.tar") for number, each in enumerate(names)
        ]
        _verify(layers, config)
        removing = [layer for layer in layers if _removes(layer.path)]
        if removing:
            progress("merging layers", None)
            layers = [_merged([layer.path for layer in layers], work / "merged.tar")]
    return oci.write(target, name, layers, (config.config or _Program()).as_ours())


def _unpack(file: IO[bytes], target: Path, room: int) -> int:
    """Write an archive without its compression: members are read in any order. Returns its size."""
    size = file.seek(0, 2)
    file.seek(0)
    with archives.unpacked(file, size, room) as plain, target.open("wb") as written:
        return archives.copy(plain, written)


def _image(layout: _Layout, source: Path) -> tuple[_Config, list[str]]:
    """The image's configuration, and the names of its layers in the archive, the lowest first.

    Raises:
        StepFailed: there are several images, or none for this host.
    """
    if "manifest.json" in layout:
        saved = _checked(_Archive, layout.json("manifest.json"), "manifest.json").root
        if len(saved) != 1:
            raise _not_one(source, len(saved), [", ".join(each.names or ()) for each in saved])
        (image,) = saved
        return _checked(_Config, layout.json(image.config), image.config), image.layers
    manifest = _manifest(layout, layout.json("index.json"), "index.json", source)
    described = layout.json(manifest.config.member, manifest.config.digest)
    config = _checked(_Config, described, manifest.config.member)
    return config, [each.member for each in manifest.layers]


def _manifest(
    layout: _Layout,
    value: Any,  # noqa: ANN401  as JSON has it
    name: str,
    source: Path,
) -> _Manifest:
    """The manifest of the image for this host, in an index that may hold further ones."""
    for _ in range(_INDEX_DEPTH):
        chosen = _choice(_checked(_Index, value, name), source)
        name = chosen.member
        value = layout.json(name, chosen.digest)
        if not isinstance(value, dict) or "manifests" not in value:
            return _checked(_Manifest, value, name)
    raise archives.Unsafe(f"its index leads on more than {_INDEX_DEPTH} times")


def _choice(index: _Index, source: Path) -> _Descriptor:
    """The image that fits this host best."""
    ranked = [(platforms.fit(each.platform), each) for each in index.manifests]
    fitting = [(rank, each) for rank, each in ranked if rank is not None]
    if not index.manifests:
        raise archives.Unsafe("its index names no image")
    if not fitting:
        known = {str(each.platform) for each in index.manifests if each.platform is not None}
        raise _for_others(source, sorted(known))
    best = max(rank for rank, _ in fitting)
    chosen = {each.digest: each for rank, each in fitting if rank == best}
    if len(chosen) > 1:
        names = [
            (each.annotations or {}).get("org.opencontainers.image.ref.name", "")
            for each in chosen.values()
        ]
        raise _not_one(source, len(chosen), names)
    return next(iter(chosen.values()))


def _check_platform(config: _Config, source: Path) -> None:
    told = platforms.Platform(
        os=config.os, architecture=config.architecture, variant=config.variant
    )
    if platforms.fit(told) is None:
        raise _for_others(source, [str(told)])


def _for_others(source: Path, known: Sequence[str]) -> StepFailed:
    return StepFailed(
        f"the image in {source.name} is for {', '.join(map(archives.shown, known[:5]))}; machines here are {platforms.HERE}",
        where=str(source),
        hint=f"build or save it for the platform {platforms.HERE}",
    )


def _not_one(source: Path, count: int, names: Sequence[str]) -> StepFailed:
    named = "; ".join(archives.shown(each) for each in names[:5] if each)
    return StepFailed(
        f"{source.name} holds {count} images, not one" + (f": {named}" if named else ""),
        where=str(source),
        hint="save the one that is meant alone: `docker save --output worker.tar IMAGE`",
    )


def _checked(kind: type[_Kind], value: Any, name: str) -> _Kind:  # noqa: ANN401  as JSON has it
    """A document of the image, as it has to be."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        why = " ".join(map(archives.shown, (f"{name}:", place, problem["msg"])))
        raise archives.Unsafe(why) from error


def _verify(layers: Sequence[oci.Layer], config: _Config) -> None:
    """Compare the layers with what the image's configuration says of them, where it does."""
    told = config.rootfs.diff_ids if config.rootfs else None
    if told is not None and told != [f"sha256:{layer.digest}" for layer in layers]:
        raise archives.Unsafe("a layer is not what the image's configuration says: it is damaged")


def _normal(path: PurePosixPath) -> PurePosixPath:
    """A path without `..`, which leads to the folder above."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            del parts[-1:]
        else:
            parts.append(part)
    return PurePosixPath(*parts)


# -- merging -------------------------------------------------------------------------------------


def _removes(layer: Path) -> bool:
    """Check all that is in a layer; tell whether it removes anything of the ones below."""
    removes = False
    with layer.open("rb") as file, archives.tar_file(file) as tar:
        for member in archives.members(tar):
            archives.check_system_member(member)
            removes |= PurePosixPath(member.name).name.startswith(_REMOVED)
    return removes


def _merged(layers: Sequence[Path], target: Path) -> oci.Layer:
    """One layer with what a container of all of them sees; the lowest layer comes first."""
    with ExitStack() as stack:
        files = [stack.enter_context(layer.open("rb")) for layer in layers]
        tars = [stack.enter_context(archives.tar_file(file)) for file in files]
        chosen: dict[str, tuple[tarfile.TarFile, tarfile.TarInfo]] = {}
        hidden: set[str] = set()
        for tar in reversed(tars):
            _choose(tar, chosen, hidden)
        return oci.layer_of_members(_in_order(chosen), target)


def _choose(
    tar: tarfile.TarFile,
    chosen: dict[str, tuple[tarfile.TarFile, tarfile.TarInfo]],
    hidden: set[str],
) -> None:
    """Take what no layer above has, and has not hidden; then hide what this one removes."""
    removed: set[str] = set()
    for member in archives.members(tar):
        path = PurePosixPath("/", member.name.lstrip("/"))
        if path.name == _OPAQUE:
            removed.add(f"{path.parent}/")
        elif path.name.startswith(_REMOVED):
            gone = path.parent / path.name.removeprefix(_REMOVED)
            removed |= {str(gone), f"{gone}/"}
        elif str(path) != "/" and str(path) not in hidden and not _below(path, hidden):
            chosen.setdefault(str(path), (tar, member))
    # What is no folder here hides what lies in a folder of that name below.
    removed |= {f"{path}/" for path, (_, member) in chosen.items() if not member.isdir()}
    hidden |= removed


def _below(path: PurePosixPath, hidden: set[str]) -> bool:
    """Whether a folder above is marked, by a slash at its end, as one whose content is hidden."""
    return any(f"{parent}/" in hidden for parent in path.parents)


def _in_order(
    chosen: Mapping[str, tuple[tarfile.TarFile, tarfile.TarInfo]],
) -> Iterator[tuple[tarfile.TarInfo, Any]]:
    """Members with their content, folders before what is in them, links after what they link to."""
    written: dict[tuple[int, str], str] = {}
    for path, (tar, member) in sorted(chosen.items()):
        new = copy(member)
        new.name = path.lstrip("/")
        new.pax_headers = {
            key: value for key, value in member.pax_headers.items() if key not in _RENAMED
        }
        content = None
        if member.isreg() or member.islnk():
            original = member.linkname if member.islnk() else member.name
            same = (id(tar), str(PurePosixPath("/", original.lstrip("/"))))
            if same in written:
                new.type, new.linkname, new.size = tarfile.LNKTYPE, written[same], 0
            else:
                # The link that comes first carries the content; so what it linked to may be hidden.
                written[same] = new.name
                content = tar.extractfile(member)
                assert content is not None
                new.type, new.linkname = tarfile.REGTYPE, ""
                new.size = content.seek(0, 2)
                content.seek(0)
        yield new, content
