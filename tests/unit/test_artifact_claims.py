"""Claims of an archive, beside what the cache has and the catalogue knows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from continuum.artifacts import archive, catalogue, first_use
from continuum.artifacts.attempt import Unavailable
from continuum.artifacts.catalogue import Wanted
from continuum.artifacts.store import ArtifactStore
from continuum.errors import StepFailed
from continuum.events import Events
from go_programs import quiet
from releases import use_catalogue

KUBECTL = Wanted("kubectl", "v1.34.4", "amd64")
OFFICIAL = b"the official release"
CATALOGUE = f"""
[kubernetes]
about = "Kubernetes"
version = "v1.34.4"
programs = ["kubectl", "kubelet"]
sources = ["release"]

[kubernetes.release]
file = "https://x.example/{{program}}"
checksum = "https://x.example/{{program}}.sum"

[kubernetes.release.sums]
kubectl = {{ amd64 = "{hashlib.sha256(OFFICIAL).hexdigest()}" }}

[pause]
about = "a process"
version = "debian"
programs = ["pause"]
sources = ["debian"]

[pause.debian]
package = "pause"
file = "bin/pause"
"""


@pytest.fixture(autouse=True)
def _catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    use_catalogue(monkeypatch, CATALOGUE)


@pytest.fixture
def here(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(Events(), folder=tmp_path / "here")


def _store(folder: Path, wanted: Wanted, content: bytes, source: str) -> ArtifactStore:
    store = ArtifactStore(Events(), folder=folder)
    _add(store, wanted, content, source)
    return store


def _add(store: ArtifactStore, wanted: Wanted, content: bytes, source: str) -> None:
    file = store.folder.with_name(f"{store.folder.name}-file")
    file.write_bytes(content)
    store.add(wanted, file, source)


def _exported(
    folder: Path, wanted: Wanted, content: bytes, source: str = "build from Go modules"
) -> Path:
    store = _store(folder / "there", wanted, content, source)
    archive.write(store, [wanted], folder / "some.tar", quiet)
    return folder / "some.tar"


def test_what_is_verified_is_not_replaced_unasked(here: ArtifactStore, tmp_path: Path) -> None:
    _add(here, KUBECTL, b"mine", "official release")
    path = _exported(tmp_path, KUBECTL, b"theirs")
    with pytest.raises(StepFailed, match=r"the cache has another file of kubectl v1\.34\.4") as no:
        archive.read(here, path, quiet)
    assert "--replace" in no.value.hint
    kept = here.find(KUBECTL)
    assert kept is not None
    assert (kept.path.read_bytes(), kept.source) == (b"mine", "official release")
    _, notes = archive.read(here, path, quiet, replace=True)
    taken = here.find(KUBECTL)
    assert taken is not None
    assert taken.path.read_bytes() == b"theirs"
    assert taken.source == "archive some.tar, which says: build from Go modules"
    assert "replaced kubectl v1.34.4" in notes[-1]
    assert "(official release)" in notes[-1]


def test_the_same_file_keeps_where_it_came_from(here: ArtifactStore, tmp_path: Path) -> None:
    _add(here, KUBECTL, b"mine", "build from Go modules")
    path = _exported(tmp_path, KUBECTL, b"mine", "another way")
    assert archive.read(here, path, quiet)[1] == []
    kept = here.find(KUBECTL)
    assert kept is not None
    assert kept.source == "build from Go modules"


def test_a_damaged_one_is_no_reason_to_refuse(here: ArtifactStore, tmp_path: Path) -> None:
    _add(here, KUBECTL, b"mine", "official release")
    here.all()[0].path.write_bytes(b"damaged")
    archive.read(here, _exported(tmp_path, KUBECTL, b"theirs"), quiet)
    taken = here.find(KUBECTL)
    assert taken is not None
    assert taken.path.read_bytes() == b"theirs"


def test_a_claim_becomes_no_fact_however_often_it_travels(
    here: ArtifactStore, tmp_path: Path
) -> None:
    kubelet = Wanted("kubelet", "v1.34.4", "amd64")
    path = _exported(tmp_path, kubelet, b"theirs", "official release")
    archive.read(here, path, quiet)
    first = here.find(kubelet)
    assert first is not None
    assert first.source == "archive some.tar, which says: official release"
    assert here.guard(first) == "the archive's claim"
    archive.write(here, [kubelet], tmp_path / "again.tar", quiet)
    elsewhere = ArtifactStore(Events(), folder=tmp_path / "elsewhere")
    archive.read(elsewhere, tmp_path / "again.tar", quiet)
    second = elsewhere.find(kubelet)
    assert second is not None
    assert second.source.startswith("archive again.tar, which says: archive some.tar")


def test_what_the_catalogue_knows_is_told_as_such(here: ArtifactStore, tmp_path: Path) -> None:
    archive.read(here, _exported(tmp_path, KUBECTL, OFFICIAL, "whatever"), quiet)
    found = here.find(KUBECTL)
    assert found is not None
    assert found.source == "official release by its published SHA-256, in archive some.tar"
    assert here.guard(found) == "pinned sum"


def test_a_false_claim_is_refused_and_named_where_it_is_taken(
    here: ArtifactStore, tmp_path: Path
) -> None:
    path = _exported(tmp_path, KUBECTL, b"another", "official release")
    with pytest.raises(StepFailed, match="is not the official release that it says it is"):
        archive.read(here, path, quiet)
    assert here.all() == []
    _, notes = archive.read(here, path, quiet, replace=True)
    assert "is not the official release that it says it is" in notes[0]
    found = here.find(KUBECTL)
    assert found is not None
    assert here.guard(found) == "the archive's claim"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted("nosuch", "v1.0.0", "amd64"), "nosuch is no artifact that Continuum knows"),
        (Wanted("kubectl", "vx", "amd64"), "vx is no version of Kubernetes"),
        (Wanted("kubectl", "1.34.4", "amd64"), "1.34.4 is no version of Kubernetes"),
        (Wanted("kubectl", "v1.34", "amd64"), "v1.34 is no version of Kubernetes"),
        (Wanted("pause", "v1", "amd64"), "v1 is no version of a process"),
        (Wanted("kubectl", "v1.34.4", "mips"), "is for mips"),
    ],
)
def test_what_nobody_asks_for_is_refused_by_name(
    wanted: Wanted, said: str, here: ArtifactStore, tmp_path: Path
) -> None:
    with pytest.raises(StepFailed, match=r"some\.tar is refused: ") as caught:
        archive.read(here, _exported(tmp_path, wanted, b"x"), quiet)
    assert said in caught.value.message
    assert here.all() == []


def test_versions_that_nobody_tested_are_named(here: ArtifactStore, tmp_path: Path) -> None:
    other = Wanted("kubectl", "v1.33.9", "amd64")
    _, notes = archive.read(here, _exported(tmp_path, other, b"x"), quiet)
    assert "kubectl v1.33.9 is not the tested version, v1.34.4" in notes
    assert here.find(other) is not None


def test_what_a_minor_release_means_stays_unless_asked(here: ArtifactStore, tmp_path: Path) -> None:
    there = ArtifactStore(Events(), folder=tmp_path / "there")
    there.remember("kubernetes-1.33", "v1.33.9")
    archive.write(there, [], tmp_path / "some.tar", quiet)
    here.remember("kubernetes-1.33", "v1.33.5")
    _, notes = archive.read(here, tmp_path / "some.tar", quiet)
    assert notes == ["kubernetes-1.33 stays v1.33.5, the archive says v1.33.9"]
    assert here.versions() == {"kubernetes-1.33": "v1.33.5"}
    archive.read(here, tmp_path / "some.tar", quiet, replace=True)
    assert here.versions() == {"kubernetes-1.33": "v1.33.9"}
    there.remember("kubernetes-1.33", "v1.34.4")
    archive.write(there, [], tmp_path / "some.tar", quiet)
    with pytest.raises(StepFailed, match=r"kubernetes-1\.33 cannot mean v1\.34\.4"):
        archive.read(here, tmp_path / "some.tar", quiet)


# -- the sum of the first use --------------------------------------------------------------------


def test_the_first_use_counts_ever_after(tmp_path: Path) -> None:
    assert first_use.recall("release-x") is None
    first_use.check("release-x", "a" * 64)
    first_use.check("release-x", "a" * 64)
    found = first_use.recall("release-x")
    assert found is not None
    assert found.sha256 == "a" * 64
    with pytest.raises(Unavailable, match=r"release-x: refused, .* at its first use on .*remove /"):
        first_use.check("release-x", "b" * 64)
    assert first_use.path_of("release-x").is_relative_to(tmp_path / ".state")


def test_a_first_use_that_cannot_be_read_is_no_new_one() -> None:
    first_use.check("release-x", "a" * 64)
    first_use.path_of("release-x").write_bytes(b"\xff")
    with pytest.raises(Unavailable, match="cannot be read from"):
        first_use.check("release-x", "a" * 64)


def test_pins_are_of_the_tested_version_alone() -> None:
    assert catalogue.pinned_release(KUBECTL) == hashlib.sha256(OFFICIAL).hexdigest()
    assert catalogue.pinned_release(Wanted("kubectl", "v1.33.9", "amd64")) is None
    assert catalogue.pinned_release(Wanted("kubectl", "v1.34.4", "arm64")) is None
    assert catalogue.pinned_program(Wanted("pause", "debian", "amd64")) is None
