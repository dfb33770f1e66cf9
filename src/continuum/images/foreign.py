"""Container images that others made: read from an archive, or fetched by skopeo, and written again
as ours.

What is read: an OCI image layout or what `docker save` writes, as a tar file. Where a layer removes
files of the ones below, all layers are merged into one: a removal is a mark that only the overlay
of the container may see, and a machine's own overlay would see it first.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from continuum.errors import NotPossibleHere, StepFailed, UsageError
from continuum.images import isolated, oci, store
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
_CHUNK = 2**20
_DAMAGED = (
    *(tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError),
    *(KeyError, ValueError, TypeError, IndexError, AttributeError),
)
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
    if not path.is_file():
        return f'there is no file "{path}"'
    if not tarfile.is_tarfile(path):
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
    with path.open("rb") as file:
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


def _rewrite(
    source: Path, target: Path, name: oci.Name, work: Path, progress: Progress
) -> oci.Image:
    """Write an archive of ours from another's.

    Raises:
        StepFailed: it is no image, or not one for this host's processor.
    """
    progress(f"reading {source.name}", None)
    try:
        with tarfile.open(source) as tar:
            config, blobs = _described(tar)
            layers = [
                _layer(tar, blob, work / f"layer-{number}.tar") for number, blob in enumerate(blobs)
            ]
        _verify(layers, config)
        if any(_removes(layer.path) for layer in layers):
            progress("merging layers", None)
            layers = [_merged([layer.path for layer in layers], work / "merged.tar")]
    except _DAMAGED as error:
        raise StepFailed(
            f"{source.name} is no archive of a container image",
            where=str(source),
            output=f"{type(error).__name__}: {error}",
            hint="make one with `docker save --output worker.tar IMAGE`, "
            "or `skopeo copy … docker-archive:worker.tar`",
        ) from error
    wanted = config.get("architecture", architecture())
    if wanted != architecture():
        raise StepFailed(
            f"the image in {source.name} is for {wanted}; machines here are {architecture()}",
            where=str(source),
            hint=f"build or save it for the platform linux/{architecture()}",
        )
    return oci.write(target, name, layers, _config(config.get("config") or {}))


def _verify(layers: Sequence[oci.Layer], config: Mapping[str, Any]) -> None:
    """Compare the layers with what the image's configuration says of them, where it does."""
    told = (config.get("rootfs") or {}).get("diff_ids")
    if told is not None and told != [f"sha256:{layer.digest}" for layer in layers]:
        raise ValueError("a layer is not what the image's configuration says: it is damaged")


def _config(written: Mapping[str, Any]) -> oci.Config:
    environment = dict(each.partition("=")[::2] for each in written.get("Env") or ())
    return oci.Config(
        entrypoint=tuple(written.get("Entrypoint") or ()),
        command=tuple(written.get("Cmd") or ()),
        environment=environment,
        working_directory=written.get("WorkingDir") or "/",
        architecture=architecture(),
        user=written.get("User") or "",
        stop_signal=written.get("StopSignal") or "",
    )


def _described(tar: tarfile.TarFile) -> tuple[dict[str, Any], list[str]]:
    """The image's configuration, and the names of its layers in the archive, the lowest first."""
    names = {member.name.removeprefix("./"): member.name for member in tar}
    if "manifest.json" in names:
        images = _json(tar, names["manifest.json"])
        if len(images) != 1:
            raise ValueError(f"it holds {len(images)} images, not one")
        (image,) = images
        return _json(tar, names[image["Config"]]), [names[each] for each in image["Layers"]]
    manifest = _manifest(tar, names, _json(tar, names["index.json"]))
    layers = [names[_blob(each)] for each in manifest["layers"]]
    return _json(tar, names[_blob(manifest["config"])]), layers


def _manifest(
    tar: tarfile.TarFile, names: Mapping[str, str], index: dict[str, Any]
) -> dict[str, Any]:
    """The manifest of the image for this processor, in an index that may hold further ones."""
    fitting = {
        each["digest"]: each
        for each in index["manifests"]
        if each.get("platform", {}).get("architecture", architecture()) == architecture()
    }
    if len(fitting) != 1:
        raise ValueError(f"it holds {len(fitting)} images for {architecture()}, not one")
    found: dict[str, Any] = _json(tar, names[_blob(*fitting.values())])
    return _manifest(tar, names, found) if "manifests" in found else found


def _blob(descriptor: Mapping[str, Any]) -> str:
    return f"blobs/{descriptor['digest'].replace(':', '/')}"


def _json(tar: tarfile.TarFile, name: str) -> Any:  # noqa: ANN401  whatever JSON holds
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return json.loads(file.read())


def _layer(tar: tarfile.TarFile, name: str, target: Path) -> oci.Layer:
    """A layer, as a tar file that is not compressed."""
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    digest, size = hashlib.sha256(), 0
    with file, ExitStack() as stack:
        head = file.read(4)
        file.seek(0)
        if head == b"\x28\xb5\x2f\xfd":
            raise ValueError(
                "its layers are compressed by zstd; "
                "`skopeo copy oci-archive:IN docker-archive:OUT` writes them plain"
            )
        plain = stack.enter_context(gzip.open(file)) if head[:2] == b"\x1f\x8b" else file
        written = stack.enter_context(target.open("wb"))
        while chunk := plain.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            written.write(chunk)
    return oci.Layer(target, digest.hexdigest(), size)


# -- merging -------------------------------------------------------------------------------------


def _removes(layer: Path) -> bool:
    with tarfile.open(layer) as tar:
        return any(PurePosixPath(member.name).name.startswith(_REMOVED) for member in tar)


def _merged(layers: Sequence[Path], target: Path) -> oci.Layer:
    """One layer with what a container of all of them sees; the lowest layer comes first."""
    with ExitStack() as stack:
        tars = [stack.enter_context(tarfile.open(layer)) for layer in layers]
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
    for member in tar:
        path = PurePosixPath("/", member.name)
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
            same = (id(tar), str(PurePosixPath("/", original)))
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
