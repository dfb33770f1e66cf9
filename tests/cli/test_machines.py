from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import BENCHMARK, Cli, Write
from continuum.machine import Command

MACHINES = ["edge-1", "endpoint-1", "endpoint-2"]


@pytest.fixture
def up(cli: Cli, write: Write) -> Path:
    path: Path = write()
    assert cli("up", path).code == 0
    return path


def test_up_tells_each_step_and_the_ways_on(cli: Cli, write: Write) -> None:
    ending = cli("up", write())
    assert ending.code == 0
    assert not ending.stdout
    for step in ("machine image", "network", "machines", "links"):
        assert f"done    infrastructure: {step}" in ending.stderr
    # Machines on paper have no SSH.
    assert "continuum ssh" not in ending.stderr
    assert "continuum down paper" in ending.stderr


def test_up_as_json_is_data_alone(cli: Cli, write: Write) -> None:
    found = cli("up", write(), "--json").json
    assert found["deployment"] == "paper"
    assert [machine["name"] for machine in found["machines"]] == MACHINES
    assert {change["action"] for change in found["changes"]} == {"create"}


def test_a_second_up_changes_nothing(cli: Cli, up: Path) -> None:
    ending = cli("up", up)
    assert ending.code == 0
    assert "nothing was changed" in ending.stderr
    assert "same    infrastructure: machines" in ending.stderr
    assert cli("plan", up, "--detailed-exitcode").code == 0


def test_a_changed_file_is_told_and_only_the_difference_is_done(cli: Cli, write: Write) -> None:
    cli("up", write())
    bigger = write(edge=2)
    plan = cli("plan", bigger, "--detailed-exitcode")
    assert plan.code == 6
    assert "create edge-2" in plan.stdout
    assert "create edge-1" not in plan.stdout
    found = cli("up", bigger, "--json").json
    changes = [(change["action"], change["what"]) for change in found["changes"]]
    assert changes == [("create", "edge-2"), ("update", "links")]
    ending = cli("up", write())
    assert ending.code == 2
    assert "1 machine would be replaced or removed" in ending.stderr
    assert "remove edge-2" in ending.stderr
    assert "1 of them costs a machine" in cli("plan", write()).stdout
    assert len(cli("status", "--json").json[0]["machines"]) == 4
    ending = cli("up", write(), "--yes")
    assert "remove edge-2" in ending.stderr
    assert len(cli("status", "--json").json[0]["machines"]) == 3


def test_a_stopped_machine_is_started_again(cli: Cli, up: Path) -> None:
    assert cli("exec", "edge-1", "--", "poweroff").code == 0
    states = {each["name"]: each["state"] for each in cli("status", "--json").json[0]["machines"]}
    assert states == {"edge-1": "stopped", "endpoint-1": "running", "endpoint-2": "running"}
    shown = cli("status", "--json").json[0]
    assert (shown["links_in_force"], shown["links_asked"]) == (0, 2)
    ending = cli("exec", "edge-1", "--", "uptime")
    assert ending.code == 4
    assert "edge-1" in ending.stderr
    assert cli("logs", "edge-1").code == 4
    assert cli("up", up).code == 0
    assert cli("exec", "edge-1", "--", "uptime").code == 0


@pytest.mark.usefixtures("up")
def test_only_links_that_are_as_asked_for_count(cli: Cli, tmp_path: Path) -> None:
    links = tmp_path / ".state/continuum/deployments/paper/machines/links.json"
    written = json.loads(links.read_text())
    written[0]["settings"]["rate_mbit"] = None
    written[1]["settings"]["delay_ms"] += 1
    links.write_text(json.dumps(written))
    ending = cli("status", "--json")
    (shown,) = ending.json
    assert (shown["links_in_force"], shown["links_asked"]) == (0, 2)
    assert shown["links_missing"] == ["edge → endpoint", "endpoint → edge"]
    assert ending.code == 1
    ending = cli("status")
    assert ending.code == 1
    assert "0 of 2 links in force" in ending.stdout
    assert "not in force: edge → endpoint, endpoint → edge; `continuum up`" in ending.stdout


def test_links_of_machines_that_do_not_run_are_not_missed(cli: Cli, up: Path) -> None:
    assert cli("exec", "edge-1", "--", "poweroff").code == 0
    ending = cli("status", "--json")
    assert ending.code == 0
    assert ending.json[0]["links_missing"] == []
    assert cli("up", up).code == 0
    assert cli("status").code == 0


