"""Choice of an image of several, and levels of processors there are."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from continuum.errors import StepFailed
from continuum.images import containers, foreign, platforms
from continuum.images.platforms import Platform
from foreign_archives import HIGH, LOW, docker, images
from go_programs import quiet

V2 = frozenset({"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"})
V3 = V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}
WINDOWS = Platform(os="windows", architecture="amd64")
LINUX = Platform(os="linux", architecture="amd64")
LINUX_V3 = Platform(os="linux", architecture="amd64", variant="v3")


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platforms, "architecture", lambda: "amd64")
    monkeypatch.setattr(foreign, "architecture", lambda: "amd64")
    monkeypatch.setattr(platforms, "processor_level", lambda: 2.0)


@pytest.mark.parametrize(
    ("machine", "flags", "level"),
    [
        ("amd64", frozenset(), 1.0),
        ("amd64", V2, 2.0),
        ("amd64", V3, 3.0),
        ("amd64", V3 - {"sse4_2"}, 1.0),
        ("arm64", frozenset(), 8.0),
        ("arm64", frozenset({"atomics"}), 8.1),
        ("arm64", frozenset({"atomics", "sve2"}), 9.0),
    ],
)
def test_levels_of_processors(machine: str, flags: frozenset[str], level: float) -> None:
    assert platforms.level_of(machine, flags) == level


def test_the_hosts_own_level_is_one() -> None:
    assert platforms.level_of("amd64", platforms._flags()) >= 1


def _taken(path: Path, tmp_path: Path) -> list[str]:
    image = containers.archive(foreign.of_archive(path), tmp_path / "archives", quiet)
    with tarfile.open(image.archive) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        (described,) = json.loads(manifest.read())
        layer = tar.extractfile(described["Layers"][0])
        with tarfile.open(fileobj=layer) as members:
            return members.getnames()


LOW_NAMES, HIGH_NAMES = ["etc", "etc/a", "serve"], ["etc/a", "etc/b"]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    ("other", "level", "expected"),
    [
        (WINDOWS, 2.0, LOW_NAMES),
        (Platform(os="linux", architecture="arm64", variant="v8"), 2.0, LOW_NAMES),
        (Platform(os="unknown", architecture="unknown"), 2.0, LOW_NAMES),
        (LINUX_V3, 2.0, LOW_NAMES),
        (LINUX_V3, 3.0, HIGH_NAMES),
        (None, 2.0, LOW_NAMES),
    ],
)
def test_the_image_that_fits_best_is_taken(  # noqa: PLR0917
    other: Platform | None,
    level: float,
    expected: list[str],
    first: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platforms, "processor_level", lambda: level)
    pair: list[tuple[Any, bytes]] = [(LINUX, LOW), (other, HIGH)]
    path = images(tmp_path / "own.tar", *(pair if first == 0 else pair[::-1]))
    assert _taken(path, tmp_path) == expected


@pytest.mark.parametrize(
    ("platform", "said"),
    [(WINDOWS, "windows/amd64"), (LINUX_V3, "linux/amd64/v3")],
)
def test_an_image_for_others_alone_is_refused_by_name(
    platform: Platform, said: str, tmp_path: Path
) -> None:
    path = images(tmp_path / "own.tar", (platform, LOW))
    words = rf"^the image in own.tar is for {said}; machines here are linux/amd64$"
    with pytest.raises(StepFailed, match=words):
        containers.archive(foreign.of_archive(path), tmp_path / "archives", quiet)
    config = {"os": platform.os, "architecture": "amd64", "variant": platform.variant}
    path = docker(tmp_path / "own.tar", LOW, config=config)
    with pytest.raises(StepFailed, match=words):
        containers.archive(foreign.of_archive(path), tmp_path / "archives", quiet)


def test_two_images_are_told_in_the_headline(tmp_path: Path) -> None:
    path = images(tmp_path / "own.tar", (LINUX, LOW), (LINUX, HIGH))
    with pytest.raises(StepFailed, match=r"^own\.tar holds 2 images, not one: one; two$"):
        containers.archive(foreign.of_archive(path), tmp_path / "archives", quiet)
