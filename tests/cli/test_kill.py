"""SIGINT, SIGTERM and SIGKILL at every journalled step: then the same command goes on, or `down` cleans."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from command_line import BENCHMARK, Cli, Process, Write, started
from continuum import workflow
from continuum.benchmark import execute
from continuum.cli import main
from continuum.events import Events
from continuum.experiment.load import load

STEPS = {
    "machine image": "image",
    "network": "network",
    "machines": "create:endpoint-1",
    "limits": "limits:edge-1",
    "configure machines": "put:edge-1",
    "start services": "python3:edge-1",
    "links": "links",
}
"""Steps of `up`, each with an operation in it that can be made to hang."""

RUN_STEPS = {
    **STEPS,
    "link check": "measure",
    "workers": "systemd-run:edge-1",
    "repetition 1 of 1": "systemd-run:endpoint-1",
}

SIGNALS = (signal.SIGINT, signal.SIGKILL)


def _deployment(tmp_path: Path) -> Path:
    return tmp_path / ".state/continuum/deployments/paper"


def _await_step(tmp_path: Path, step: str, process: Process) -> None:
    """Wait until the journal's last line says that the step has begun."""
    journal = _deployment(tmp_path) / "journal.jsonl"
    end = time.monotonic() + 60
    while time.monotonic() < end:
        lines = journal.read_text().splitlines() if journal.exists() else []
        last = json.loads(lines[-1]) if lines else {}
        if (last.get("step"), last.get("state"), last.get("process")) == (
            step,
            "started",
            process.process.pid,
        ):
            return
        assert process.process.poll() is None, process.ends()
        time.sleep(0.01)
    raise AssertionError(f"step {step} never began")


def _experiment(write: Write, operation: str = "") -> Path:
    """One edge machine, one endpoint; the operation hangs."""
    fake = f'hang_at = ["{operation}"]' if operation else ""
    path: Path = write(rest=BENCHMARK, fake=fake)
    path.write_text(path.read_text().replace("machines = 2", "machines = 1"))
    return path


def _stop(verb: str, write: Write, tmp_path: Path, step: str, number: signal.Signals) -> None:
    """Run the verb until the step hangs, send the signal, and look at how it ended."""
    arguments = [verb, _experiment(write, RUN_STEPS[step])]
    if verb == "run":
        arguments += ["--results", tmp_path / "stopped"]
    with started(tmp_path / "call", *arguments) as process:
        _await_step(tmp_path, step, process)
        process.signal(number)
        ending = process.ends()
    if number == signal.SIGKILL:
        assert ending.code == -signal.SIGKILL
        return
    assert ending.code == main.INTERRUPTED
    assert 'interrupted; of deployment "paper" this was created:' in ending.stderr
    assert str(_deployment(tmp_path)) in ending.stderr
    assert "continuum down paper" in ending.stderr
    if step not in {"machine image", "network", "machines"}:
        assert "edge-1 (running)" in ending.stderr
    begun = step not in STEPS
    assert ("the same command again goes on from here" in ending.stderr) != begun
    assert ("the same command with another --results begins the run anew" in ending.stderr) == begun
    assert (f"  results:  {tmp_path / 'stopped'}\n" in ending.stderr) == begun


def _is_up(cli: Cli) -> bool:
    (deployment,) = cli("status", "--json").json
    states = {machine["state"] for machine in deployment["machines"]}
    return states == {"running"} and deployment["links_in_force"] == deployment["links_asked"]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("step", STEPS)
def test_up_goes_on_where_it_was_stopped(
    cli: Cli, write: Write, tmp_path: Path, step: str, number: signal.Signals
) -> None:
    _stop("up", write, tmp_path, step, number)
    assert cli("up", _experiment(write)).code == 0
    assert _is_up(cli)
    assert cli("down", "paper").code == 0
    assert not _deployment(tmp_path).exists()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("step", STEPS)
def test_down_cleans_what_a_stopped_up_left(
    cli: Cli, write: Write, tmp_path: Path, step: str, number: signal.Signals
) -> None:
    _stop("up", write, tmp_path, step, number)
    assert cli("status").code == 0
    assert cli("down", "paper").code == 0
    assert not _deployment(tmp_path).exists()
    assert cli("status", "--json").json == []