def test_recreate_replaces_machines_that_are_right(cli: Cli, up: Path, tmp_path: Path) -> None:
    mark = tmp_path / ".state/continuum/deployments/paper/machines/edge-1/files/mark"
    mark.parent.mkdir(exist_ok=True)
    mark.write_text("")
    assert cli("up", up).code == 0
    assert mark.exists()
    assert cli("up", up, "--recreate").code == 0
    assert not mark.exists()


CLUSTER = '[software]\nmanager = "kubernetes"\n'


@pytest.fixture
def kubeconfig(cli: Cli, write: Write, tmp_path: Path) -> Path:
    """Of a deployment that has a cluster; machines on paper keep none by themselves."""
    assert cli("up", write(rest=CLUSTER)).code == 0
    path = tmp_path / ".state/continuum/deployments/paper/kubeconfig"
    path.write_text("{}")
    return path


@pytest.mark.parametrize("rest", ['[software]\nservices = ["mqtt"]\n', ""])
def test_a_cluster_is_not_lost_to_a_file_without_one_unasked(
    cli: Cli, write: Write, kubeconfig: Path, rest: str
) -> None:
    ending = cli("up", write(rest=rest))
    assert ending.code == 2, ending.stderr
    assert "replace edge-1: the machine image differs" in ending.stderr
    assert "--recreate" in ending.stderr
    assert kubeconfig.exists()
    ending = cli("up", write(rest=CLUSTER))
    assert "nothing was changed" in ending.stderr
    assert "continuum kubectl paper" in ending.stderr


@pytest.mark.parametrize(
    ("provider", "told"), [("fake", "remove edge-1"), ("lxc", "create other-1")]
)
def test_a_cluster_is_not_lost_with_its_tier_or_provider_unasked(
    cli: Cli, write: Write, kubeconfig: Path, provider: str, told: str
) -> None:
    plan = kubeconfig.parent / "plan/infrastructure.json"
    plan.write_text(plan.read_text().replace('"fake"', f'"{provider}"'))
    path = write(rest=CLUSTER)
    path.write_text(path.read_text().replace("tiers.edge", "tiers.other"))
    ending = cli("up", path)
    assert ending.code == 2, ending.stderr
    assert told in ending.stderr
    assert kubeconfig.exists()


def test_machines_that_join_and_leave_a_cluster_are_not_lost(
    cli: Cli, write: Write, kubeconfig: Path
) -> None:
    assert cli("up", write(rest=CLUSTER, edge=2)).code == 0
    assert cli("up", write(rest=CLUSTER), "--yes").code == 0
    assert kubeconfig.exists()


def test_a_cluster_that_was_given_up_is_forgotten(cli: Cli, write: Write, kubeconfig: Path) -> None:
    ending = cli("up", write(), "--recreate")
    assert ending.code == 0
    assert "continuum kubectl" not in ending.stderr
    # As one whose machines were gone before.
    kubeconfig.write_text("{}")
    assert cli("up", write()).code == 0
    assert not kubeconfig.exists()
    assert cli("up", write(rest=CLUSTER), "--yes").code == 0


def test_two_deployments_side_by_side(cli: Cli, write: Write) -> None:
    for name in ("first", "second"):
        assert cli("up", write(name)).code == 0
    assert [each["name"] for each in cli("status", "--json").json] == ["first", "second"]
    assert [each["name"] for each in cli("status", "second", "--json").json] == ["second"]
    ending = cli("exec", "edge-1", "--", "hostname")
    assert ending.code == 5
    assert cli("ssh-config").code == 2
    assert cli("exec", "second", "edge-1", "--", "hostname").stdout == "edge-1\n"
    assert cli("down", "first").code == 0
    assert [each["name"] for each in cli("status", "--json").json] == ["second"]


def test_plan_touches_nothing(cli: Cli, write: Write, tmp_path: Path) -> None:
    ending = cli("plan", write(), "--json")
    assert ending.code == 0
    assert len(ending.json["infrastructure"]["machines"]) == 3
    assert ending.json["origins"]["network.preset"].endswith("paper.toml:14")
    assert not (tmp_path / ".state").exists()


