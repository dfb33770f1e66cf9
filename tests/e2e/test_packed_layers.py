"""Layers of machine images as tar files: they come back as they were, or not at all."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest

from continuum.errors import NotFound, StepFailed
from continuum.images import packed, store
from go_programs import quiet

pytestmark = pytest.mark.e2e

KEY = "base-0123"


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The root folder of a layer, with what a plain copy would lose."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def make(root: Path, _: object) -> dict[str, object]:
        (root / "bin").mkdir()
        program = root / "bin/program"
        program.write_bytes(b"program")
        os.link(program, root / "bin/same")
        (root / "bin/link").symlink_to("/nowhere")
        program.chmod(0o4755)
        os.chown(root / "bin", 12345, 54321)
        os.setxattr(program, "trusted.mark", b"1")
        os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        return {"suite": "bookworm", "packages": {"a": "1"}}

    store.ensure(store.Layer(KEY, "packages", make), quiet)
    return store.images_folder() / KEY / "root"


def _seen(root: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        what = path.lstat()
        marks = () if path.is_symlink() else tuple(os.listxattr(path))
        content = path.read_bytes() if stat.S_ISREG(what.st_mode) else b""
        told = (what.st_mode, what.st_uid, what.st_gid, what.st_nlink, what.st_rdev)
        found[str(path.relative_to(root))] = (*told, marks, content)
    return found


def test_a_layer_comes_back_as_it_was(layer: Path, tmp_path: Path) -> None:
    before, record = _seen(layer), store.record(KEY)
    assert packed.keys() == [KEY]
    archive = packed.pack(KEY, tmp_path / "layer.tar")
    assert not packed.unpack(KEY, archive, quiet)
    store.remove(layer.parent)
    assert packed.unpack(KEY, archive, quiet)
    assert _seen(layer) == before
    assert len(before) == 5
    for name in ("suite", "packages"):
        assert store.record(KEY)[name] == record[name]


def test_what_is_no_layer_is_refused(layer: Path, tmp_path: Path) -> None:
    store.remove(layer.parent)
    with pytest.raises(NotFound):
        packed.pack(KEY, tmp_path / "x.tar")
    for name, text in (("other", "{}"), ("record.json", "no json"), ("record.json", "[]")):
        (tmp_path / name).write_text(text)
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            tar.add(tmp_path / name, name)
            tar.addfile(_folder("root"))
        with pytest.raises(StepFailed, match="no layer of a machine image"):
            packed.unpack(KEY, tmp_path / "x.tar", quiet)
    assert packed.keys() == []
    assert not store.is_built(KEY)


def _folder(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, 0o755
    return member
