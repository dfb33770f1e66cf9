from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from continuum.errors import StepFailed
from continuum.images import container_runtime, preloaded


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """As containerd leaves its folder: one blob, one unpacked layer, two databases."""
    root = tmp_path / "root" / preloaded.SKELETON.lstrip("/")
    (root / preloaded._BLOBS).mkdir(parents=True)
    (root / preloaded._BLOBS / "0123").write_text("a layer")
    layer = root / preloaded._SNAPSHOTS / "1" / "fs"
    (layer / "usr/bin").mkdir(parents=True)
    (layer / "usr/bin/tool").write_text("tool")
    (layer.parent / "work").mkdir()
    (root / "meta.db").write_text("small")
    return root


def share(skeleton: Path) -> Path:
    layers = skeleton.parent / "container-layers"
    preloaded._share(skeleton, layers)
    return layers


def test_what_is_big_is_linked_to_and_what_is_written_is_not(skeleton: Path) -> None:
    layers = share(skeleton)
    blob, unpacked = skeleton / preloaded._BLOBS / "0123", skeleton / preloaded._SNAPSHOTS / "1/fs"
    assert str(blob.readlink()) == f"{preloaded.LAYERS}/blobs/0123"
    assert str(unpacked.readlink()) == f"{preloaded.LAYERS}/layers/1"
    assert (layers / "blobs/0123").read_text() == "a layer"
    assert (layers / "layers/1/usr/bin/tool").read_text() == "tool"
    assert (skeleton / "meta.db").read_text() == "small"
    assert (unpacked.parent / "work").is_dir()


def test_a_layer_that_removes_files_is_refused(skeleton: Path) -> None:
    layer = skeleton / preloaded._SNAPSHOTS / "1" / "fs"
    os.mknod(layer / "removed", 0o600 | 0o020000, 0)
    with pytest.raises(StepFailed, match="layers that remove files") as caught:
        share(skeleton)
    assert caught.value.where.endswith("layers/1/removed")


def test_settings_are_one_tree_that_follows_the_sandbox_image(tmp_path: Path) -> None:
    tree = container_runtime.containerd_tree("continuum.local/pause:1")
    assert tree.name == container_runtime.containerd_tree("").name
    assert tree.inputs != container_runtime.containerd_tree("").inputs
    tree.write(tmp_path, lambda _: None)
    settings = tomllib.loads((tmp_path / "etc/containerd/config.toml").read_text())
    cri = settings["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == "continuum.local/pause:1"
    assert cri["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is False
    assert cri["registry"]["config_path"] == container_runtime.MIRRORS
    assert (tmp_path / container_runtime.MIRRORS.lstrip("/")).is_dir()
