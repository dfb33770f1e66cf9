"""Container images written without Docker: tar archives that containerd and Docker both load.

An archive is an OCI image layout, with the `manifest.json` of Docker's own format beside it. The
same input gives the same bytes: entries are sorted, and times are 0.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from continuum import folders

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_TAG_DIGITS = 16
_CHUNK = 2**20


@dataclass(frozen=True)
class File:
    """A file in a layer: a path on this host, or the bytes themselves."""

    content: Path | bytes
    mode: int = 0o755


@dataclass(frozen=True)
class Layer:
    """A layer as a tar file; `digest` is its SHA-256, 64 hexadecimal digits."""

    path: Path
    digest: str
    size: int


@dataclass(frozen=True)
class Name:
    """What an image is called.

    Attributes:
        repository: as `continuum.local/etcd`.
        tag: the hash of what decides its content; "" for the hash of the content itself.
        more_tags: further tags of the same image, for programs that want a version there.
    """

    repository: str
    tag: str = ""
    more_tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """How a container of the image starts, unless it is told otherwise.

    `user` is "" for root, or as `1000:1000`; `stop_signal` is "" for SIGTERM, or as `SIGINT`.
    """

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = "/"
    architecture: str = "amd64"
    user: str = ""
    stop_signal: str = ""


@dataclass(frozen=True)
class Image:
    """An image in an archive. `name` is whole, as `continuum.local/etcd:0f3e…`."""

    name: str
    digest: str
    archive: Path

    @property
    def tag(self) -> str:
        """The tag: the first digits of the image's digest, or what was given."""
        return self.name.rpartition(":")[2]


def layer_of_files(files: Mapping[str, File], target: Path) -> Layer:
    """A layer of single files, by their absolute paths; owned by root."""

    def fill(tar: _Writer) -> None:
        for folder in _parents(files):
            tar.add_folder(folder, 0o755)
        for path, file in sorted(files.items()):
            tar.add_file(path, file)

    return _written(target, fill)


def layer_of_folder(
    root: Path, target: Path, *, keep: Callable[[str], bool] = lambda _: True
) -> Layer:
    """A layer of everything under a folder, with its owners and modes.

    `keep` tells of each path, as `usr/bin/env`, whether it is taken; what is not taken takes all
    that lies in it along. Sockets, pipes and device nodes are left out.
    """

    def fill(tar: _Writer) -> None:
        for path in _walk(root, keep):
            tar.add_as_it_is(root, path)

    return _written(target, fill)


def layer_of_members(
    members: Iterable[tuple[tarfile.TarInfo, IO[bytes] | None]], target: Path
) -> Layer:
    """A layer of entries of other tar files, with their content."""

    def fill(tar: _Writer) -> None:
        for member, content in members:
            tar.add_member(member, content)

    return _written(target, fill)


def write(target: Path, name: Name, layers: Sequence[Layer], config: Config) -> Image:
    """Write an archive of one image, whole or not at all; the lowest layer comes first."""
    blobs: dict[str, bytes | Path] = {layer.digest: layer.path for layer in layers}
    config_blob = _json(_config(layers, config))
    manifest_blob = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config_blob),
            "layers": [
                {"mediaType": _LAYER, "digest": f"sha256:{layer.digest}", "size": layer.size}
                for layer in layers
            ],
        }
    )
    digest = _digest(manifest_blob)
    tags = tuple(dict.fromkeys((name.tag or digest[:_TAG_DIGITS], *name.more_tags)))
    blobs |= {_digest(config_blob): config_blob, digest: manifest_blob}
    names = [f"{name.repository}:{each}" for each in tags]
    index = {
        "schemaVersion": 2,
        "mediaType": _INDEX,
        "manifests": [
            {
                **_descriptor(_MANIFEST, manifest_blob),
                "annotations": {
                    "io.containerd.image.name": each,
                    "org.opencontainers.image.ref.name": each.rpartition(":")[2],
                },
            }
            for each in names
        ],
    }
    docker = [
        {
            "Config": f"blobs/sha256/{_digest(config_blob)}",
            "RepoTags": names,
            "Layers": [f"blobs/sha256/{layer.digest}" for layer in layers],
        }
    ]
    files = {
        "oci-layout": File(_json({"imageLayoutVersion": "1.0.0"}), 0o644),
        "index.json": File(_json(index), 0o644),
        "manifest.json": File(_json(docker), 0o644),
        **{f"blobs/sha256/{each}": File(content, 0o644) for each, content in blobs.items()},
    }
    folders.make_folder(target.parent)
    layer_of_files(files, target)
    folders.give_to_caller(target)
    return Image(names[0], digest, target)


