"""What is refused leaves nothing; what was broken off, damaged or mixed up can be told and removed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from command_line import BENCHMARK, Cli, Write, started
from continuum import folders, recorder, workflow
from continuum.cli import bootstrap, main
from continuum.deployment import Deployment
from continuum.errors import Interrupted, NotPossibleHere
from continuum.infrastructure.plan import InfrastructurePlan
from continuum.infrastructure.providers.contract import Capabilities, PluginSettings
from continuum.infrastructure.providers.fake import Fake
from continuum.infrastructure.providers.lxc import Lxc
from continuum.report import page


def _deployments(tmp_path: Path) -> list[str]:
    root = tmp_path / ".state/continuum/deployments"
    return sorted(path.name for path in root.iterdir()) if root.exists() else []


# -- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["plan", "up", "run"])
def test_what_the_host_cannot_carry_leaves_nothing(
    cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def refuse(_: Fake, deployment: Deployment, plan: InfrastructurePlan) -> None:
        del deployment, plan
        raise NotPossibleHere("this host cannot emulate links", hint="modprobe sch_netem")

    monkeypatch.setattr(Fake, "refuse", refuse)
    ending = cli(verb, write())
    assert ending.code == 3
    assert "cannot emulate links" in ending.stderr
    assert "infrastructure:" not in ending.stderr
    assert _deployments(tmp_path) == []


def test_a_refused_change_leaves_what_is_up(cli: Cli, write: Write, tmp_path: Path) -> None:
    cli("up", write())
    pinned = ("--set", "infrastructure.cpu_pin=true", "--set", "tiers.edge.cores=1000")
    assert cli("up", write(), *pinned).code == 3
    assert _deployments(tmp_path) == ["paper"]
    assert "nothing was changed" in cli("up", write()).stderr


def test_without_lxc_and_a_way_to_install_it_nothing_is_made(
    cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(bootstrap, "find_program", lambda _: None)
    for verb in ("up", "run"):
        ending = cli(verb, write(), "--provider", "lxc")
        assert ending.code == 3
        assert "lxc, mmdebstrap" in ending.stderr
    assert _deployments(tmp_path) == []


def test_doctor_says_which_package_brings_lxc(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ending = cli("doctor")
    assert ending.code == 3
    assert "missing  lxc-start: not installed" in ending.stdout
    assert "mend it: apt-get install -y lxc" in ending.stdout
    assert "mend it: continuum doctor" not in ending.stdout


@pytest.mark.parametrize("verb", ["up", "run", "down"])
def test_without_root_and_sudo_nothing_is_made(
    cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(bootstrap, "find_program", lambda _: None)
    cli("up", write())
    if verb == "down":
        plan = tmp_path / ".state/continuum/deployments/paper/plan/infrastructure.json"
        plan.write_text(plan.read_text().replace('"provider": "fake"', '"provider": "lxc"'))
        ending = cli("down", "paper")
    else:
        ending = cli(verb, write("other"), "--provider", "lxc")
    assert ending.code == 3
    assert 'provider "lxc" needs root' in ending.stderr
    assert _deployments(tmp_path) == ["paper"]


def test_machines_on_paper_need_no_program(
    cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = write()
    for arguments in (("up", path), ("status",), ("exec", "all", "--", "true"), ("down", "--all")):
        ending = cli(*arguments)
        assert ending.code == 0, ending.stderr


# -- broken off, damaged, mixed up ---------------------------------------------------------------


def test_an_up_that_was_broken_off_is_a_pending_change(cli: Cli, write: Write) -> None:
    cli("up", write())
    assert cli("up", write(edge=2, fake='fail_at = ["create:edge-2"]')).code == 1
    assert cli("up", write(edge=2, fake='fail_at = ["links"]')).code == 1
    pending = cli("plan", write(edge=2, fake='fail_at = ["links"]'), "--detailed-exitcode")
    assert pending.code == 6
    assert "did not get to its end" in pending.stdout
    assert cli("up", write(edge=2)).code == 0
    assert cli("plan", write(edge=2), "--detailed-exitcode").code == 0


def test_links_that_went_away_are_told_when_they_are_back(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    cli("up", write())
    assert cli("plan", write(), "--detailed-exitcode").code == 0
    (tmp_path / ".state/continuum/deployments/paper/machines/links.json").unlink()
    pending = cli("plan", write(), "--detailed-exitcode")
    assert pending.code == 6
    assert "update links: 2 of 2 are not in force" in pending.stdout
    ending = cli("up", write(), "--json")
    assert [(each["action"], each["what"]) for each in ending.json["changes"]] == [
        ("update", "links")
    ]
    assert "nothing was changed" in cli("up", write()).stderr


def test_links_of_machines_to_come_are_no_change_of_their_own(cli: Cli, write: Write) -> None:
    cli("up", write())
    cli("exec", "edge-1", "--", "poweroff")
    changes = cli("plan", write(), "--json").json["changes"]
    assert [each["what"] for each in changes] == ["edge-1"]


def test_who_cannot_see_links_plans_without_them(
    cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("up", write())
    (tmp_path / ".state/continuum/deployments/paper/machines/links.json").unlink()
    monkeypatch.setattr(Fake, "may_act", lambda _: False)
    assert cli("plan", write(), "--detailed-exitcode").code == 0


@pytest.mark.parametrize("content", ["", "{", "{}", "garbage"])
def test_a_damaged_plan_hinders_neither_up_nor_down(
    cli: Cli, write: Write, tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    destroyed: list[str] = []
    monkeypatch.setattr(Lxc, "destroy", lambda _, deployment: destroyed.append(deployment.name))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda *_, **__: None)
    cli("up", write())
    plan = tmp_path / ".state/continuum/deployments/paper/plan/infrastructure.json"
    plan.write_text(content)
    assert cli("status").code == 0
    assert cli("exec", "all", "--", "true").code == 5
    assert cli("up", write()).code == 0
    plan.write_text(content)
    assert cli("down", "paper").code == 0
    # Nothing says which provider made it: every one removes what carries its labels.
    assert destroyed == ["paper"]
    assert _deployments(tmp_path) == []


class _Other(Fake):
    """Another provider, whose machines only root can remove."""

    name = "other"
    destroyed: list[str]

    def destroy(self, deployment: Deployment) -> None:
        self.destroyed.append(deployment.name)
        super().destroy(deployment)


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> type[_Other]:
    """It stands where provider `lxc` does."""
    from continuum import plugins

    monkeypatch.setattr(_Other, "name", "lxc")
    monkeypatch.setattr(_Other, "destroyed", [], raising=False)
    load = plugins.load

    def loaded(kind: str, name: str) -> object:
        return _Other if (kind, name) == ("providers", "lxc") else load(kind, name)

    monkeypatch.setattr(plugins, "load", loaded)
    return _Other


def test_another_provider_removes_what_the_former_made(
    cli: Cli, write: Write, other: type[_Other]
) -> None:
    assert cli("up", write(), "--provider", "lxc").code == 0
    ending = cli("up", write())
    assert ending.code == 2
    assert "remove edge-1: provider lxc made it" in ending.stderr
    assert other.destroyed == []
    ending = cli("up", write(), "--yes")
    assert ending.code == 0
    assert "remove machines of provider lxc" in ending.stderr
    assert other.destroyed == ["paper"]
    assert cli("status", "--json").json[0]["provider"] == "fake"


def test_who_cannot_remove_what_the_former_made_changes_nothing(
    cli: Cli, write: Write, other: type[_Other], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("up", write(), "--provider", "lxc").code == 0
    rooted = Capabilities(one_clock=True, quota_covers="machine", disk_limits="", needs_root=True)
    monkeypatch.setattr(other, "capabilities", rooted)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    ending = cli("up", write())
    assert ending.code == 3
    assert "continuum down paper" in ending.stderr
    assert other.destroyed == []
    (status,) = cli("status", "--json").json
    assert (status["provider"], status["links_in_force"]) == ("lxc", None)
    assert "only root sees" in cli("status").stdout


def test_down_of_several_removes_none_when_one_is_not_there(cli: Cli, write: Write) -> None:
    cli("up", write("first"))
    assert cli("down", "first", "absent").code == 5
    assert [each["name"] for each in cli("status", "--json").json] == ["first"]
    assert cli("down", "first", "first", "--json").json["removed"] == ["first"]


def test_down_of_several_goes_on_after_one_that_cannot_be_removed(cli: Cli, write: Write) -> None:
    cli("up", write("first", fake='fail_at = ["destroy"]'))
    cli("up", write("second"))
    cli("up", write("third", fake='fail_at = ["destroy"]'))
    ending = cli("down", "--all")
    assert ending.code == 1
    assert "removed: second" not in ending.stdout
    assert [each["name"] for each in cli("status", "--json").json] == ["first", "third"]
    cli("up", write("first"))
    cli("up", write("third"))
    assert cli("down", "--all", "--json").json == {"removed": ["first", "third"]}


def test_an_interrupted_down_of_several_stops(
    cli: Cli, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise Interrupted("interrupted")

    for name in ("first", "second"):
        cli("up", write(name))
    with monkeypatch.context() as patched:
        patched.setattr(Fake, "destroy", interrupted)
        ending = cli("down", "--all")
    assert ending.code == main.INTERRUPTED
    assert ending.stderr.count("failed  infrastructure: remove") == 1
    assert cli("down", "--all").code == 0


def test_folders_that_are_no_deployments_hinder_nothing_and_stay(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    cli("up", write())
    for name in (".hidden", "Not a name"):
        (tmp_path / ".state/continuum/deployments" / name).mkdir()
    assert [each["name"] for each in cli("status", "--json").json] == ["paper"]
    assert cli("exec", "edge-1", "--", "true").code == 0
    assert cli("down", "--all", "--json").json == {"removed": ["paper"]}
    assert _deployments(tmp_path) == [".hidden", "Not a name"]


def _stored(tmp_path: Path, name: str, **values: object) -> None:
    """Have a deployment's plan be as another version, or with another plug-in, would have left it."""
    path = tmp_path / ".state/continuum/deployments" / name / "plan/infrastructure.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("settings", [{"gone": 1}, {"loss": "much", "gone": 1}])
