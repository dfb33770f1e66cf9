"""Debian packages that the host lacks, with an apt-get and a sudo of the test's own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from continuum.artifacts.attempt import NotToBeHad
from continuum.cli import behind_sudo, bootstrap, privileges
from continuum.cli.session import Session
from continuum.errors import NotPossibleHere
from continuum.infrastructure.providers.fake import Fake
from continuum.infrastructure.providers.lxc import Lxc

APT = """\
#!/bin/sh
echo "$DEBIAN_FRONTEND $*" >> "{log}"
case "$*" in
*update*) touch "{updated}" ;;
*install*) {install} ;;
esac
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with no programs but `env` and `sh`; returns the folder of its programs."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("env", "sh", "touch"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "debian_Packages").write_text("")
    monkeypatch.setattr(bootstrap, "PACKAGE_LISTS", lists)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(bootstrap, "find_program", lambda name: _which(programs, name))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return programs


def _which(programs: Path, name: str) -> str | None:
    return str(programs / name) if (programs / name).exists() else None


def _program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def _apt(host: Path, install: str = "echo Unpacking lxc") -> Path:
    log = host.parent / "apt.log"
    _program(host, "apt-get", APT.format(log=log, updated=host.parent / "updated", install=install))
    return log


@pytest.mark.usefixtures("host")
def test_what_is_missing_is_found_by_looking_for_the_programs() -> None:
    programs = {"lxc-start": "lxc", "lxc-attach": "lxc", "ip": "iproute2", "sh": "dash"}
    assert bootstrap.missing_packages(programs) == ["iproute2", "lxc"]


def test_packages_are_named_then_installed(host: Path) -> None:
    log = _apt(host)
    told: list[str] = []
    bootstrap.install_packages(["iptables", "lxc"], yes=True, tell=told.append)
    assert told[0] == "Continuum needs these Debian packages: iptables, lxc"
    assert told[-1] == "installed iptables, lxc"
    (call,) = log.read_text().splitlines()
    assert call.startswith("noninteractive ")
    assert call.endswith("install --no-install-recommends iptables lxc")


def test_lists_are_read_first_when_there_are_none(host: Path, tmp_path: Path) -> None:
    log = _apt(host)
    (tmp_path / "lists" / "debian_Packages").unlink()
    bootstrap.install_packages(["lxc"], yes=True, tell=lambda _: None)
    update, install = log.read_text().splitlines()
    assert update.endswith("update")
    assert install.endswith("lxc")


def test_lists_are_read_again_when_they_are_too_old(host: Path, tmp_path: Path) -> None:
    log = _apt(host, install=f'[ -e "{tmp_path / "updated"}" ] || exit 100')
    bootstrap.install_packages(["lxc"], yes=True, tell=lambda _: None)
    assert [line.split()[-1] for line in log.read_text().splitlines()] == ["lxc", "update", "lxc"]


def test_the_words_of_apt_are_told_when_it_fails(host: Path) -> None:
    _apt(host, install="echo E: no room; exit 100")
    with pytest.raises(bootstrap.CannotPrepare) as raised:
        bootstrap.install_packages(["lxc"], yes=True, tell=lambda _: None)
    assert raised.value.output == "E: no room"
    assert raised.value.hint.startswith("as root: apt-get install")


def test_the_person_may_say_no(host: Path) -> None:
    log = _apt(host)
    with pytest.raises(bootstrap.CannotPrepare, match="were not installed"):
        bootstrap.install_packages(["lxc"], yes=False, ask=lambda _: False, tell=lambda _: None)
    assert not log.exists()


def test_without_a_terminal_nobody_is_asked(host: Path) -> None:
    log = _apt(host)
    bootstrap.install_packages(["lxc"], yes=False, tell=lambda _: None)
    assert log.exists()


@pytest.mark.usefixtures("host")
def test_without_apt_it_says_what_is_missing() -> None:
    with pytest.raises(bootstrap.CannotPrepare, match="lxc") as raised:
        bootstrap.install_packages(["lxc"], yes=True, tell=lambda _: None)
    assert "no apt-get" in raised.value.hint