def test_plan_shows_where_values_are_from(cli: Cli, write: Write) -> None:
    shown = cli("plan", write(), "--set", "tiers.edge.cores=7").stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("  tiers.edge.cores")]
    assert line.split() == ["tiers.edge.cores", "7", "--set"]
    assert "tiers.edge.quota" not in shown
    assert "tiers.edge.quota" in cli("plan", write(), "--all").stdout


def test_plan_shows_what_was_set_as_the_file_says_it(cli: Cli, write: Write) -> None:
    rest = "[software]\nobservability = false\n"
    shown = cli("plan", write(rest=rest), "--set", "hosts=[]").stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("  software.observability")]
    # It was set, to what is the default.
    assert line.split()[:2] == ["software.observability", "false"]
    assert "values that were set" in shown
    assert not {"True", "False", "None"} & set(cli("plan", write(), "--all").stdout.split())


def test_plan_shows_values_of_any_key(cli: Cli, write: Write) -> None:
    rest = """
[benchmark]
application = "command"
workers = "endpoint"
[benchmark.command]
endpoint = ["true"]
environment = { "a.b" = "dots" }
"""
    ending = cli("plan", write(rest=rest), "--set", "benchmark.command.environment.²=squared")
    assert ending.code == 0
    found = [line.split() for line in ending.stdout.splitlines() if "environment" in line]
    assert [each[:2] for each in found] == [
        ["benchmark.command.environment.a.b", "***"],
        ["benchmark.command.environment.²", "***"],
    ]


@pytest.mark.usefixtures("up")
def test_status_shows_what_is_up(cli: Cli) -> None:
    shown = cli("status").stdout
    assert "paper (fake): 3 of 3 machines running, 2 of 2 links in force" in shown
    assert "continuum down paper" in shown


def test_status_without_a_deployment(cli: Cli) -> None:
    assert cli("status", "--json").json == []
    ending = cli("status")
    assert (ending.code, ending.stdout) == (0, "")
    assert cli("status", "absent").code == 5


@pytest.mark.usefixtures("up")
def test_exec_runs_on_machines_and_tiers(cli: Cli) -> None:
    assert cli("exec", "paper", "edge-1", "--", "hostname").stdout == "edge-1\n"
    several = cli("exec", "endpoint", "--", "hostname").stdout
    assert several == "endpoint-1 | endpoint-1\nendpoint-2 | endpoint-2\n"
    found = cli("exec", "--json", "all", "--", "hostname").json
    assert [(each["machine"], each["stdout"]) for each in found] == [
        (name, f"{name}\n") for name in MACHINES
    ]


@pytest.mark.usefixtures("up")
def test_exec_tells_which_machine_failed(cli: Cli) -> None:
    ending = cli("exec", "edge-1", "endpoint-2", "--", "false")
    assert ending.code == 1
    assert "edge-1: status 1, endpoint-2: status 1" in ending.stderr


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["edge-1", "ls"], "continuum exec edge-1 -- ls"),
        (["paper", "edge-1", "endpoint", "ls", "a b"], "exec paper edge-1 endpoint -- ls 'a b'"),
        (["cloud-1", "ls"], "continuum exec cloud-1 -- ls"),
        (["paper"], "continuum exec paper MACHINE -- COMMAND"),
        (["edge-1"], "continuum exec edge-1 -- COMMAND"),
        ([], "continuum exec MACHINE -- COMMAND"),
    ],
)
@pytest.mark.usefixtures("up")
def test_exec_without_its_mark_shows_where_it_belongs(
    cli: Cli, words: list[str], meant: str
) -> None:
    ending = cli("exec", *words)
    assert ending.code == 2
    assert ending.stderr.endswith(f"{meant}\n")


