"""Hostile and damaged archives: for `artifacts import`, and as container images."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.shared.attempt import Attempt
from benchmarks.shared.bad_texts import NUMBERS, PAYLOADS

from continuum.images import foreign
from continuum.images.sources import architecture

_KINDS = (
    *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE),
    *(tarfile.DIRTYPE, tarfile.CONTTYPE, b"Z"),
)
_PATHS = ("../made", "/made", "a/../../made", "root", "x/" * 80 + "y", "\x1b[31m", "é", ".", "")
_BOMB = 30_000_000
"""Bytes of zeros: enough to see whether sizes are believed, and quick to write."""


def _tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return target.getvalue()


def _file(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def _odd_member(draw: random.Random, name: str | None = None) -> tuple[tarfile.TarInfo, bytes]:
    """A link, a device, a path that leads out, or a file with a header that lies."""
    member = tarfile.TarInfo(draw.choice(_PATHS) if name is None else name)
    member.type = draw.choice(_KINDS)
    member.linkname = draw.choice(["/etc", "/", "../..", "/etc/passwd", "manifest.json", "root"])
    member.mode = draw.choice([0o644, 0o4755, 0o000, 0o777])
    member.uid = draw.choice([0, 1000, 2**31])
    return member, b""


def _broken_json(value: Any, draw: random.Random) -> bytes:  # noqa: ANN401  whatever JSON holds
    """A JSON text with one place that is wrong, or that is none any more."""
    if draw.random() < 0.3:
        text = bytearray(json.dumps(value).encode())
        match draw.randrange(4):
            case 0:
                del text[draw.randrange(len(text)) :]
            case 1:
                text[draw.randrange(len(text))] = draw.randrange(256)
            case 2:
                depth = draw.choice([50, 5000, 100_000])
                text = bytearray(b"[" * depth + b"]" * (depth * draw.randrange(2)))
            case 3:
                text = bytearray(draw.choice([b"", b"null", b"[]", b"{}", b"1", b'"x"', b"\xff"]))
        return bytes(text)
    return json.dumps(_turned(json.loads(json.dumps(value)), draw)).encode()


def _turned(value: Any, draw: random.Random) -> Any:  # noqa: ANN401  whatever JSON holds
    """One value somewhere in it becomes another one."""
    other: Any = draw.choice(
        [None, 0, -1, 2**70, 1e308, True, "", [], {}, [[]], *PAYLOADS[:8], *NUMBERS[:4]]
    )
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(list(value))
        if draw.random() < 0.1:
            del value[key]
        else:
            value[key] = _turned(value[key], draw)
        return value
    if isinstance(value, list) and value and draw.random() < 0.85:
        position = draw.randrange(len(value))
        value[position] = _turned(value[position], draw)
        return value * draw.choice([1, 1, 1, 2])
    return other


def _damaged(content: bytes, draw: random.Random) -> bytes:
    """An archive that is packed, cut, turned or left as it is."""
    match draw.randrange(8):
        case 0:
            return content[: draw.randrange(len(content) + 1)]
        case 1:
            turned = bytearray(content)
            for _ in range(draw.randrange(1, 20)):
                turned[draw.randrange(len(turned))] = draw.randrange(256)
            return bytes(turned)
        case 2:
            return gzip.compress(content)
        case 3:
            packed = gzip.compress(content)
            return packed[: draw.randrange(len(packed))]
        case 4:
            return content + draw.randbytes(draw.randrange(2000))
    return content


def _no_regular_file(path: Path, draw: random.Random) -> None:
    """Something else than a file in its place."""
    match draw.randrange(5):
        case 0:
            os.mkfifo(path)
        case 1:
            path.mkdir()
        case 2:
            path.symlink_to(path.name)
        case 3:
            path.symlink_to("/dev/zero")
        case 4:
            path.symlink_to("/nowhere/at/all")


# -- artifacts import ----------------------------------------------------------------------------


def imported(folder: Path, draw: random.Random) -> Attempt:
    """An archive for `artifacts import`."""
    path = folder / "broken.tar"
    content = draw.randbytes(draw.randrange(1, 400))
    if draw.random() < 0.03:
        content = bytes(_BOMB)
    total = hashlib.sha256(content).hexdigest()
    layer = _layer(draw)
    layer_total = hashlib.sha256(layer).hexdigest()
    key = f"base-{draw.randrange(16**8):08x}"
    manifest: dict[str, Any] = {
        "format": "continuum artifacts",
        "schema_version": 1,
        "artifacts": [
            {
                "name": draw.choice(["kubectl", "kubelet", "etcd", "nosuch", "../made"]),
                "version": draw.choice(["v1.34.4", "v1", "vx", "1", "../made"]),
                "architecture": draw.choice(["amd64", architecture(), "arm64"]),
                "sha256": total,
                "size": draw.choice([len(content), len(content), 0, 2**60]),
                "source": draw.choice(["official release", *PAYLOADS]),
            }
        ],
        "layers": [{"key": key, "sha256": layer_total, "size": len(layer)}],
        "versions": {"kubernetes-1.34": "v1.34.4"},
    }
    if draw.random() < 0.5:
        manifest["layers"] = []
    if draw.random() < 0.3:
        manifest["artifacts"] = []
    described = json.dumps(manifest).encode()
    if draw.random() < 0.6:
        described = _broken_json(manifest, draw)
    members = [_file("manifest.json", described)]
    if draw.random() < 0.15:
        members = [_odd_member(draw, "manifest.json")]
    if manifest["artifacts"]:
        members.append(_file(f"files/{total}", content))
    if manifest["layers"]:
        members.append(_file(f"layers/{key}.tar", layer))
    for _ in range(draw.choice([0, 0, 1, 2])):
        named = draw.choice([None, *(member.name for member, _ in members)])
        members.insert(draw.randrange(len(members) + 1), _odd_member(draw, named))
    if draw.random() < 0.05:
        _no_regular_file(path, draw)
    else:
        path.write_bytes(_damaged(_tar(members), draw))
    return Attempt(
        [["artifacts", "import", str(path)]],
        ("broken.tar",),
        show=described.decode(errors="replace"),
    )


def _layer(draw: random.Random) -> bytes:
    """A machine image's layer, in which something is often not as it should be."""
    root = tarfile.TarInfo("root")
    root.type, root.mode = tarfile.DIRTYPE, 0o755
    members = [_file("record.json", _broken_json({"packages": []}, draw)), (root, b"")]
    if draw.random() < 0.3:
        members[1] = _odd_member(draw, "root")
    members.append(_file("root/etc-hostname", b"x\n"))
    for _ in range(draw.randrange(3)):
        name = draw.choice([None, "root/x", "root/x/y", "record.json", "more"])
        members.append(_odd_member(draw, name))
    draw.shuffle(members)
    return _tar(members)


