"""Archives of container images as other programs write them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from continuum.images.platforms import Platform
from continuum.images.sources import architecture

CONFIG = {
    "architecture": architecture(),
    "config": {
        "Entrypoint": ["/serve"],
        "Cmd": ["--fast"],
        "Env": ["A=b=c", "PATH=/opt"],
        "WorkingDir": "/srv",
        "User": "1000:1000",
        "StopSignal": "SIGINT",
    },
}

Files = Mapping[str, bytes | str | None]
"""Content, the target of a hard link, or None for a folder."""


def tar_of(files: Files) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o750
                tar.addfile(member)
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.LNKTYPE, content
                tar.addfile(member)
            else:
                member.size, member.mode, member.uid = len(content), 0o640, 7
                tar.addfile(member, io.BytesIO(content))
    return target.getvalue()


def docker(path: Path, *layers: bytes, config: Any = None) -> Path:
    """As `docker save` writes it."""
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": ["me/own:1"], "Layers": names}]
    described = json.dumps(config or CONFIG).encode()
    files = {"config.json": described, "manifest.json": json.dumps(manifest).encode()}
    path.write_bytes(tar_of({**files, **dict(zip(names, layers, strict=True))}))
    return path


def layout(path: Path, *layers: bytes, platforms: tuple[str, ...] = ()) -> Path:
    """An OCI image layout, with an index of several processors if any are named."""
    blobs: dict[str, bytes] = {}

    def put(content: bytes, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"./blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content), **more}

    manifest = json.dumps(
        {"config": put(json.dumps(CONFIG).encode()), "layers": [put(each) for each in layers]}
    ).encode()
    if platforms:
        others = [
            put(manifest if each == architecture() else b"{}", platform={"architecture": each})
            for each in platforms
        ]
        index = {"manifests": [put(json.dumps({"manifests": others}).encode())]}
    else:
        index = {"manifests": [put(manifest)]}
    path.write_bytes(tar_of({**blobs, "./index.json": json.dumps(index).encode()}))
    return path


def images(path: Path, *each: tuple[Platform | None, bytes]) -> Path:
    """An OCI image layout of several images of one layer, each for a platform."""
    blobs: dict[str, bytes] = {}

    def put(content: bytes, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content), **more}

    manifests = []
    for name, (platform, layer) in zip(("one", "two", "three"), each, strict=False):
        told = platform.model_dump(exclude_none=True) if platform else {}
        config = put(json.dumps(told).encode())
        more = {"platform": told} if platform else {}
        annotations = {"org.opencontainers.image.ref.name": name}
        manifest = json.dumps({"config": config, "layers": [put(layer)]}).encode()
        manifests.append(put(manifest, annotations=annotations, **more))
    index = {"manifests": [put(json.dumps({"manifests": manifests}).encode())]}
    path.write_bytes(tar_of({**blobs, "index.json": json.dumps(index).encode()}))
    return path


LOW = tar_of({"etc": None, "etc/a": b"low", "serve": b"program"})
HIGH = tar_of({"etc/a": b"high", "etc/b": b"new"})