@pytest.mark.usefixtures("up")
def test_exec_says_that_it_lasts(cli: Cli) -> None:
    ending = cli("exec", "-v", "edge-1", "endpoint", "--", "hostname")
    assert "start   exec: edge-1, endpoint, waiting for the command" in ending.stderr
    assert not cli("exec", "paper", "edge-1", "--", "hostname").stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["exec", "edge-1"], 2),
        (["exec", "--", "hostname"], 2),
        (["exec", "paper", "--", "hostname"], 2),
        (["exec", "edge-9", "--", "hostname"], 5),
        (["exec", "paper", "edge-9", "--", "hostname"], 5),
        (["ssh"], 2),
        (["ssh", "edge-9"], 5),
        (["ssh", "edge-1", "edge-2"], 2),
        (["ssh", "edge-1"], 3),
        (["ssh-config"], 5),
        (["ssh-config", "absent"], 5),
        (["logs", "edge-9"], 5),
        (["logs", "endpoint"], 2),
        (["logs", "paper", "edge-1", "endpoint-1"], 2),
        (["logs", "--follow"], 2),
        (["logs", "--unit", "x.service"], 2),
        (["logs", "--list", "edge-1"], 2),
        (["logs", "--list", "--follow"], 2),
        (["logs", "worker-1"], 5),
        (["logs", "worker-1", "--unit", "x.service"], 5),
        (["down"], 2),
        (["down", "paper", "--all"], 2),
        (["down", "absent"], 5),
        (["down", "../paper"], 5),
        (["status", "x" * 500], 5),
    ],
)
@pytest.mark.usefixtures("up")
def test_what_cannot_be_meant_changes_nothing(cli: Cli, arguments: list[str], code: int) -> None:
    ending = cli(*arguments)
    assert ending.code == code, ending.stderr
    assert "error:" in ending.stderr
    assert not ending.stdout
    assert len(cli("status", "--json").json) == 1


@pytest.mark.parametrize("verb", ["ssh", "exec", "logs", "ssh-config"])
def test_without_a_deployment_there_is_nothing_to_reach(cli: Cli, verb: str) -> None:
    arguments = {"ssh": ["edge-1"], "exec": ["edge-1", "--", "ls"]}.get(verb, [])
    ending = cli(verb, *arguments)
    assert ending.code == 5
    assert "error:" in ending.stderr


@pytest.mark.usefixtures("up")
def test_the_only_deployment_is_meant_and_named(cli: Cli) -> None:
    ending = cli("logs", "edge-1")
    assert ending.code == 0
    assert 'deployment "paper", the only one' in ending.stderr
    assert "it is fake" in ending.stdout