# -- container images ----------------------------------------------------------------------------

IMAGE = """\
name = "image"
[infrastructure]
provider = "fake"
[tiers.edge]
machines = 1
[tiers.endpoint]
machines = 1
[software]
execution_model = "container"
[benchmark]
application = "container"
workers = "edge"
[benchmark.container]
archive = "broken.tar"
endpoint = ["true"]
"""


def image(folder: Path, draw: random.Random) -> Attempt:
    """An archive of a container image."""
    path = folder / "broken.tar"
    make: Callable[[random.Random], bytes] = draw.choice([_docker, _layout])
    content = _damaged(make(draw), draw)
    if draw.random() < 0.04:
        _no_regular_file(path, draw)
    else:
        path.write_bytes(content)
    file = folder / "broken.toml"
    file.write_text(IMAGE)
    target, work = folder / "temporary" / "image.tar", folder / "temporary"

    def read() -> None:
        if not path.is_file() or path.is_char_device():
            return  # `validate` has refused it.
        foreign.of_archive(path).write(target, work, lambda *_: None)

    return Attempt([["validate", "broken.toml"], read], ("broken.tar", "broken.toml"))


def _config(draw: random.Random) -> bytes:
    config = {
        "architecture": draw.choice([architecture(), architecture(), "arm64", "s390x"]),
        "os": draw.choice(["linux", "linux", "windows"]),
        "config": {
            "Entrypoint": ["/serve"],
            "Env": ["A=b"],
            "WorkingDir": "/srv",
            "User": draw.choice(["", "1000", *PAYLOADS]),
        },
        "rootfs": {"diff_ids": []},
    }
    if draw.random() < 0.5:
        del config["rootfs"]
    return _broken_json(config, draw) if draw.random() < 0.5 else json.dumps(config).encode()


