from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import socket
import ssl
import tarfile
import threading
import time
from collections.abc import Iterator
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any, cast

import pytest

from continuum.artifacts import catalogue, first_use, go, outside, release, store, web
from continuum.artifacts.attempt import Unavailable
from continuum.artifacts.catalogue import Wanted
from continuum.artifacts.store import Artifact, ArtifactStore
from continuum.artifacts.web import Web
from continuum.errors import NotPossibleHere, StepFailed, UsageError
from continuum.events import Event, Events, Note, StepFailedEvent
from continuum.parallel import for_each
from releases import Server, serving, tool_catalogue, use_catalogue

SAW = b"saw" * 100_000
GO_ONLY = """
[tool]
about = "a tool"
version = "v1.2.3"
programs = ["saw", "axe"]
sources = ["go"]

[tool.go]
module = "example.com/tool"
package = "example.com/tool/{program}"
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as found:
        use_catalogue(monkeypatch, tool_catalogue(found.address))
        yield found


@pytest.fixture
def heard() -> list[Event]:
    return []


@pytest.fixture
def shelf(heard: list[Event]) -> ArtifactStore:
    return ArtifactStore(Events([heard.append]))


def _pypi(monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> list[str]:
    """What the last source supplies, None for nothing; returns who asked it."""
    asked: list[str] = []

    def fetch(wanted: Wanted, web: Web, work: Path, progress: Any) -> tuple[Path, str]:
        del web, progress
        asked.append(wanted.name)
        if content is None:
            raise Unavailable("no such package")
        (work / wanted.name).write_bytes(content)
        return work / wanted.name, "tool-bin"

    monkeypatch.setitem(outside.FETCHERS, "pypi", fetch)
    return asked


def test_a_release_is_fetched_once_and_verified_on_every_use(
    server: Server, shelf: ArtifactStore
) -> None:
    server.publish("/v1.2.3/saw", SAW)
    first = shelf.fetch("saw")
    assert first.path.read_bytes() == SAW
    assert (first.version, first.source, first.size) == ("v1.2.3", "official release", len(SAW))
    assert os.access(first.path, os.X_OK)
    asked = len(server.asked)
    assert shelf.fetch("saw", "1.2.3") == first
    assert len(server.asked) == asked
    first.path.write_bytes(b"damaged")
    assert shelf.fetch("saw").path.read_bytes() == SAW
    assert len(server.asked) > asked


def test_a_damaged_file_is_said_aloud(
    server: Server, shelf: ArtifactStore, heard: list[Event]
) -> None:
    server.publish("/v1.2.3/saw", SAW)
    shelf.fetch("saw").path.write_bytes(b"damaged")
    assert shelf.find(Wanted("saw", "v1.2.3")) is None
    assert any(isinstance(each, Note) and "damaged" in each.text for each in heard)
    assert shelf.all() == []


def test_a_program_is_taken_out_of_an_archive(
    server: Server, shelf: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_catalogue(monkeypatch, tool_catalogue(server.address, ".tar.gz"))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in (("tool/README", b"read"), ("tool/bin/saw", SAW)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    server.publish("/v1.2.3/saw.tar.gz", packed.getvalue())
    assert shelf.fetch("saw").path.read_bytes() == SAW
    server.publish("/v1.2.3/axe.tar.gz", packed.getvalue())
    _pypi(monkeypatch, None)
    with pytest.raises(NotPossibleHere) as caught:
        shelf.fetch("axe")
    assert "there is no axe in" in caught.value.output


def test_a_wrong_checksum_is_refused_and_the_next_source_tried(
    server: Server, shelf: ArtifactStore, heard: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.publish("/v1.2.3/saw", SAW, digest="0" * 64)
    asked = _pypi(monkeypatch, b"another saw")
    assert shelf.fetch("saw").path.read_bytes() == b"another saw"
    assert asked == ["saw"]
    notes = [each.text for each in heard if isinstance(each, Note)]
    assert any("refused" in text and f"{server.address}/v1.2.3/saw" in text for text in notes)
    assert list((shelf.folder / "work").iterdir()) == []


def test_a_file_that_is_not_the_pinned_one_is_refused_whatever_its_server_says(
    server: Server, shelf: ArtifactStore, heard: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = f'[tool.release.sums]\nsaw = {{ amd64 = "{hashlib.sha256(SAW).hexdigest()}" }}\n'
    use_catalogue(monkeypatch, tool_catalogue(server.address) + pins)
    wanted = Wanted("saw", "v1.2.3", "amd64")
    server.publish("/v1.2.3/saw", b"another saw")
    _pypi(monkeypatch, None)
    with pytest.raises(NotPossibleHere) as caught:
        shelf.fetch_all([wanted])
    assert "refused, its SHA-256 is" in caught.value.output
    assert "where Continuum knows it as" in caught.value.output
    assert any(isinstance(each, Note) and "refused" in each.text for each in heard)
    server.publish("/v1.2.3/saw", SAW)
    (found,) = shelf.fetch_all([wanted])
    assert shelf.guard(found) == "pinned sum"
    assert first_use.recall(f"release-{wanted.key}") is None


def test_another_file_than_at_its_first_use_is_refused_though_the_cache_was_emptied(
    server: Server, shelf: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pypi(monkeypatch, None)
    server.publish("/v1.2.3/saw", SAW)
    assert shelf.guard(shelf.fetch("saw")).startswith("first use, 20")
    shutil.rmtree(shelf.folder)
    server.publish("/v1.2.3/saw", b"another saw")
    with pytest.raises(NotPossibleHere) as caught:
        shelf.fetch("saw")
    path = first_use.path_of(f"release-{Wanted('saw', 'v1.2.3').key}")
    assert f"published it anew, remove {path}" in caught.value.output
    path.unlink()
    assert shelf.fetch("saw").path.read_bytes() == b"another saw"


def test_a_transfer_that_was_cut_goes_on_where_it_ended(
    server: Server, shelf: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pypi(monkeypatch, None)
    server.publish("/v1.2.3/saw", SAW)
    server.cut["/v1.2.3/saw"] = 200_000
    with pytest.raises(NotPossibleHere, match=r"saw v1\.2\.3"):
        shelf.fetch("saw")
    server.asked.clear()
    assert shelf.fetch("saw").path.read_bytes() == SAW
    assert ("/v1.2.3/saw", "bytes=200000-") in server.asked


@pytest.mark.parametrize(
    "error", [TimeoutError("late"), ssl.SSLEOFError(8, "eof"), IncompleteRead(b"")]
)
def test_a_connection_that_breaks_is_a_source_that_failed(error: Exception) -> None:
    class Broken(io.BytesIO):
        def read1(self, *_: object) -> bytes:
            raise error

    with pytest.raises(Unavailable, match="the transfer was cut"):
        list(web._pieces("http://x/saw", cast("HTTPResponse", Broken())))


def test_a_transfer_that_trickles_ends_in_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(web, "DOWNLOAD_LIMIT", 0.3)
    came = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def trickle() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
                for _ in range(500):
                    connection.sendall(b"x")
                    if came.wait(0.02):
                        return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            address = f"http://127.0.0.1:{listening.getsockname()[1]}/saw"
            with pytest.raises(Unavailable, match=r"no end within 0\.3 s"):
                Web().download(address, tmp_path / "saw", lambda *_: None)
        finally:
            came.set()
            thread.join()
    assert (tmp_path / "saw").stat().st_size < 500


@pytest.mark.parametrize("left", [b"x" * 10, b"x" * len(SAW), b"x" * (len(SAW) + 1)])
def test_what_was_left_of_another_file_is_loaded_again(
    server: Server, shelf: ArtifactStore, left: bytes
) -> None:
    server.publish("/v1.2.3/saw", SAW)
    part = shelf.folder / "work" / f"{Wanted('saw', 'v1.2.3').key}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    assert shelf.fetch("saw").path.read_bytes() == SAW


def test_what_is_missing_names_everything_that_was_tried_and_how_to_bring_it(
    server: Server, shelf: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pypi(monkeypatch, None)
    server.publish("/v1.2.3/saw", SAW)
    wanted = [Wanted("saw", "v1.2.3"), Wanted("axe", "v1.2.3")]
    with pytest.raises(NotPossibleHere) as caught:
        shelf.fetch_all(wanted)
    error = caught.value
    assert error.exit_code == 3
    assert "axe v1.2.3" in error.message
    assert "saw" not in error.message
    assert "official release" in error.output
    assert "404" in error.output
    assert "Python package: no such package" in error.output
    assert "artifacts import" in error.hint
    assert shelf.find(wanted[0]) is not None


def test_a_server_that_does_not_answer_costs_its_limit_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _pypi(monkeypatch, None)
    asked = 0
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        use_catalogue(monkeypatch, tool_catalogue(address))
        quick = ArtifactStore(Events(), web=Web(0.2))
        for name in ("saw", "axe", "saw"):
            with pytest.raises(NotPossibleHere, match="not to be had here") as caught:
                quick.fetch(name)
            assert "no answer within 0.2 s" in caught.value.output
        silent.settimeout(0)
        while True:
            try:
                silent.accept()[0].close()
            except BlockingIOError:
                break
            asked += 1
    assert asked == 1


def _fake_go(monkeypatch: pytest.MonkeyPatch, build: Any) -> None:
    use_catalogue(monkeypatch, GO_ONLY)
    monkeypatch.setattr(catalogue, "pinned_files", lambda _: {"go.mod": "module x\n"})
    monkeypatch.setattr(go, "build", build)


def _built(wanted: list[Wanted], folder: Path) -> tuple[dict[Wanted, Path], str]:
    folder.mkdir(parents=True, exist_ok=True)
    files = {each: folder / each.name for each in wanted}
    for each, path in files.items():
        path.write_bytes(each.name.encode())
    return files, "go9.9"


def test_two_runs_at_once_build_once(monkeypatch: pytest.MonkeyPatch) -> None:
    builds: list[list[Wanted]] = []
    begun, may_end = threading.Event(), threading.Event()

    def build(wanted: list[Wanted], web: Web, folder: Path, progress: Any) -> Any:
        del web, progress
        builds.append(wanted)
        begun.set()
        assert may_end.wait(30)
        return _built(wanted, folder)

    _fake_go(monkeypatch, build)
    wanted = [Wanted("saw", "v1.2.3"), Wanted("axe", "v1.2.3")]
    waits = threading.Event()
    found: list[list[Artifact]] = []

    def second() -> None:
        def hear(event: Event) -> None:
            if "waiting for process" in getattr(event, "detail", ""):
                waits.set()

        found.append(ArtifactStore(Events([hear])).fetch_all(wanted))

    def first() -> None:
        found.append(ArtifactStore(Events()).fetch_all(wanted))

    threads = [threading.Thread(target=work) for work in (first, second)]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    assert waits.wait(30)
    may_end.set()
    for thread in threads:
        thread.join(30)
    assert builds == [wanted]
    assert found[0] == found[1]
    assert [each.path.read_bytes() for each in found[0]] == [b"saw", b"axe"]


def test_an_interrupted_build_leaves_nothing_that_counts(
    shelf: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(wanted: list[Wanted], web: Web, folder: Path, progress: Any) -> Any:
        del web, progress
        _built(wanted, folder)
        raise KeyboardInterrupt

    _fake_go(monkeypatch, build)
    with pytest.raises(KeyboardInterrupt):
        shelf.fetch("saw")
    assert shelf.all() == []
    _fake_go(monkeypatch, lambda wanted, _, folder, __: _built(wanted, folder))
    assert shelf.fetch("saw").source == "build from Go modules, go9.9"


def test_a_build_that_fails_is_a_failed_step_with_its_output(
    shelf: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: object) -> Any:
        raise StepFailed("`go build` ended with status 1", output="main.go:1: undefined: x")

    _fake_go(monkeypatch, build)
    with pytest.raises(StepFailed, match=r"cannot be built: saw v1\.2\.3") as caught:
        shelf.fetch("saw")
    assert "undefined: x" in caught.value.output
    assert "go build" in caught.value.where


def test_a_full_disk_is_told_as_one(
    server: Server, shelf: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.publish("/v1.2.3/saw", SAW)

    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Web, "download", full)
    with pytest.raises(StepFailed, match="the disk is full"):
        shelf.fetch("saw")


def test_versions_mean_what_a_person_writes(server: Server, shelf: ArtifactStore) -> None:
    for asked in (None, "1.2", "1.2.3", "v1.2.3"):
        assert shelf.version("tool", asked) == "v1.2.3"
    assert shelf.version("tool", "1.9.7") == "v1.9.7"
    assert server.asked == []
    server.files["/newest-1.3"] = b"v1.3.9\n"
    assert shelf.version("tool", "1.3") == "v1.3.9"
    server.files["/newest-1.3"] = b"v1.3.10\n"
    assert shelf.version("tool", "1.3") == "v1.3.9", "found out once"
    for wrong in ("latest", "1", "1.2.3.4", "..", ""):
        with pytest.raises(UsageError):
            shelf.version("tool", wrong)
    with pytest.raises(UsageError):
        shelf.version("tolo")


@pytest.mark.parametrize("answer", [None, b"v1.4.0", b"<html>", b""])
def test_a_version_that_cannot_be_looked_up_is_not_guessed(
    server: Server, shelf: ArtifactStore, answer: bytes | None
) -> None:
    if answer is not None:
        server.files["/newest-1.3"] = answer
    with pytest.raises(NotPossibleHere, match=r"1\.3 cannot be found out here") as caught:
        shelf.version("tool", "1.3")
    assert "official release" in caught.value.output
    assert "v1.2.3" in caught.value.hint


def test_a_wrong_name_is_answered_with_the_nearest(shelf: ArtifactStore) -> None:
    with pytest.raises(UsageError) as caught:
        shelf.fetch("kubelte")
    assert 'did you mean "kubelet"?' in caught.value.hint


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "saw"}', '{"name": 1, "x": 2}'])
def test_a_record_that_is_no_record_counts_as_none(
    server: Server, shelf: ArtifactStore, text: str
) -> None:
    server.publish("/v1.2.3/saw", SAW)
    shelf.fetch("saw")
    (path,) = (shelf.folder / "records").iterdir()
    path.write_text(text)
    assert shelf.all() == []
    assert shelf.fetch("saw").path.read_bytes() == SAW
    assert json.loads(path.read_text())["name"] == "saw"


SUMS = f"{'a' * 64}  saw\n{'b' * 64} *axe\n{'c' * 64}  dist/saw.tar\n"


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        (SUMS, "saw", ("sha256", "a" * 64)),
        (SUMS, "axe", ("sha256", "b" * 64)),
        (SUMS, "saw.tar", ("sha256", "c" * 64)),
        ("A" * 64 + "\n", "anything", ("sha256", "a" * 64)),
        ("d" * 128, "anything", ("sha512", "d" * 128)),
    ],
)
def test_published_checksums_are_read(text: str, name: str, expected: tuple[str, str]) -> None:
    assert release.published(text, name) == expected


@pytest.mark.parametrize(
    "text",
    ["", SUMS, "a" * 63, "z" * 64, f"{'a' * 64} hammer\n{'b' * 64} hammer\n", "<html></html>"],
)
def test_what_is_no_checksum_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(Unavailable):
        release.published(text, "hammer")


def test_our_catalogue_is_whole() -> None:
    for project in catalogue.projects().values():
        for program in project.programs:
            wanted = Wanted(program, project.version, "amd64")
            assert wanted.sources(), program
            if project.release is not None:
                for text in (project.release.file, project.release.checksum):
                    filled = wanted.fill(text)
                    assert filled.startswith("https://")
                    assert "{" not in filled
            if project.go is not None:
                pins = catalogue.pinned_files(project.name)
                if f"module {project.go.module}\n" not in pins["go.mod"]:
                    # Not one of ours, which are as they lie here.
                    assert f"{project.go.module} {project.version}" in pins["go.mod"]
                    assert f"{project.go.module} {project.version} h1:" in pins["go.sum"]
                for text in project.go.variables.values():
                    assert "{" not in wanted.fill(text)


def test_what_decides_an_artifact_is_known_before_it_is_fetched() -> None:
    one = catalogue.identity(Wanted("kubelet", "v1.34.4", "amd64"))
    assert one == catalogue.identity(Wanted("kubelet", "v1.34.4", "amd64"))
    others = [
        Wanted("kubeadm", "v1.34.4", "amd64"),
        Wanted("kubelet", "v1.34.5", "amd64"),
        Wanted("kubelet", "v1.34.4", "arm64"),
    ]
    assert len({one, *(catalogue.identity(each) for each in others)}) == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[tool]\nabout = "x"\nversion = "v1"\nprograms = ["saw"]\nsources = ["go"]\n',
        '[tool]\nabout = "x"\nversion = "v1"\nprograms = []\nsources = []\n',
        '[tool]\nabout = "x"\nversion = "v1"\nprograms = ["saw"]\nsources = ["ftp"]\n',
        tool_catalogue("http://x") + tool_catalogue("http://x").replace("[tool", "[other"),
    ],
)
def test_a_catalogue_that_makes_no_sense_is_refused(text: str) -> None:
    if not text:
        assert catalogue.parse(text) == {}
        return
    with pytest.raises(ValueError, match=r"."):
        catalogue.parse(text)


def test_locks_are_let_go_when_a_fetch_fails(
    server: Server, shelf: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pypi(monkeypatch, None)
    with pytest.raises(NotPossibleHere):
        shelf.fetch("saw")
    server.publish("/v1.2.3/saw", SAW)
    began = time.monotonic()
    assert shelf.fetch("saw").size == len(SAW)
    assert time.monotonic() - began < store.LOCK_LIMIT


def test_several_that_cannot_be_had_at_once_are_still_exit_3(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pypi(monkeypatch, None)
    assert server.files == {}
    with pytest.raises(NotPossibleHere) as caught:
        for_each(ArtifactStore(Events()).fetch, ["saw", "axe"])
    assert caught.value.message.count("not to be had here") == 2


def test_a_step_whose_artifacts_cannot_be_had_has_failed(
    server: Server, shelf: ArtifactStore, heard: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    _pypi(monkeypatch, None)
    server.publish("/v1.2.3/saw", SAW)
    with pytest.raises(NotPossibleHere):
        shelf.fetch_all([Wanted("saw", "v1.2.3"), Wanted("axe", "v1.2.3")])
    assert any(isinstance(each, StepFailedEvent) for each in heard)
    heard.clear()
    shelf.fetch("saw")
    assert not heard