@pytest.mark.usefixtures("up")
def test_ssh_replaces_this_process_by_ssh(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from continuum.infrastructure.providers.contract import Capabilities, MachineState
    from continuum.infrastructure.providers.fake import Fake

    class Replaced(Exception):
        pass

    calls: list[list[str]] = []

    def execv(path: str, arguments: list[str]) -> None:
        calls.append(arguments)
        raise Replaced(path)

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(
        Fake,
        "capabilities",
        Capabilities(
            one_clock=True,
            quota_covers="machine",
            disk_limits="none",
            needs_root=False,
        ),
    )
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    config = tmp_path / ".state/continuum/deployments/paper/ssh_config"
    config.write_text("Host edge-1\n")
    cli("ssh", "edge-1")
    cli("ssh", "paper", "edge-1", "--", "ls | wc -l")
    cli("ssh", "edge-1", "--", "grep", "two words")
    start = [str(program), "-F", str(config), "edge-1"]
    assert calls == [start, [*start, "--", "ls | wc -l"], [*start, "--", "grep 'two words'"]]
    # Nobody waits for one that does not run, or meets whoever else has its address.
    monkeypatch.setattr(
        Fake,
        "states",
        lambda *_: [MachineState("edge-1", "stopped", ""), MachineState("x", "x", "")],
    )
    ending = cli("ssh", "edge-1", "--", "true")
    assert (ending.code, len(calls)) == (4, 3)
    assert "machine edge-1 does not run" in ending.stderr
    assert "`continuum up` starts it again" in ending.stderr
    assert cli("ssh-config").stdout == "Host edge-1\n"
    assert cli("ssh-config", "--json").json["text"] == "Host edge-1\n"


@pytest.mark.usefixtures("up")
def test_logs_show_what_was_done(cli: Cli) -> None:
    shown = cli("logs", "paper").stdout
    assert "StepFinished" in shown
    assert "machine image" in shown
    assert len(cli("logs", "-n", "1").stdout.splitlines()) == 1
    found = cli("logs", "--json", "edge-1").json
    assert found == {"deployment": "paper", "log": "edge-1", "lines": found["lines"]}


@pytest.mark.usefixtures("up")
def test_all_that_has_a_log_is_listed(cli: Cli, tmp_path: Path) -> None:
    found = cli("logs", "--list", "--json").json
    assert [(log["name"], log["kind"]) for log in found["logs"]] == [
        (name, "machine") for name in MACHINES
    ]
    assert found["problems"] == {}
    units = tmp_path / ".state/continuum/deployments/paper/machines"
    for machine in ("edge-1", "endpoint-1"):
        (units / machine / "units").mkdir(exist_ok=True)
        (units / machine / "units" / "mosquitto.service.json").write_text("{}")
    (units / "edge-1/units/continuum-worker-1.service.json").write_text("{}")
    listed = cli("logs", "--list").stdout
    assert listed.count("mosquitto.service") == 2
    # One is shown as it is; of several each line says where it comes from.
    assert cli("logs", "worker-1").stdout == "edge-1 keeps no log: it is fake\n"
    assert cli("logs", "edge-1/mosquitto").stdout == "edge-1 keeps no log: it is fake\n"
    assert cli("logs", "mosquitto").stdout.splitlines() == [
        "edge-1/mosquitto     | edge-1 keeps no log: it is fake",
        "endpoint-1/mosquitto | endpoint-1 keeps no log: it is fake",
    ]
    followed = cli("logs", "paper", "mosquitto", "--follow").stdout.splitlines()
    assert sorted(followed) == cli("logs", "mosquitto").stdout.splitlines()
    cli("exec", "endpoint-2", "--", "poweroff")
    ending = cli("logs", "--list")
    assert "endpoint-2 does not tell" in ending.stderr
    ending = cli("logs", "nonesuch")
    assert ending.code == 5
    assert "endpoint-2" in ending.stderr


@pytest.mark.parametrize("what", ["edge-1", "mosquitto"])
@pytest.mark.usefixtures("up")
def test_who_follows_a_log_ends_that_by_an_interruption(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    from continuum.infrastructure.providers.fake_machine import FakeMachine

    def stream(machine: FakeMachine, _: Command) -> Iterator[str]:
        yield f"{machine.name} says this"
        raise KeyboardInterrupt

    for machine in ("edge-1", "endpoint-1"):
        units = tmp_path / f".state/continuum/deployments/paper/machines/{machine}/units"
        units.mkdir(exist_ok=True)
        (units / "mosquitto.service.json").write_text("{}")
    monkeypatch.setattr(FakeMachine, "stream", stream)
    ending = cli("logs", "paper", what, "--follow")
    assert ending.code == 0
    assert "edge-1 says this\n" in ending.stdout
    assert "nothing was changed" not in ending.stderr


def test_logs_come_home_with_the_results(cli: Cli, write: Write, tmp_path: Path) -> None:
    ending = cli("run", write(rest=BENCHMARK), "--results", tmp_path / "results")
    assert ending.code == 0
    logs = tmp_path / "results/logs"
    for machine in MACHINES:
        text = (logs / "machines" / f"{machine}.log").read_text()
        assert text == f"{machine} keeps no log: it is fake\n"
    assert (logs / "worker-1.log").exists()
    assert f"{logs} (4 files)" in ending.stdout
    record = json.loads((tmp_path / "results/run.json").read_text())
    assert "logs/machines/edge-1.log" in record["logs"]
    assert 'href="logs/machines/edge-1.log"' in (tmp_path / "results/report.html").read_text()


def test_logs_come_home_when_a_run_fails_and_hinder_none(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    failing = write(rest=BENCHMARK, fake='fail_at = ["systemd-run"]')
    assert cli("run", failing, "--results", tmp_path / "one").code == 1
    assert (tmp_path / "one/logs/machines/edge-1.log").exists()
    silent = write(rest=BENCHMARK, fake='fail_at = ["journalctl"]')
    assert cli("run", silent, "--results", tmp_path / "two").code == 0
    text = (tmp_path / "two/logs/machines/edge-1.log").read_text()
    assert text.startswith("no log: ")


def test_who_interrupts_while_logs_come_home_has_the_results_all_the_same(
    cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from continuum.software import logs

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(logs, "take_all", interrupted)
    assert cli("run", write(rest=BENCHMARK), "--results", tmp_path / "results").code == 130
    record = json.loads((tmp_path / "results/run.json").read_text())
    assert record["status"] == "interrupted"
    assert record["table"][0]["ok"] == 20
    assert cli("watch", "--json").json["run"]["status"] == "interrupted"


@pytest.mark.usefixtures("up")
def test_a_deployment_without_a_log_says_so(cli: Cli, tmp_path: Path) -> None:
    for log in (tmp_path / ".state/continuum/deployments/paper/logs").iterdir():
        log.unlink()
    assert cli("logs").code == 5


@pytest.mark.usefixtures("up")
def test_down_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    ending = cli("down", "paper", "--json")
    assert ending.json == {"removed": ["paper"]}
    deployments = tmp_path / ".state/continuum/deployments"
    assert not list(deployments.iterdir())
    assert cli("down", "paper").code == 5


def test_down_all(cli: Cli, write: Write) -> None:
    for name in ("first", "second"):
        cli("up", write(name))
    assert cli("down", "--all", "--json").json == {"removed": ["first", "second"]}
    ending = cli("down", "--all")
    assert ending.code == 0
    assert "nothing to remove" in ending.stderr


@pytest.mark.parametrize("operation", ["image", "network", "create", "create:endpoint-2", "links"])
def test_a_failed_step_is_told_whole_and_up_goes_on_later(
    cli: Cli, write: Write, operation: str
) -> None:
    ending = cli("up", write(fake=f'fail_at = ["{operation}"]'))
    assert ending.code == 1
    assert "failed  infrastructure:" in ending.stderr
    lines = ending.stderr.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("error:"))
    shown = lines[place:]
    assert [line.split(":")[0].strip() for line in shown[:3]] == ["error", "where", "last output"]
    assert shown[-1].startswith("  what to do:")
    assert cli("status").code == 0
    assert cli("up", write()).code == 0
    assert cli("down", "paper").code == 0
    assert cli("status", "--json").json == []


def test_a_failed_down_can_be_repeated(cli: Cli, write: Write) -> None:
    cli("up", write(fake='fail_at = ["destroy"]'))
    assert cli("down", "paper").code == 1
    assert cli("status", "--json").json[0]["name"] == "paper"
    cli("up", write())
    assert cli("down", "paper").code == 0


@pytest.mark.usefixtures("up")
def test_a_deployment_whose_files_are_damaged_can_be_removed(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / ".state/continuum/deployments/paper"
    (folder / "experiment.json").write_text("{")
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write('{"at": 1, "ph')
    assert cli("status").code == 0
    assert cli("down", "paper").code == 0


def test_a_machine_that_does_not_run_hides_nothing_of_the_others(cli: Cli, write: Write) -> None:
    cli("up", write())
    cli("exec", "endpoint-1", "--", "poweroff")
    ending = cli("exec", "all", "--", "hostname")
    assert ending.code == 4
    assert ending.stdout.split() == ["edge-1", "|", "edge-1", "endpoint-2", "|", "endpoint-2"]
    assert "endpoint-1" in ending.stderr
    ending = cli("exec", "--json", "all", "--", "hostname")
    assert ending.code == 4
    assert [each["machine"] for each in ending.json] == ["edge-1", "endpoint-2"]


@pytest.mark.usefixtures("up")
def test_every_event_is_in_the_deployments_log(tmp_path: Path) -> None:
    (log,) = (tmp_path / ".state/continuum/deployments/paper/logs").glob("*-up-*.log")
    assert log.stat().st_mode & 0o777 == 0o600
    journal = (tmp_path / ".state/continuum/deployments/paper/journal.jsonl").read_text()
    steps = {json.loads(line)["step"] for line in journal.splitlines()}
    assert all(step in log.read_text() for step in steps)


@pytest.mark.parametrize("place", ["file/below", "/proc/below"])
def test_results_that_cannot_be_written_are_told_before_anything_is_done(
    cli: Cli, write: Write, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    ending = cli("run", write(rest=BENCHMARK), "--results", tmp_path / place)
    assert ending.code == 2
    assert "results cannot be written to" in ending.stderr
    assert "infrastructure" not in ending.stderr


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300", "604801", "0", "-1", "soon"])
def test_a_time_out_that_is_no_time_is_refused(cli: Cli, seconds: str) -> None:
    ending = cli("exec", "edge-1", "--timeout", seconds, "--", "true")
    assert ending.code == 2
    assert "--timeout" in ending.stderr
