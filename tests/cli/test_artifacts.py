from __future__ import annotations

import os
from pathlib import Path

import pytest

from command_line import Cli
from continuum.artifacts.catalogue import Wanted, names
from continuum.artifacts.store import ArtifactStore
from continuum.cli.commands import artifacts
from continuum.events import Events
from releases import serving, tool_catalogue, use_catalogue


@pytest.fixture
def pause(tmp_path: Path) -> Wanted:
    """One artifact in the cache."""
    file = tmp_path / "file"
    file.write_bytes(b"pause")
    wanted = Wanted("pause", "debian")
    ArtifactStore(Events()).add(wanted, file, "a test")
    return wanted


def test_the_list_names_everything_and_what_is_there(cli: Cli, pause: Wanted) -> None:
    ending = cli("artifacts", "list")
    assert ending.code == 0
    assert not ending.stderr
    for name in names():
        assert f"{name} " in ending.stdout
    assert "a test" in ending.stdout
    found = {each["name"]: each for each in cli("artifacts", "list", "--json").json}
    assert set(found) == set(names())
    assert found["pause"]["cached"]
    assert found["pause"]["size"] == 5
    assert not found["kubelet"]["cached"]
    assert found["kubelet"]["sources"] == ["official release", "build from Go modules"]
    assert found["kubelet"]["version"] == "v1.34.4"
    assert pause.version == found["pause"]["version"]


def test_without_a_verb_of_its_own_the_verbs_are_shown(cli: Cli) -> None:
    ending = cli("artifacts")
    assert ending.code == 0
    assert "import" in ending.stdout
    assert cli("artifacts", "lst").code == 2


def test_an_archive_carries_the_cache_to_another_host(
    cli: Cli, pause: Wanted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ending = cli("artifacts", "export", "out.tar")
    assert ending.code == 0
    assert "1 artifact" in ending.stderr
    again = cli("artifacts", "export", "out.tar")
    assert again.code == 2
    assert "--force" in again.stderr
    assert cli("artifacts", "export", "out.tar", "pause", "--force", "--json").json["size"] > 5

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert cli("artifacts", "export", "none.tar").code == 5
    assert cli("artifacts", "import", "none.tar").code == 5
    ending = cli("artifacts", "import", "out.tar")
    assert ending.code == 0
    assert "brought 1 artifact" in ending.stderr
    assert ArtifactStore(Events()).find(pause) is not None


def test_what_is_there_is_replaced_only_when_asked(
    cli: Cli, pause: Wanted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cli("artifacts", "export", "out.tar").code == 0
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    mine = ArtifactStore(Events()).add(pause, file, "Debian package, pause 1")
    ending = cli("artifacts", "import", "out.tar")
    assert ending.code == 1
    assert "out.tar is refused: the cache has another file of pause debian" in ending.stderr
    assert "--replace" in ending.stderr
    assert ArtifactStore(Events()).find(pause) == mine
    told = cli("artifacts", "import", "out.tar", "--replace", "--json").json
    assert "replaced pause debian" in told["notes"][0]
    listed = {each["name"]: each for each in cli("artifacts", "list", "--json").json}
    assert listed["pause"]["source"] == "archive out.tar, which says: a test"
    assert listed["pause"]["checked_by"] == "the archive's claim"
    assert listed["pause"]["sha256"][:12] in cli("artifacts", "list").stdout


def test_a_fifo_in_an_archives_place_is_not_waited_for(cli: Cli, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    ending = cli("artifacts", "import", "a.tar")
    assert ending.code == 1
    assert "a.tar is no regular file, but a FIFO" in ending.stderr


def test_what_a_newer_version_brought_is_listed_too(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"later")
    ArtifactStore(Events()).add(Wanted("later", "v9"), file, "an archive")
    assert "later" in cli("artifacts", "list").stdout
    found = {each["name"]: each for each in cli("artifacts", "list", "--json").json}
    assert found["later"]["sources"] == []


def test_what_is_named_twice_is_written_once(
    cli: Cli, pause: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "_needs", lambda *_: ([], [pause]))
    written = cli("artifacts", "export", "out.tar", "pause", "pause", "--for", "x.toml", "--json")
    assert [each["name"] for each in written.json["manifest"]["artifacts"]] == ["pause"]


def test_an_experiment_on_made_up_machines_needs_no_archive(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('name = "x"\n[tiers.edge]\nmemory = "1 GiB"\n')
    ending = cli("artifacts", "export", "out.tar", "--for", "x.toml", "--provider", "fake")
    assert ending.code == 2
    assert "have no image" in ending.stderr
    assert cli("artifacts", "export", "out.tar", "--for", "no.toml").code == 2
    assert not (tmp_path / "out.tar").exists()


def test_a_file_that_cannot_be_is_told(cli: Cli, pause: Wanted, tmp_path: Path) -> None:
    assert pause
    (tmp_path / "folder").mkdir()
    ending = cli("artifacts", "export", "nowhere/out.tar")
    assert ending.code == 2
    assert "nothing can be written to" in ending.stderr
    assert cli("artifacts", "export", "folder", "--force").code == 2
    ending = cli("artifacts", "import", "folder")
    assert ending.code == 1
    assert "folder is no regular file, but a folder" in ending.stderr


def test_a_damaged_archive_is_refused(cli: Cli, pause: Wanted, tmp_path: Path) -> None:
    assert cli("artifacts", "export", "out.tar").code == 0
    path = tmp_path / "out.tar"
    path.write_bytes(path.read_bytes().replace(b"\0pause\0", b"\0cause\0"))
    ending = cli("artifacts", "import", "out.tar")
    assert ending.code == 1
    assert f"{pause}: the SHA-256 is wrong" in ending.stderr


def test_fetching_tells_what_came_from_where(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("http_proxy", raising=False)
    with serving() as server:
        use_catalogue(monkeypatch, tool_catalogue(server.address))
        for name in ("saw", "axe"):
            server.publish(f"/v1.2.3/{name}", name.encode())
        (saw,) = cli("artifacts", "fetch", "saw", "--json").json
        assert Path(saw["path"]).read_bytes() == b"saw"
        assert saw["source"] == "official release"
        ending = cli("artifacts", "fetch", "tool@1.2", "saw@v1.2.3")
        assert ending.code == 0
        assert ending.stderr.count("official release") == 2
        assert cli("artifacts", "fetch").code == 0


def test_what_cannot_be_had_is_exit_3_with_what_was_tried(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("http_proxy", raising=False)
    only = tool_catalogue("http://127.0.0.1:9").replace(', "pypi"', "")
    use_catalogue(monkeypatch, only)
    ending = cli("artifacts", "fetch", "tool")
    assert ending.code == 3
    assert "saw v1.2.3, axe v1.2.3" in ending.stderr
    assert "saw, axe: official release: 127.0.0.1:9 cannot be reached" in ending.stderr
    assert "continuum artifacts import FILE" in ending.stderr
    assert cli("artifacts", "fetch", "hammer").code == 2
