from __future__ import annotations

import pytest

from command_line import Cli, Write
from continuum.cli import bootstrap
from continuum.infrastructure.providers.contract import Check
from continuum.infrastructure.providers.fake import Fake

CHECKS = [
    Check("memory", ok=True, detail="24 GiB"),
    Check("netem", ok=False, detail="the kernel has it not", mend="modprobe", needed=False),
]
MISSING = Check("lxc-start", ok=False, detail="not found", mend="apt-get install lxc")


def _host(monkeypatch: pytest.MonkeyPatch, checks: list[Check]) -> None:
    monkeypatch.setattr(Fake, "check", lambda _: checks)


def test_a_host_that_has_everything(cli: Cli) -> None:
    ending = cli("doctor", "--provider", "fake")
    assert ending.code == 0
    assert ending.stdout.startswith("ok ")
    assert 'this host has what provider "fake" needs' in ending.stderr


def test_what_only_some_experiments_need_is_no_failure(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    _host(monkeypatch, CHECKS)
    ending = cli("doctor", "--provider", "fake")
    assert ending.code == 0
    assert "absent   netem: the kernel has it not" in ending.stdout
    assert "mend it: modprobe" in ending.stdout


def test_what_is_missing_is_told_with_what_mends_it(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    _host(monkeypatch, [*CHECKS, MISSING])
    ending = cli("doctor", "--provider", "fake")
    assert ending.code == 3
    assert "missing  lxc-start: not found" in ending.stdout
    assert "error: 1 thing that provider" in ending.stderr
    assert "what to do: apt-get install lxc" in ending.stderr


def test_json_is_the_same_and_ends_the_same(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    _host(monkeypatch, [*CHECKS, MISSING])
    ending = cli("doctor", "--provider", "fake", "--json")
    assert ending.code == 3
    assert ending.json["ok"] is False
    assert [check["name"] for check in ending.json["checks"]] == ["memory", "netem", "lxc-start"]
    _host(monkeypatch, CHECKS)
    assert cli("doctor", "--provider", "fake", "--json").json["ok"] is True


def test_the_provider_is_that_of_the_experiment(cli: Cli, write: Write) -> None:
    assert cli("doctor", write(), "--json").json["provider"] == "fake"


def test_fix_installs_what_the_provider_names(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[tuple[list[str], bool]] = []
    monkeypatch.setattr(Fake, "programs", {"no-such-program": "no-such-package"})
    monkeypatch.setattr(
        bootstrap, "install_packages", lambda names, *, yes: installed.append((names, yes))
    )
    assert cli("doctor", "--provider", "fake").code == 0
    assert not installed
    assert cli("doctor", "--provider", "fake", "--fix", "--yes").code == 0
    assert installed == [(["no-such-package"], True)]


@pytest.mark.parametrize(("name", "code"), [("lxd", 2), ("terraform", 3)])
def test_a_provider_that_is_not_there(cli: Cli, name: str, code: int) -> None:
    ending = cli("doctor", "--provider", name)
    assert ending.code == code
    assert name in ending.stderr


def test_every_check_of_the_default_provider_can_be_mended(cli: Cli) -> None:
    ending = cli("doctor", "--json")
    assert ending.code in {0, 3}
    assert ending.json["provider"] == "lxc"
    assert all(check["ok"] or check["mend"] for check in ending.json["checks"])
