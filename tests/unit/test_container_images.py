from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from continuum.artifacts.catalogue import Wanted
from continuum.artifacts.images import program_image
from continuum.artifacts.store import ArtifactStore
from continuum.events import Events, StepProgress
from continuum.images import build, containers, oci
from continuum.images.oci import Config, File, Layer, Name
from continuum.images.recipe import PythonPackages, Recipe
from continuum.images.store import ImagePaths


def _nothing(detail: str, fraction: float | None) -> None:
    del detail, fraction


def _members(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return {member.name: member for member in tar}


def _content(path: Path, name: str) -> Any:
    with tarfile.open(path) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return json.loads(file.read())


def test_a_layer_has_folders_before_files_and_no_time(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"program")
    files = {"/usr/bin/b": File(tmp_path / "program"), "/a.conf": File(b"a = 1\n", 0o640)}
    layer = oci.layer_of_files(files, tmp_path / "layer.tar")
    found = _members(layer.path)
    assert list(found) == ["usr", "usr/bin", "a.conf", "usr/bin/b"]
    assert {member.mtime for member in found.values()} == {0}
    assert (found["usr/bin/b"].mode, found["a.conf"].mode) == (0o755, 0o640)
    assert layer.digest == hashlib.sha256(layer.path.read_bytes()).hexdigest()
    assert layer.size == layer.path.stat().st_size


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    files = {"/x/b": File(b"b"), "/x/a": File(b"a")}
    first = oci.layer_of_files(files, tmp_path / "1.tar")
    second = oci.layer_of_files(dict(reversed(files.items())), tmp_path / "2.tar")
    assert first.digest == second.digest
    config = Config(entrypoint=("/x/a",))
    one = oci.write(tmp_path / "one.tar", Name("here/x"), [first], config)
    two = oci.write(tmp_path / "two.tar", Name("here/x"), [second], config)
    assert one.archive.read_bytes() == two.archive.read_bytes()
    assert one.name == two.name == f"here/x:{one.digest[:16]}"
    other = oci.write(tmp_path / "3.tar", Name("here/x"), [first], Config(entrypoint=("/x/b",)))
    assert other.tag != one.tag


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin").chmod(0o711)
    (root / "usr/bin/tool").write_bytes(b"tool")
    (root / "usr/bin/tool").chmod(0o4755)
    os.link(root / "usr/bin/tool", root / "usr/bin/twin")
    (root / "bin").symlink_to("usr/bin")
    (root / "var/cache").mkdir(parents=True)
    (root / "var/cache/big").write_bytes(b"big")
    os.mkfifo(root / "var/pipe")
    return root


def test_a_layer_of_a_folder_is_as_the_folder_is(folder: Path, tmp_path: Path) -> None:
    layer = oci.layer_of_folder(folder, tmp_path / "l.tar", keep=lambda path: path != "var/cache")
    found = _members(layer.path)
    assert list(found) == ["bin", "usr", "usr/bin", "usr/bin/tool", "usr/bin/twin", "var"]
    assert (found["bin"].issym(), found["bin"].linkname) == (True, "usr/bin")
    assert (found["usr/bin/twin"].islnk(), found["usr/bin/twin"].linkname) == (True, "usr/bin/tool")
    assert (found["usr/bin"].mode, found["usr/bin/tool"].mode) == (0o711, 0o4755)
    assert {member.mtime for member in found.values()} == {0}


def test_an_image_describes_its_layers_for_containerd_and_for_docker(tmp_path: Path) -> None:
    layers = [
        oci.layer_of_files({f"/{name}": File(name.encode())}, tmp_path / f"{name}.tar")
        for name in ("low", "high")
    ]
    config = Config(
        entrypoint=("/high",),
        command=("--help",),
        environment={"A": "b"},
        working_directory="/tmp",  # noqa: S108  a path in the image
        architecture="arm64",
    )
    name = Name("continuum.local/tool", "0123", ("v1.2.3", "0123"))
    image = oci.write(tmp_path / "image.tar", name, layers, config)
    assert (image.name, image.tag) == ("continuum.local/tool:0123", "0123")

    blobs = {each for each in _members(image.archive) if each.startswith("blobs/sha256/")}
    with tarfile.open(image.archive) as tar:
        for blob in blobs:
            file = tar.extractfile(blob)
            assert file is not None
            assert hashlib.sha256(file.read()).hexdigest() == blob.rpartition("/")[2]

    index = _content(image.archive, "index.json")
    names = [each["annotations"]["io.containerd.image.name"] for each in index["manifests"]]
    assert names == ["continuum.local/tool:0123", "continuum.local/tool:v1.2.3"]
    assert {each["digest"] for each in index["manifests"]} == {f"sha256:{image.digest}"}
    manifest = _content(image.archive, f"blobs/sha256/{image.digest}")
    digests = [f"sha256:{layer.digest}" for layer in layers]
    assert [each["digest"] for each in manifest["layers"]] == digests
    assert [each["size"] for each in manifest["layers"]] == [layer.size for layer in layers]
    kept = _content(image.archive, f"blobs/{manifest['config']['digest'].replace(':', '/')}")
    assert kept["rootfs"]["diff_ids"] == digests
    assert kept["architecture"] == "arm64"
    assert kept["config"]["Entrypoint"] == ["/high"]
    assert kept["config"]["Cmd"] == ["--help"]
    assert "A=b" in kept["config"]["Env"]
    assert kept["config"]["WorkingDir"] == "/tmp"  # noqa: S108  a path in the image

    (docker,) = _content(image.archive, "manifest.json")
    assert docker["RepoTags"] == names
    assert {docker["Config"], *docker["Layers"]} < blobs


def test_no_image_is_called_latest() -> None:
    store = ArtifactStore(Events())
    for wanted in (Wanted("etcd", "v3.6.8"), Wanted("pause", "debian")):
        image = program_image(store, wanted)
        assert "latest" not in (image.name.tag, *image.name.more_tags)
        assert image.reference == program_image(store, wanted).reference
    assert store.all() == []


def test_a_failed_layer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        oci.layer_of_files({"/x": File(tmp_path / "nowhere")}, tmp_path / "l.tar")
    assert list(tmp_path.iterdir()) == []


def test_an_image_is_known_before_it_is_written(tmp_path: Path) -> None:
    written = 0

    def files() -> Mapping[str, File]:
        nonlocal written
        written += 1
        return {"/tool": File(b"tool")}

    name = Name("continuum.local/tool", "1", ("v2", "1"))
    image = containers.of_files("a tool", name, files, Config(entrypoint=("/tool",)))
    assert image.names == ("continuum.local/tool:1", "continuum.local/tool:v2")
    assert written == 0
    done = containers.archive(image, tmp_path / "here", _nothing)
    assert (done.name, written) == (image.reference, 1)
    assert list((tmp_path / "here").iterdir()) == [done.archive]
    other = containers.of_files("a tool", name, files, Config(entrypoint=("/other",)))
    assert other.key != image.key


def test_a_program_from_the_store_becomes_an_image(tmp_path: Path) -> None:
    store = ArtifactStore(Events())
    wanted = Wanted("pause", "debian")
    file = tmp_path / "file"
    file.write_bytes(b"catatonit")
    store.add(wanted, file, "a test")
    image = containers.archive(program_image(store, wanted), tmp_path / "out", _nothing)
    manifest = _content(image.archive, f"blobs/sha256/{image.digest}")
    config = _content(image.archive, f"blobs/{manifest['config']['digest'].replace(':', '/')}")
    assert config["config"]["Entrypoint"] == ["/usr/local/bin/pause", "-P"]
    layer: Layer | None = None
    with tarfile.open(image.archive) as tar:
        name = f"blobs/{manifest['layers'][0]['digest'].replace(':', '/')}"
        content = tar.extractfile(name)
        assert content is not None
        (tmp_path / "layer.tar").write_bytes(content.read())
    assert layer is None
    assert "usr/local/bin/pause" in _members(tmp_path / "layer.tar")


def test_layers_of_machines_become_an_image_that_finds_our_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = []
    for key, path in (("python-2", "opt/continuum/python/x.py"), ("base-1", "usr/bin/python3")):
        root = tmp_path / key / "root"
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text(key)
        layers.append(root)
    for path in ("var/cache", "tmp"):
        (layers[1] / path).mkdir(parents=True)
        (layers[1] / path / "big").write_text("big")
    built = []

    def build_it(recipe: Recipe, events: Events) -> ImagePaths:
        built.append(recipe)
        events.emit(StepProgress("infrastructure", "image", "installing", 0.5))
        return ImagePaths("0", tuple(layers))

    monkeypatch.setattr(build, "build", build_it)
    monkeypatch.setattr(build, "fingerprint_of", lambda recipe: recipe.fingerprint)
    command = ("python3", "-m", "continuum_runtime.worker")
    recipe = Recipe.collect([PythonPackages(("numpy",))])
    image = containers.of_recipe("worker", recipe, Config(command=command))
    other = containers.of_recipe("worker", Recipe.collect([]), Config(command=command))
    assert image.reference != other.reference
    assert built == []

    told = []
    written = containers.archive(image, tmp_path / "out", lambda detail, _: told.append(detail))
    assert [(each.python, each.boots) for each in built] == [(("numpy",), False)]
    assert told == [f"writing {image.reference}", "installing"]
    manifest = _content(written.archive, f"blobs/sha256/{written.digest}")
    names = [_names_in(written.archive, layer["digest"]) for layer in manifest["layers"]]
    assert names == [
        ["tmp", "usr", "usr/bin", "usr/bin/python3", "var"],
        ["opt", "opt/continuum", "opt/continuum/python", "opt/continuum/python/x.py"],
    ]
    config = _content(written.archive, f"blobs/{manifest['config']['digest'].replace(':', '/')}")
    assert config["config"]["Cmd"] == list(command)
    environment = dict(each.split("=", 1) for each in config["config"]["Env"])
    assert environment["PYTHONPATH"] == "/opt/continuum/runtime:/opt/continuum/python"


def _names_in(archive: Path, digest: str) -> list[str]:
    with tarfile.open(archive) as tar:
        layer = tar.extractfile(f"blobs/{digest.replace(':', '/')}")
        assert layer is not None
        with tarfile.open(fileobj=layer) as inner:
            return inner.getnames()