def test_without_root_and_sudo_it_says_so(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = _apt(host)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(bootstrap.CannotPrepare, match="no sudo"):
        bootstrap.install_packages(["lxc"], yes=True, tell=lambda _: None)
    assert not log.exists()


def test_without_root_sudo_runs_apt(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = _apt(host)
    _program(host, "sudo", f'#!/bin/sh\necho sudo >> "{log}"\nexec "$@"\n')
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    bootstrap.install_packages(["lxc"], yes=True, tell=lambda _: None)
    first, second = log.read_text().splitlines()
    assert first == "sudo"
    assert second.startswith("noninteractive")


def test_a_provider_that_needs_nothing_installs_nothing(host: Path) -> None:
    log = _apt(host)
    privileges.prepare_host(Session([]), Fake)
    assert not log.exists()


def test_what_a_provider_needs_is_installed(host: Path) -> None:
    log = _apt(host)
    privileges.prepare_host(Session([], yes=True), Lxc)
    installed = log.read_text().split("--no-install-recommends ")[1].split()
    assert {"lxc", "mmdebstrap", "iproute2", "openssh-client"} <= set(installed)


@pytest.mark.usefixtures("host")
def test_what_cannot_be_installed_is_exit_3() -> None:
    with pytest.raises(NotPossibleHere) as raised:
        privileges.prepare_host(Session([], yes=True), Lxc)
    assert raised.value.exit_code == 3


@pytest.mark.usefixtures("host")
def test_without_root_and_sudo_no_machine_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NotPossibleHere, match='provider "lxc" needs root'):
        privileges.prepare_host(Session([]), Lxc)


def test_a_sudo_that_must_ask_without_a_terminal_is_told(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(host, "sudo", "#!/bin/sh\necho a password is required >&2\nexit 1\n")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NotPossibleHere, match="sudo refuses") as raised:
        privileges.prepare_host(Session([]), Lxc)
    assert "a password is required" in raised.value.output


def test_the_same_command_goes_on_behind_sudo(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Replaced(Exception):
        pass

    calls: list[list[str]] = []

    def execv(path: str, arguments: list[str]) -> None:
        calls.append(arguments)
        raise Replaced(path)

    _program(host, "sudo", "#!/bin/sh\nexit 0\n")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/someone/state")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(Replaced):
        privileges.prepare_host(Session(["up", "two words.toml"]), Lxc)
    (call,) = calls
    assert call[:-1] == [str(host / "sudo"), "--", sys.executable, "-I", behind_sudo.__file__]
    with Path(call[-1]).open() as pipe:
        told = json.load(pipe)
    assert told["arguments"] == ["up", "two words.toml"]
    assert told["environment"]["XDG_STATE_HOME"] == "/home/someone/state"
    assert told["environment"]["PYTHONDONTWRITEBYTECODE"] == "1"
    assert "AWS_SECRET_ACCESS_KEY" not in told["environment"]


def _wanting(programs: dict[str, str]) -> NotToBeHad:
    error = NotToBeHad("no saw")
    error.programs = programs
    return error


def test_what_ends_for_want_of_a_program_is_done_again_with_it(host: Path) -> None:
    log = _apt(host, install=f"touch {host}/gcc")
    errors = [_wanting({"gcc": "gcc"})]

    def action() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert privileges.with_programs(Session([]), action) == "done"
    assert log.read_text().endswith("--no-install-recommends gcc\n")


def test_what_ends_for_another_reason_is_not_done_again(host: Path) -> None:
    log = _apt(host)
    _program(host, "gcc", "")
    tried: list[int] = []
    for programs in ({}, {"gcc": "gcc"}):

        def action(programs: dict[str, str] = programs) -> None:
            tried.append(1)
            raise _wanting(programs)

        with pytest.raises(NotToBeHad):
            privileges.with_programs(Session([]), action)
    assert len(tried) == 2
    assert not log.exists()


def test_a_program_that_cannot_be_installed_leaves_the_first_reason(host: Path) -> None:
    _apt(host, install="exit 100")

    def action() -> None:
        raise _wanting({"gcc": "gcc"})

    with pytest.raises(NotToBeHad, match="no saw"):
        privileges.with_programs(Session([]), action)