def _image_layer(draw: random.Random) -> bytes:
    members = [_file("serve", b"program"), _file("etc/a", b"low")]
    for _ in range(draw.randrange(4)):
        odd = _odd_member(
            draw, draw.choice([None, "etc", "serve", ".wh.serve", "etc/.wh..wh..opq"])
        )
        members.insert(draw.randrange(len(members) + 1), odd)
    layer = _tar(members)
    match draw.randrange(6):
        case 0:
            return gzip.compress(layer)
        case 1:
            return b"\x28\xb5\x2f\xfd" + layer[:100]
        case 2 if draw.random() < 0.1:
            return gzip.compress(bytes(_BOMB))
        case 3:
            return _damaged(layer, draw)
    return layer


def _docker(draw: random.Random) -> bytes:
    layers = [_image_layer(draw) for _ in range(draw.choice([0, 1, 2, 2]))]
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": ["me/own:1"], "Layers": names}]
    described = json.dumps(manifest * draw.choice([1, 1, 1, 2])).encode()
    if draw.random() < 0.5:
        described = _broken_json(manifest, draw)
    members = [_file("config.json", _config(draw)), _file("manifest.json", described)]
    members += [_file(name, layer) for name, layer in zip(names, layers, strict=True)]
    if draw.random() < 0.2:
        named = draw.choice([member.name for member, _ in members])
        members.append(_odd_member(draw, named))
    draw.shuffle(members)
    return _tar(members)


def _layout(draw: random.Random) -> bytes:
    blobs: dict[str, bytes] = {}

    def put(content: bytes, **more: Any) -> dict[str, Any]:  # noqa: ANN401  whatever JSON holds
        digest = hashlib.sha256(content).hexdigest()
        if draw.random() < 0.1:
            digest = draw.choice(["0" * 64, "../../made", "", digest[:-1]])
        blobs[f"blobs/sha256/{digest}"] = content
        size = draw.choice([len(content), len(content), 0, 2**60])
        return {"digest": f"sha256:{digest}", "size": size, **more}

    layers = [put(_image_layer(draw)) for _ in range(draw.choice([0, 1, 2]))]
    manifest = {"config": put(_config(draw)), "layers": layers}
    text = _broken_json(manifest, draw) if draw.random() < 0.4 else json.dumps(manifest).encode()
    described = put(text)
    for _ in range(draw.choice([0, 0, 1, 3, 40])):
        nested = {
            "manifests": [
                {
                    **described,
                    "platform": {
                        "architecture": architecture(),
                        "os": draw.choice(["linux", "windows"]),
                    },
                }
            ]
        }
        described = put(json.dumps(nested).encode())
    index = {"manifests": [described]}
    if draw.random() < 0.1:
        index = {"manifests": [{"digest": "sha256:loop", "size": 1}]}
        blobs["blobs/sha256/loop"] = json.dumps(index).encode()
    written = _broken_json(index, draw) if draw.random() < 0.4 else json.dumps(index).encode()
    members = [_file(name, content) for name, content in blobs.items()]
    members.append(_file("index.json", written))
    if draw.random() < 0.2:
        members.append(_odd_member(draw, draw.choice([None, "index.json"])))
    return _tar(members)