def test_without_a_folder_of_ones_own_the_same_command_runs_anew(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    with started(tmp_path / "call", "run", _experiment(write, "measure")) as process:
        _await_step(tmp_path, "link check", process)
        process.signal(signal.SIGINT)
        ending = process.ends()
    assert "the machines stay; the same command again begins the run anew" in ending.stderr
    (folder,) = Path("results").absolute().iterdir()
    assert f"  results:  {folder}\n" in ending.stderr
    assert cli("down", "paper").code == 0


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("step", RUN_STEPS)
def test_run_goes_on_where_it_was_stopped(
    cli: Cli, write: Write, tmp_path: Path, step: str, number: signal.Signals
) -> None:
    _stop("run", write, tmp_path, step, number)
    machines_were_up = step not in STEPS
    if number == signal.SIGINT and machines_were_up:
        record = json.loads((tmp_path / "stopped" / "run.json").read_text())
        assert record["status"] == "interrupted"
        assert len(record["reasons"]) == 1
    ending = cli("run", _experiment(write), "--results", tmp_path / "again")
    assert ending.code == 0, ending.stderr
    assert json.loads((tmp_path / "again" / "run.json").read_text())["status"] == "done"
    assert cli("down", "paper").code == 0
    assert not _deployment(tmp_path).exists()


def test_every_journalled_step_is_one_at_which_it_is_stopped(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    assert cli("run", _experiment(write)).code == 0
    lines = (_deployment(tmp_path) / "journal.jsonl").read_text().splitlines()
    # Logs and results have tests of their own: they end well whatever happens in them.
    assert {json.loads(line)["step"] for line in lines} == {*RUN_STEPS, "logs", "results"}


def test_sigterm_and_a_closed_terminal_end_it_as_ctrl_c_does(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    # Where the tests themselves run under `nohup`, what they start would not hear of it.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            _stop("up", write, tmp_path, "links", number)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert cli("down", "paper").code == 0


def test_ctrl_c_under_load_keeps_the_samples_so_far(cli: Cli, write: Write, tmp_path: Path) -> None:
    path = _experiment(write)
    path.write_text(path.read_text().replace('duration = "0.5 s"', 'duration = "60 s"'))
    with started(tmp_path / "call", "run", path, "--results", tmp_path / "stopped") as process:
        _await_step(tmp_path, "repetition 1 of 1", process)
        start = next(iter(_deployment(tmp_path).glob("machines/endpoint-1/files/**/start")), None)
        end = time.monotonic() + 30
        while start is None and time.monotonic() < end:
            time.sleep(0.01)
            start = next(
                iter(_deployment(tmp_path).glob("machines/endpoint-1/files/**/start")), None
            )
        process.signal(signal.SIGINT)
        ending = process.ends()
    assert ending.code == main.INTERRUPTED
    assert "last step: benchmark: repetition 1 of 1, not finished" in ending.stderr
    record = json.loads((tmp_path / "stopped" / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert (tmp_path / "stopped" / "samples.parquet").exists()
    whole = record["table"][0] if record["table"] else {"samples": 0, "lost": 0}
    assert (whole["samples"] < 600, whole["lost"]) == (True, 0)
    (reason,) = record["reasons"]
    assert reason["code"] == "interrupted"
    assert reason["sentence"] == f"interrupted after {whole['samples']} of 1200 requests"
    requests = cli("watch", "--json").json["requests"]
    assert requests is None or requests["lost"] == 0
    assert cli("down", "paper").code == 0


def test_two_ups_of_one_name_at_once(cli: Cli, write: Write, tmp_path: Path) -> None:
    with started(tmp_path / "call", "up", _experiment(write, "create:edge-1")) as first:
        _await_step(tmp_path, "machines", first)
        for verb in ("up", "run"):
            ending = cli(verb, _experiment(write))
            assert ending.code == 1
            assert f"is being changed by process {first.process.pid}" in ending.stderr
        assert cli("down", "paper").code == 1
        assert cli("status").code == 0
        first.signal(signal.SIGINT)
        assert first.ends().code == main.INTERRUPTED
    assert cli("up", _experiment(write)).code == 0
    assert cli("down", "paper").code == 0


def test_one_ctrl_c_ends_a_run_soon_though_a_machine_hangs(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    path = write(rest=BENCHMARK, fake='hang_at = ["journalctl"]')
    with started(tmp_path / "call", "run", path, "--results", tmp_path / "out") as process:
        _await_step(tmp_path, "repetition 1 of 1", process)
        process.signal(signal.SIGINT)
        # Every call to a machine that hangs would take five minutes.
        ending = process.ends(timeout=60)
    assert ending.code == main.INTERRUPTED
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "interrupted"
    assert cli("down", "paper").code == 0


def test_a_run_that_is_interrupted_ends_its_callers_loop(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object, collected: execute.Collected) -> execute.Collected:
        collected.interrupted = True
        return collected

    monkeypatch.setattr(execute, "execute", interrupted)
    loaded = load(write(rest=BENCHMARK))
    with pytest.raises(KeyboardInterrupt) as raised:
        workflow.run(loaded, Events(), results=tmp_path / "out")
    assert isinstance(raised.value, workflow.RunInterrupted)
    assert raised.value.outcome.record.status == "interrupted"
    workflow.down(["paper"], Events())


@pytest.mark.parametrize("step_seconds", [-3600, -5, 5])
def test_a_clock_that_is_set_under_load_costs_no_time_and_is_told(
    cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_seconds: int
) -> None:
    wall, wall_ns = time.time, time.time_ns
    begin = StepsClock(write(rest=BENCHMARK))
    monkeypatch.setattr(time, "time", lambda: wall() + begin.step(step_seconds))
    monkeypatch.setattr(time, "time_ns", lambda: wall_ns() + begin.step(step_seconds) * 10**9)
    ending = cli("run", begin.file, "--results", tmp_path / "out")
    assert ending.code == 1
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert "clock" in {reason["code"] for reason in record["reasons"]}
    assert "did not end in time" not in str(record["reasons"])
    assert cli("down", "paper").code == 0


class StepsClock:
    """Tell whether the load of an experiment has begun, after which the clock is set."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._begun_at: float | None = None

    def step(self, seconds: int) -> int:
        """By how much the clock is set by now."""
        if self._begun_at is None:
            starts = _deployment(self.file.parent).glob("machines/endpoint-*/files/**/start")
            if next(starts, None) is None:
                return 0
            self._begun_at = time.monotonic()
        return seconds if time.monotonic() > self._begun_at + 0.1 else 0
