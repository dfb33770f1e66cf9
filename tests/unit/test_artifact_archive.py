from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from continuum.artifacts import archive
from continuum.artifacts.catalogue import Wanted
from continuum.artifacts.store import ArtifactStore
from continuum.errors import NotFound, NotPossibleHere, StepFailed
from continuum.events import Events
from releases import use_catalogue

CONTENT = b"a saw" * 1000
CATALOGUE = """
[tool]
about = "a tool"
version = "v1.0.0"
programs = ["saw", "axe", "nail"]
sources = ["debian"]

[tool.debian]
package = "tools"
file = "bin/tool"

[kubernetes]
about = "Kubernetes"
version = "v1.34.4"
programs = ["kubectl"]
sources = ["release"]

[kubernetes.release]
file = "https://x.example/{program}"
checksum = "https://x.example/{program}.sum"

[kubernetes.release.sums]
kubectl = { amd64 = "PINNED" }
""".replace("PINNED", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture(autouse=True)
def _catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    use_catalogue(monkeypatch, CATALOGUE)


def _nothing(detail: str, fraction: float | None) -> None:
    del detail, fraction


@pytest.fixture
def full(tmp_path: Path) -> ArtifactStore:
    """A store with two artifacts of equal content, and one more."""
    store = ArtifactStore(Events(), folder=tmp_path / "full")
    for name, content in (("saw", CONTENT), ("axe", CONTENT), ("nail", b"")):
        file = tmp_path / name
        file.write_bytes(content)
        store.add(Wanted(name, "v1.0.0", "amd64"), file, "official release")
    return store


@pytest.fixture
def empty(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(Events(), folder=tmp_path / "empty")


@pytest.fixture
def exported(full: ArtifactStore, tmp_path: Path) -> Path:
    target = tmp_path / "some.tar"
    archive.write(full, [each.wanted for each in full.all()], target, _nothing)
    return target


Change = Callable[[dict[str, bytes]], None]


def _changed(source: Path, change: Change) -> Path:
    """The archive with its members changed; the manifest stays first."""
    with tarfile.open(source) as tar:
        members = {member.name: file.read() for member in tar if (file := tar.extractfile(member))}
    change(members)
    with tarfile.open(source, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return source


def _manifest(change: Callable[[dict[str, Any]], None]) -> Change:
    def on_members(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        change(manifest)
        members["manifest.json"] = json.dumps(manifest).encode()

    return on_members


def test_what_is_exported_comes_back_the_same(
    full: ArtifactStore, empty: ArtifactStore, exported: Path
) -> None:
    archive.read(empty, exported, _nothing)
    assert {each.wanted: each.sha256 for each in empty.all()} == {
        each.wanted: each.sha256 for each in full.all()
    }
    for each in empty.all():
        found = empty.find(each.wanted)
        assert found is not None
        assert found.source == "archive some.tar, which says: official release"
    assert list((empty.folder / "work").iterdir()) == []
    before = [path.stat().st_mtime_ns for path in (empty.folder / "records").iterdir()]
    archive.read(empty, exported, _nothing)
    assert before == [path.stat().st_mtime_ns for path in (empty.folder / "records").iterdir()]


def test_what_versions_were_found_to_mean_comes_along(
    full: ArtifactStore, empty: ArtifactStore, tmp_path: Path
) -> None:
    full.remember("kubernetes-1.33", "v1.33.9")
    archive.write(full, [], tmp_path / "none.tar", _nothing)
    archive.read(empty, tmp_path / "none.tar", _nothing)
    assert empty.versions() == {"kubernetes-1.33": "v1.33.9"}
    assert empty.version("kubernetes", "1.33") == "v1.33.9"


def test_what_killed_ones_left_is_removed(
    full: ArtifactStore, empty: ArtifactStore, exported: Path
) -> None:
    with subprocess.Popen(("true",)) as ended:
        ended.wait(10)
    own = os.getppid()
    left = [
        full.folder / "work" / f"export-{ended.pid}",
        empty.folder / "work" / f"import-{ended.pid}",
    ]
    for folder in left:
        (folder / "layer").mkdir(parents=True)
    others = empty.folder / "work" / f"import-{own}"
    others.mkdir()
    half = exported.with_name(f".some.tar.{ended.pid}")
    half.write_bytes(b"half")
    archive.write(full, [], exported, _nothing)
    archive.read(empty, exported, _nothing)
    assert not any(path.exists() for path in (*left, half))
    assert others.exists()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_an_archive_may_be_packed_further(
    empty: ArtifactStore, exported: Path, pack: Callable[[bytes], bytes]
) -> None:
    whole = pack(exported.read_bytes())
    exported.write_bytes(whole)
    assert len(archive.read(empty, exported, _nothing)[0].artifacts) == 3
    for share in (0.1, 0.3, 0.6):
        exported.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(StepFailed, match="is refused"):
            archive.read(empty, exported, _nothing)
    exported.write_bytes(whole[:100] + b"damaged" + whole[107:])
    with pytest.raises(StepFailed, match="is refused"):
        archive.read(empty, exported, _nothing)


def test_layers_of_machine_images_are_refused_before_anything_is_kept(
    full: ArtifactStore, empty: ArtifactStore, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = {"key": "base-1", "sha256": "0" * 64, "size": 1}
    _changed(exported, _manifest(lambda it: it.update(layers=[layer])))
    assert [each.key for each in archive.look(exported).layers] == ["base-1"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NotPossibleHere, match="needs root"):
        archive.read(empty, exported, _nothing)
    assert empty.all() == []
    assert full.all()


def test_one_artifact_alone_can_be_exported(
    full: ArtifactStore, empty: ArtifactStore, tmp_path: Path
) -> None:
    archive.write(full, [Wanted("axe", "v1.0.0", "amd64")], tmp_path / "axe.tar", _nothing)
    archive.read(empty, tmp_path / "axe.tar", _nothing)
    assert [each.name for each in empty.all()] == ["axe"]


def test_what_is_not_there_cannot_be_exported(full: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="hammer v1 is not in the cache"):
        archive.write(full, [Wanted("hammer", "v1")], tmp_path / "x.tar", _nothing)
    damaged = full.all()[0]
    damaged.path.write_bytes(b"damaged")
    with pytest.raises(NotFound):
        archive.write(full, [damaged.wanted], tmp_path / "x.tar", _nothing)
    assert not (tmp_path / "x.tar").exists()


def _swap(members: dict[str, bytes]) -> None:
    name = next(name for name, content in members.items() if content == CONTENT)
    members[name] = CONTENT.replace(b"saw", b"axe", 1)


def _cut(members: dict[str, bytes]) -> None:
    name = next(name for name, content in members.items() if content == CONTENT)
    members[name] = CONTENT[:-1]


def _drop(members: dict[str, bytes]) -> None:
    del members[next(name for name, content in members.items() if content == CONTENT)]


def _stray(members: dict[str, bytes]) -> None:
    members["../stray"] = b""


def _no_manifest(members: dict[str, bytes]) -> None:
    members["manifest"] = members.pop("manifest.json")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_swap, r"(saw|axe) v1\.0\.0, (saw|axe) v1\.0\.0: the SHA-256 is wrong"),
        (_cut, "the SHA-256 is wrong"),
        (_drop, "is missing"),
        (_stray, "stray is not in its manifest"),
        (_no_manifest, r"does not begin with manifest\.json"),
        (_manifest(lambda it: it.update(format="another")), "format"),
        (_manifest(lambda it: it.update(schema_version=2)), "schema_version"),
        (_manifest(lambda it: it.update(more=1)), "more"),
        (_manifest(lambda it: it["artifacts"][0].update(name="../../x")), "name"),
        (_manifest(lambda it: it["versions"].update({"../x": "v1"})), "versions"),
        (_manifest(lambda it: it["versions"].update(x="a/b")), "versions"),
        (_manifest(lambda it: it["artifacts"][0].update(version="a/b")), "version"),
        (_manifest(lambda it: it["artifacts"][0].update(sha256="../x")), "sha256"),
        (_manifest(lambda it: it["artifacts"].append(it["artifacts"][0])), "twice"),
        (_manifest(lambda it: it["artifacts"][1].update(sha256="0" * 64)), "in its manifest"),
    ],
)
def test_what_is_not_as_its_manifest_says_is_refused_whole(
    empty: ArtifactStore, exported: Path, change: Change, reason: str
) -> None:
    with pytest.raises(StepFailed, match=reason) as caught:
        archive.read(empty, _changed(exported, change), _nothing)
    assert caught.value.message.startswith("some.tar is refused: ")
    assert empty.all() == []
    assert list(empty.folder.glob("work/*")) == []


@pytest.mark.parametrize("share", [0, 0.05, 0.3, 0.5])
def test_an_archive_that_was_cut_is_refused(
    empty: ArtifactStore, exported: Path, share: float
) -> None:
    whole = exported.read_bytes()
    exported.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(StepFailed, match="is refused"):
        archive.read(empty, exported, _nothing)
    assert empty.all() == []


def test_a_file_that_is_no_archive_is_refused(empty: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no archive" * 1000)
    with pytest.raises(StepFailed, match="no whole tar archive"):
        archive.read(empty, tmp_path / "x", _nothing)
    with pytest.raises(NotFound):
        archive.read(empty, tmp_path / "nowhere", _nothing)


def test_a_link_in_an_archive_is_not_followed(
    empty: ArtifactStore, exported: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    name = f"files/{hashlib.sha256(CONTENT).hexdigest()}"
    with tarfile.open(exported) as tar:
        first = tar.extractfile("manifest.json")
        assert first is not None
        manifest = first.read()
    with tarfile.open(exported, "w") as tar:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(manifest)
        tar.addfile(member, io.BytesIO(manifest))
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
    with pytest.raises(StepFailed, match="is not in its manifest"):
        archive.read(empty, exported, _nothing)