def test_settings_of_another_version_hinder_nothing(
    cli: Cli, write: Write, tmp_path: Path, settings: dict[str, object]
) -> None:
    cli("up", write())
    _stored(tmp_path, "paper", settings=settings)
    (status,) = cli("status", "--json").json
    assert {each["state"] for each in status["machines"]} == {"running"}
    assert cli("exec", "edge-1", "--", "true").code == 0
    assert cli("watch", "paper", "--once").code == 0
    assert cli("down", "paper").code == 0
    assert _deployments(tmp_path) == []


def test_a_deployment_whose_plugin_is_gone_hinders_no_other(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    for name in ("first", "second", "third"):
        cli("up", write(name))
    _stored(tmp_path, "second", provider="shelf")
    told = {each["name"]: each for each in cli("status", "--json").json}
    assert {each["state"] for each in told["second"]["machines"]} == {"unknown"}
    assert {each["state"] for each in told["third"]["machines"]} == {"running"}
    shown = cli("status").stdout
    assert "second (shelf): its machines cannot be looked at" in shown
    assert 'note: deployment "second" was made by provider "shelf", which is not installed' in shown
    assert cli("up", write("second")).code == 3
    for ending in (cli("exec", "second", "all", "--", "true"), cli("down", "--all")):
        assert ending.code == 3
        assert 'made by provider "shelf", which is not installed' in ending.stderr
        assert "what to do: install the plug-in that brings it" in ending.stderr
    assert _deployments(tmp_path) == ["second"]
    assert cli("down", "second").code == 3
    assert (tmp_path / ".state/continuum/deployments/second/plan/infrastructure.json").exists()


def test_settings_that_lack_what_must_be_there_are_told(
    cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Needing(PluginSettings):
        shelf: str

    cli("up", write())
    monkeypatch.setattr(Fake, "settings_type", Needing)
    assert "made by another version of provider" in cli("status").stdout
    assert cli("down", "--all").code == 3
    assert _deployments(tmp_path) == ["paper"]


# -- in a run ------------------------------------------------------------------------------------


def test_a_defect_in_a_run_leaves_a_record_too(
    cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr(workflow, "_benchmark", broken)
    assert cli("run", write(rest=BENCHMARK), "--results", tmp_path / "out").code == 70
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["status"] == "failed"
    assert [each["sentence"] for each in record["reasons"]] == ["RuntimeError: surprise"]
    assert (tmp_path / "out/links.parquet").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="pipes with names")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_while_it_writes_results_it_can_run_again(
    cli: Cli, write: Write, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    path = write(rest=BENCHMARK)
    path.write_text(path.read_text().replace('duration = "0.5 s"', 'duration = "2 s"'))
    with started(tmp_path / "call", "run", path, "--results", out) as call:
        _await_journal(tmp_path, "repetition 1 of 1")
        # Nobody reads from this pipe: whoever opens it to write waits.
        out.mkdir()
        process = call.process.pid
        pipe = out / f".samples.parquet.{process}-{process}"
        os.mkfifo(pipe)
        _await_journal(tmp_path, "results")
        pipe.unlink()  # Whoever waits for a reader of it goes on waiting.
        call.signal(number)
        ending = call.ends()
    if number == signal.SIGINT:
        assert ending.code == main.INTERRUPTED
        assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
        assert (out / "report.html").exists()
        assert f"  results:  {out}\n" in ending.stderr
        assert cli("watch", "--json").json["run"]["status"] == "interrupted"
    else:
        assert ending.code == -number
        assert not (out / "run.json").exists()
    assert cli("run", write(rest=BENCHMARK), "--results", tmp_path / "again").code == 0
    assert cli("down", "paper").code == 0
    assert _deployments(tmp_path) == []


@pytest.mark.parametrize("times", [1, 2])
def test_who_interrupts_the_report_has_the_results_named(
    cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    out = tmp_path / "out"
    interrupted: list[Path] = []

    def report(folder: Path) -> Path:
        if len(interrupted) < times:
            interrupted.append(folder)
            raise KeyboardInterrupt
        return page.write_report(folder)

    monkeypatch.setattr(recorder, "write_report", report)
    ending = cli("run", write(rest=BENCHMARK), "--results", out, "--down")
    assert ending.code == main.INTERRUPTED
    assert f"  results:  {out}\n" in ending.stderr
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    assert _deployments(tmp_path) == ["paper"]
    assert cli("watch", "--json").json["run"]["status"] == "interrupted"
    assert (out / "report.html").exists() == (times == 1)
    assert (f"continuum report {out} makes the report" in ending.stderr) == (times == 2)
    assert cli("report", out).code == 0


def test_who_interrupts_a_failed_runs_report_is_told_of_the_failure(
    cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted: list[Path] = []

    def report(folder: Path) -> Path:
        interrupted.append(folder)
        if len(interrupted) == 1:
            raise KeyboardInterrupt
        return page.write_report(folder)

    monkeypatch.setattr(recorder, "write_report", report)
    failing = write(rest=BENCHMARK, fake='fail_at = ["systemd-run"]')
    assert cli("run", failing, "--results", tmp_path / "out").code == 1
    assert json.loads((tmp_path / "out/run.json").read_text())["status"] == "failed"


def test_results_are_named_when_the_removal_after_them_is_interrupted(
    cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def removed(deployment: Deployment, _: object) -> None:
        folders.remove_tree(deployment.folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "_down", removed)
    ending = cli("run", write(rest=BENCHMARK), "--results", tmp_path / "out", "--down")
    assert ending.code == main.INTERRUPTED
    assert 'nothing of deployment "paper" is left' in ending.stderr
    assert f"  results:  {tmp_path / 'out'}\n" in ending.stderr
    assert json.loads((tmp_path / "out/run.json").read_text())["status"] == "done"


def _await_journal(tmp_path: Path, step: str) -> None:
    journal = tmp_path / ".state/continuum/deployments/paper/journal.jsonl"
    end = time.monotonic() + 60
    while time.monotonic() < end:
        lines = journal.read_text().splitlines() if journal.exists() else []
        if lines and (json.loads(lines[-1])["step"], json.loads(lines[-1])["state"]) == (
            step,
            "started",
        ):
            return
        time.sleep(0.01)
    raise AssertionError(f"step {step} never began")