def _config(layers: Sequence[Layer], config: Config) -> dict[str, Any]:
    environment = {"PATH": PATH, **config.environment}
    return {
        "created": "1970-01-01T00:00:00Z",
        "architecture": config.architecture,
        "os": "linux",
        "config": {
            "Entrypoint": list(config.entrypoint),
            "Cmd": list(config.command),
            "Env": [f"{key}={value}" for key, value in environment.items()],
            "WorkingDir": config.working_directory,
            **({"User": config.user} if config.user else {}),
            **({"StopSignal": config.stop_signal} if config.stop_signal else {}),
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in layers]},
        "history": [{"created": "1970-01-01T00:00:00Z"} for _ in layers],
    }


def _descriptor(kind: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{_digest(blob)}", "size": len(blob)}


def _digest(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _parents(paths: Iterable[str]) -> list[str]:
    """All folders above the paths, each once, parents first."""
    found = {str(parent) for path in paths for parent in Path(path.lstrip("/")).parents}
    return sorted(found - {"."})


def _walk(root: Path, keep: Callable[[str], bool]) -> list[str]:
    """Paths below the root, sorted, parents before what lies in them."""
    found: list[str] = []
    for folder, subfolders, files in os.walk(root):
        base = Path(folder).relative_to(root)
        # Links to folders are no folders to go into, but are entries.
        subfolders[:] = sorted(each for each in subfolders if keep(str(base / each)))
        found += [str(base / each) for each in subfolders]
        found += [str(base / each) for each in files if keep(str(base / each))]
    return sorted(found)


def _written(target: Path, fill: Callable[[_Writer], None]) -> Layer:
    """A tar file that is written whole or not at all, and hashed while it is written."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with _Hashed(temporary.open("wb")) as file:
            with tarfile.open(
                fileobj=file, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_CHUNK
            ) as tar:
                fill(_Writer(tar))
            layer = Layer(target, file.digest, file.size)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return layer


class _Writer:
    """Entries of one tar file."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._links: dict[tuple[int, int], str] = {}

    def add_folder(self, path: str, mode: int) -> None:
        member = tarfile.TarInfo(path.lstrip("/"))
        member.type, member.mode = tarfile.DIRTYPE, mode
        self._tar.addfile(member)

    def add_file(self, path: str, file: File) -> None:
        member = tarfile.TarInfo(path.lstrip("/"))
        member.mode = file.mode
        if isinstance(file.content, bytes):
            member.size = len(file.content)
            self._tar.addfile(member, io.BytesIO(file.content))
            return
        with file.content.open("rb") as content:
            member.size = os.fstat(content.fileno()).st_size
            self._tar.addfile(member, content)

    def add_member(self, member: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        self._tar.addfile(member, content)

    def add_as_it_is(self, root: Path, path: str) -> None:
        whole = root / path
        found = whole.lstat()
        member = tarfile.TarInfo(path)
        member.mode, member.uid, member.gid = (
            stat.S_IMODE(found.st_mode),
            found.st_uid,
            found.st_gid,
        )
        if stat.S_ISDIR(found.st_mode):
            member.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(found.st_mode):
            member.type, member.linkname = tarfile.SYMTYPE, str(whole.readlink())
        elif not stat.S_ISREG(found.st_mode):
            return
        elif (found.st_dev, found.st_ino) in self._links:
            member.type = tarfile.LNKTYPE
            member.linkname = self._links[found.st_dev, found.st_ino]
        else:
            if found.st_nlink > 1:
                self._links[found.st_dev, found.st_ino] = path
            member.size = found.st_size
            with whole.open("rb") as content:
                self._tar.addfile(member, content)
            return
        self._tar.addfile(member)


class _Hashed(io.RawIOBase):
    """A file that knows the SHA-256 of what was written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: Any) -> int:  # noqa: ANN401  whatever has bytes
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    def close(self) -> None:
        self._file.close()
        super().close()
