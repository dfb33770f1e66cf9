"""Images that others made, in the forms in which they come."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from continuum.errors import ContinuumError, NotPossibleHere, StepFailed
from continuum.images import containers, foreign
from continuum.images.sources import architecture
from foreign_archives import CONFIG, HIGH, LOW, docker, layout, tar_of


def quiet(_: str, __: float | None) -> None:
    pass


def written(path: Path) -> tuple[dict[str, Any], list[dict[str, tuple[str, bytes]]]]:
    """What came out: the configuration, and the layers with kind and content by path."""
    image = containers.archive(foreign.of_archive(path), path.parent / "archives", quiet)
    with tarfile.open(image.archive) as tar:

        def read(name: str) -> bytes:
            file = tar.extractfile(name)
            assert file is not None
            return file.read()

        (manifest,) = json.loads(read("manifest.json"))
        layers = [_content(read(name)) for name in manifest["Layers"]]
        return json.loads(read(manifest["Config"])), layers


def _content(layer: bytes) -> dict[str, tuple[str, bytes]]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        for member in tar:
            file = tar.extractfile(member)
            kind = "link" if member.islnk() else "folder" if member.isdir() else "file"
            found[member.name] = (kind, file.read() if file else b"")
    return found


@pytest.mark.parametrize("write", [docker, layout])
def test_layers_and_what_the_image_says_of_its_program_are_kept(write: Any, tmp_path: Path) -> None:
    config, layers = written(write(tmp_path / "own.tar", LOW, HIGH))
    assert layers == [_content(LOW), _content(HIGH)]
    assert config["config"] == {
        **CONFIG["config"],  # type: ignore[dict-item]
        "Env": ["PATH=/opt", "A=b=c"],
    }
    assert config["rootfs"]["diff_ids"] == [
        f"sha256:{hashlib.sha256(each).hexdigest()}" for each in (LOW, HIGH)
    ]


def _zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


PACKERS = [gzip.compress, bz2.compress, lzma.compress, _zstd]


@pytest.mark.parametrize("pack", PACKERS)
def test_layers_and_the_whole_may_be_compressed(
    pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = layout(tmp_path / "own.tar", pack(LOW))
    assert written(path)[1] == [_content(LOW)]
    path.write_bytes(pack(path.read_bytes()))
    assert foreign.problem_with_archive(path) is None
    assert written(path)[1] == [_content(LOW)]


def test_of_several_processors_this_hosts_is_taken(tmp_path: Path) -> None:
    path = layout(tmp_path / "own.tar", LOW, platforms=("riscv64", architecture()))
    assert written(path)[1] == [_content(LOW)]


def test_layers_that_remove_files_are_merged(tmp_path: Path) -> None:
    low = tar_of(
        {
            "etc": None,
            "etc/removed": b"1",
            "etc/kept": b"2",
            "gone": None,
            "gone/deep": None,
            "gone/deep/file": b"3",
            "opaque": None,
            "opaque/old": b"4",
            "was-folder": None,
            "was-folder/file": b"5",
            "first": b"6",
            "twin": "first",
            "third": "first",
        }
    )
    high = tar_of(
        {
            "etc/.wh.removed": b"",
            ".wh.gone": b"",
            "opaque": None,
            "opaque/.wh..wh..opq": b"",
            "opaque/new": b"7",
            "was-folder": b"8",
            "first": b"9",
        }
    )
    top = tar_of({"gone": None, "gone/again": b"10"})
    _, (layer,) = written(docker(tmp_path / "own.tar", low, high, top))
    assert layer == {
        "etc": ("folder", b""),
        "etc/kept": ("file", b"2"),
        "first": ("file", b"9"),
        "gone": ("folder", b""),
        "gone/again": ("file", b"10"),
        "opaque": ("folder", b""),
        "opaque/new": ("file", b"7"),
        "third": ("file", b"6"),
        "twin": ("link", b"6"),
        "was-folder": ("file", b"8"),
    }


def test_the_same_file_is_the_same_image_wherever_it_lies(tmp_path: Path) -> None:
    path = docker(tmp_path / "My Worker.v2.tar", LOW)
    first = foreign.of_archive(path)
    (tmp_path / "copy").mkdir()
    moved = path.rename(tmp_path / "copy" / path.name)
    assert foreign.of_archive(moved).reference == first.reference
    assert first.reference.startswith("continuum.local/my-worker:")
    docker(moved, HIGH)
    assert foreign.of_archive(moved).reference != first.reference


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no tar file", "no whole tar archive"),
        (tar_of({"a": b"b"}), "index.json is missing"),
        (tar_of({"manifest.json": b"{"}), "manifest.json is no JSON"),
        (tar_of({"manifest.json": b"[" * 100_000}), "nested too deep"),
        (tar_of({"manifest.json": b"{}"}), "manifest.json: "),
        (tar_of({"index.json": b'{"manifests": []}'}), "names no image"),
        (tar_of({"index.json": b'{"manifests": [{"digest": "sha256:../x"}]}'}), "digest"),
    ],
)
def test_what_is_no_image_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "own.tar"
    path.write_bytes(content)
    with pytest.raises(StepFailed, match=r"own.tar is no archive") as caught:
        written(path)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert "docker save" in caught.value.hint


def _damaged(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


@pytest.mark.parametrize("place", [12, -6])
def test_a_damaged_layer_is_no_defect_of_ours(place: int, tmp_path: Path) -> None:
    packed = gzip.compress(LOW)
    path = layout(tmp_path / "own.tar", _damaged(packed, place % len(packed)))
    with pytest.raises(StepFailed, match=r"own.tar is no archive"):
        written(path)


def test_a_layer_that_is_no_tar_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"own.tar is no archive"):
        written(docker(tmp_path / "own.tar", b"no tar file"))


def test_a_layer_must_be_what_the_configuration_says(tmp_path: Path) -> None:
    told = {"diff_ids": [f"sha256:{hashlib.sha256(LOW).hexdigest()}"]}
    config = {**CONFIG, "rootfs": told}
    assert written(docker(tmp_path / "own.tar", LOW, config=config))[1] == [_content(LOW)]
    wrong = docker(tmp_path / "own.tar", _damaged(LOW, LOW.index(b"low")), config=config)
    with pytest.raises(StepFailed) as caught:
        written(wrong)
    assert "damaged" in caught.value.message


def test_an_image_for_another_processor_is_refused(tmp_path: Path) -> None:
    path = docker(tmp_path / "own.tar", LOW, config={**CONFIG, "architecture": "riscv64"})
    with pytest.raises(StepFailed, match="riscv64") as caught:
        written(path)
    assert architecture() in caught.value.hint


def test_archives_that_are_none_are_known_at_once(tmp_path: Path) -> None:
    assert "there is no file" in str(foreign.problem_with_archive(tmp_path / "x"))
    (tmp_path / "x").write_bytes(b"x")
    assert "no tar file" in str(foreign.problem_with_archive(tmp_path / "x"))
    assert foreign.problem_with_archive(docker(tmp_path / "own.tar", LOW)) is None


@pytest.mark.parametrize(
    "reference",
    [
        "worker:1.2",
        "me/worker:v1",
        "registry.example:5000/me/worker:1",
        f"registry.example/worker@sha256:{'0' * 64}",
    ],
)
def test_names_that_mean_one_image(reference: str) -> None:
    assert foreign.problem_with_reference(reference) is None


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("worker", "every time"),
        ("worker:latest", "every time"),
        ("registry.example:5000/worker", "every time"),
        ("Worker:1", "is not an image"),
        ("--help", "is not an image"),
        ("docker://worker:1", "is not an image"),
        ("worker@sha256:12", "is not an image"),
    ],
)
def test_names_that_do_not(reference: str, said: str) -> None:
    assert said in str(foreign.problem_with_reference(reference))


def test_a_registrys_image_is_fetched_by_skopeo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = docker(tmp_path / "ready.tar", LOW)
    program = tmp_path / "bin" / "skopeo"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" > {tmp_path}/said\n'
        f'for last; do :; done\ncp {ready} "${{last#docker-archive:}}"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    image = foreign.of_registry("registry.example/me/worker:1")
    assert not (tmp_path / "said").exists()
    assert containers.archive(image, tmp_path / "1", quiet).name == image.reference
    assert image.reference.startswith("continuum.local/worker:")
    said = (tmp_path / "said").read_text()
    (tmp_path / "said").unlink()
    containers.archive(image, tmp_path / "2", quiet)
    assert not (tmp_path / "said").exists()
    assert f"--override-arch={architecture()} " in said
    assert " copy docker://registry.example/me/worker:1 docker-archive:" in said
    digest = f"sha256:{'0' * 64}"
    pinned = foreign.of_registry(f"registry.example:5000/me/worker:1@{digest}")
    containers.archive(pinned, tmp_path / "3", quiet)
    wanted = f" copy docker://registry.example:5000/me/worker@{digest} docker-archive:"
    assert wanted in (tmp_path / "said").read_text()


def test_without_skopeo_the_error_says_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotPossibleHere, match="skopeo") as caught:
        containers.archive(foreign.of_registry("worker:1"), tmp_path / "1", quiet)
    assert "apt-get install -y skopeo" in caught.value.hint
    assert "docker save" in caught.value.hint


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("dial tcp: lookup registry.example: no such host", NotPossibleHere),
        ("dial tcp 10.0.0.1:443: connect: network is unreachable", NotPossibleHere),
        ("reading manifest 1 in me/worker: manifest unknown", StepFailed),
    ],
)
def test_whether_nobody_answers_or_there_is_no_such_image(
    said: str, kind: type[ContinuumError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "skopeo").write_text(f"#!/bin/sh\necho '{said}'\nexit 1\n")
    (tmp_path / "skopeo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ContinuumError, match="worker:1") as caught:
        containers.archive(foreign.of_registry("worker:1"), tmp_path / "1", quiet)
    assert type(caught.value) is kind
    assert said in caught.value.output
