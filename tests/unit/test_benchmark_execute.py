"""The benchmark's execution on machines and processes that exist only in memory."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from continuum import live
from continuum.benchmark import baseline
from continuum.benchmark import execute as phase
from continuum.benchmark.configure import BenchmarkPlan, configure, seed_of
from continuum.benchmark.contract import Application, Endpoint, Load, Worker
from continuum.benchmark.observation import Observation, phase_text
from continuum.deployment import Deployment
from continuum.errors import MachineUnreachable, NotFound, NotPossibleHere, StepFailed
from continuum.events import Events
from continuum.experiment.model import Experiment
from continuum.images.recipe import InstallStep
from continuum.infrastructure import clocks
from continuum.infrastructure.configure import Surroundings
from continuum.infrastructure.configure import configure as infrastructure
from continuum.infrastructure.providers.contract import PluginSettings
from continuum.live import LiveRun, Teller
from continuum.machine import Command, Machine, Result
from continuum.software.contract import ExecutionModel, ProcessSpec
from continuum.software.services.observability import PHASES, TARGETS


class Memory(Machine):
    """A machine that keeps files; `gone` makes it unreachable."""

    def __init__(self, name: str) -> None:
        self.name, self.tier, self.address = name, name.partition("-")[0], "10.0.0.1"
        self.files: dict[str, bytes] = {}
        self.gone = False

    def run(self, command: Command) -> Result:
        if command.arguments[:2] == ("rm", "-rf"):
            self.files.clear()
        return Result(command, 0, b"", b"", 0.0)

    def stream(self, command: Command) -> Iterator[str]:
        raise NotImplementedError(str(command))

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        del mode
        self.files[path] = content

    def get(self, path: str) -> bytes:
        if self.gone:
            raise MachineUnreachable("it was killed")
        if path not in self.files:
            raise NotFound("no such file")
        return self.files[path]


class Instant(ExecutionModel):
    """Processes that are ready at once; an endpoint ends as soon as it may start."""

    name = "instant"

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, list[dict[str, Any]]] = {}
        self.forced: dict[str, str] = {}
        self.running: set[str] = set()
        self.lock = threading.Lock()

    def install(self) -> tuple[InstallStep, ...]:
        return ()

    def start(self, machine: Machine, process: ProcessSpec) -> None:
        del machine
        with self.lock:
            self.running.add(process.name)

    def state(self, machine: Machine, process: ProcessSpec) -> str:
        assert isinstance(machine, Memory)
        if machine.gone:
            raise MachineUnreachable(f"{machine.name} does not answer")
        forced = self.forced.get(process.name)
        if forced:
            return forced
        if process.output and f"{process.working_directory}/start" in machine.files:
            lines = [json.dumps(line) for line in self.answers.get(process.name, [])]
            machine.files[process.output] = "\n".join(lines).encode()
            return "ended"
        return "ready"

    def stop(self, machine: Machine, process: ProcessSpec) -> None:
        del machine
        with self.lock:
            self.running.discard(process.name)

    def log(self, machine: Machine, process: ProcessSpec, lines: int = 0) -> str:
        del machine, lines
        return f"what {process.name} said"


class Echo(Application):
    """Two requests for each endpoint."""

    name = "echo"

    def skip(self, experiment: Experiment) -> str | None:
        return None if experiment.machine_count > 1 else "it needs two machines"

    def install(self) -> tuple[InstallStep, ...]:
        return ()

    def worker(self, worker: Worker, endpoints: tuple[Endpoint, ...]) -> ProcessSpec:
        arguments = ("worker", *(endpoint.name for endpoint in endpoints))
        return ProcessSpec(worker.name, worker.machine, arguments, cpu=worker.cpu)

    def endpoint(self, endpoint: Endpoint, load: Load) -> ProcessSpec:
        return ProcessSpec(
            f"{endpoint.name}-{load.repetition}",
            endpoint.machine,
            ("endpoint",),
            output=f"{load.folder}/samples.jsonl",
            ready_file=f"{load.folder}/ready",
            working_directory=load.folder,
        )

    def expected_requests(self, load: Load) -> int | None:
        return sum(load.requests)


def experiment(**benchmark: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "sample",
            "tiers": {
                "edge": {"machines": 2, "cores": 2, "quota": 0.5},
                "endpoint": {"machines": 4},
            },
            "benchmark": {
                "application": "echo",
                "frequency": "100 Hz",
                "warmup": "10 ms",
                "duration": "10 ms",
                "answer_timeout": "10 ms",
                **benchmark,
            },
        }
    )


def plan_of(asked: Experiment) -> BenchmarkPlan:
    surroundings = Surroundings("sample", "0badcafe", "image", 2)
    return configure(asked, infrastructure(asked, surroundings, {}), Echo(PluginSettings()))


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(phase, "START_DELAY", 0.0)
    monkeypatch.setattr(phase, "START_DELAY_EACH", 0.0)
    monkeypatch.setattr(phase, "GRACE", 0.3)
    monkeypatch.setattr(phase, "READY_LIMIT", 0.3)

    def make(**benchmark: Any) -> phase.Run:
        plan = plan_of(experiment(**benchmark))
        names = {process.machine for _, process in plan.workers}
        names |= {each.process.machine for each in plan.repetitions[0]}
        deployment = Deployment("sample", tmp_path)
        deployment.write("made", "")
        model = Instant()
        for repetition in plan.repetitions:
            for each in repetition:
                model.answers[each.process.name] = [
                    {"sequence": 0, "status": "ok", "warmup": True},
                    {"sequence": 1, "status": "ok", "warmup": False},
                ]
        return phase.Run(
            deployment=deployment,
            plan=plan,
            application=Echo(PluginSettings()),
            machines={name: Memory(name) for name in names},
            worker_model=model,
            endpoint_model=model,
            events=Events(),
            name="run-1",
        )

    return make


def test_workers_share_their_machine_and_endpoints_are_dealt_out_in_turn() -> None:
    plan = plan_of(experiment(workers_per_machine=2))
    assert [worker.machine for worker, _ in plan.workers] == [
        "edge-1",
        "edge-1",
        "edge-2",
        "edge-2",
    ]
    assert [worker.cpu for worker, _ in plan.workers] == [0.5] * 4
    served = [run.endpoint.worker.name for run in plan.repetitions[0] if run.endpoint.worker]
    assert served == ["worker-1", "worker-2", "worker-3", "worker-4"]
    plan = plan_of(experiment())
    assert plan.workers[0][1].arguments == ("worker", "endpoint-1", "endpoint-3")


def test_endpoints_that_answer_themselves_have_no_worker() -> None:
    plan = plan_of(experiment(workers="endpoint"))
    assert plan.workers == ()
    assert {run.endpoint.worker for run in plan.repetitions[0]} == {None}


def test_every_endpoint_in_every_repetition_has_a_seed_of_its_own() -> None:
    plan = plan_of(experiment(repetitions=3, seed=7))
    seeds = {run.load.seed for repetition in plan.repetitions for run in repetition}
    assert len(seeds) == 12
    assert seed_of(7, 1, "endpoint-1") in seeds
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_an_experiment_that_does_not_fit_is_refused_with_the_reason() -> None:
    alone = Experiment.model_validate(
        {"name": "a", "tiers": {"endpoint": {}}, "benchmark": {"application": "echo"}}
    )
    with pytest.raises(NotPossibleHere, match="it needs two machines"):
        plan_of(alone)


def test_all_samples_come_home_and_nothing_keeps_running(make_run: Any) -> None:
    run = make_run(repetitions=2)
    collected = phase.execute(run)
    assert not collected.reasons
    assert len(collected.rows) == 2 * 4 * 2
    row = collected.rows[0]
    assert (row["run"], row["repetition"]) == ("run-1", 1)
    assert run.worker_model.running == set()


def test_what_an_earlier_run_left_is_not_taken_for_this_ones(make_run: Any) -> None:
    run = make_run()
    for machine in run.machines.values():
        machine.files["/var/lib/continuum/run/endpoint-1-1/start"] = b"1"
    seen: list[str] = []
    original = run.endpoint_model.start

    def look(machine: Machine, process: ProcessSpec) -> None:
        assert isinstance(machine, Memory)
        seen.extend(machine.files)
        original(machine, process)

    run.endpoint_model.start = look
    phase.execute(run)
    assert [path for path in seen if path.endswith("start")] == []


def test_what_a_killed_run_left_on_other_machines_is_stopped_too(make_run: Any) -> None:
    run = make_run()
    run.machines["cloud-1"] = Memory("cloud-1")
    stopped: dict[str, int] = {}

    def stop_all(machine: Machine, processes: list[ProcessSpec]) -> None:
        stopped[machine.name] = stopped.get(machine.name, 0) + 1
        Instant.stop_all(run.endpoint_model, machine, processes)

    run.endpoint_model.stop_all = stop_all
    phase.execute(run)
    # Once before the run, and where it has something of its own once after it.
    assert stopped.pop("cloud-1") == 1
    assert set(stopped.values()) == {2}


def test_prometheus_forgets_a_run_that_was_killed_before_this_one_begins(
    make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: phase.Run = make_run()
    observing = Memory("edge-1")
    observing.files[PHASES] = phase_text("killed", 1, "load").encode()
    observing.files[TARGETS] = b'[{"targets": ["10.0.0.1:9110"]}]'
    told: list[tuple[bytes, bytes]] = []

    def start(machine: Machine, process: ProcessSpec) -> None:
        del machine, process
        told.append((observing.files[PHASES], observing.files[TARGETS]))

    monkeypatch.setattr(run.worker_model, "start", start)
    phase.execute(
        dataclasses.replace(run, observation=Observation("run-1", observing, machines={}))
    )
    assert told[0] == (b"", b"[]\n")


def test_a_request_that_no_sample_speaks_of_is_lost(make_run: Any) -> None:
    run = make_run()
    run.endpoint_model.answers["endpoint-2-1"].pop()
    collected = phase.execute(run)
    lost = [row for row in collected.rows if row["status"] == "lost"]
    assert [(row["endpoint"], row["sequence"], row["warmup"]) for row in lost] == [
        ("endpoint-2", 1, False)
    ]


def test_a_machine_that_is_gone_is_a_reason_and_its_requests_are_lost(make_run: Any) -> None:
    run = make_run()

    def gone(content: bytes, path: str, *, mode: int = 0o644) -> None:
        del content, path, mode
        run.machines["endpoint-3"].gone = True

    run.machines["endpoint-3"].put = gone
    collected = phase.execute(run)
    assert any(
        "endpoint-3 is gone" in reason for reason in [str(each) for each in collected.reasons]
    )
    lost = [row for row in collected.rows if row["status"] == "lost"]
    assert {row["endpoint"] for row in lost} == {"endpoint-3"}
    assert len(collected.rows) == 8


def test_a_machine_that_dies_before_the_start_costs_only_its_own_samples(make_run: Any) -> None:
    run = make_run()

    def gone(content: bytes, path: str, *, mode: int = 0o644) -> None:
        del content, path, mode
        run.machines["endpoint-3"].gone = True
        raise MachineUnreachable("it does not run")

    run.machines["endpoint-3"].put = gone
    collected = phase.execute(run)
    assert "endpoint-3 was not told to start: it does not run" in [
        str(each) for each in collected.reasons
    ]
    ok = {row["endpoint"] for row in collected.rows if row["status"] == "ok"}
    assert ok == {"endpoint-1", "endpoint-2", "endpoint-4"}


def test_an_endpoint_that_never_ends_is_given_up_in_time(make_run: Any) -> None:
    run = make_run()
    original = run.endpoint_model.state

    def never(machine: Machine, process: ProcessSpec) -> str:
        return "ready" if process.name == "endpoint-1-1" else str(original(machine, process))

    run.endpoint_model.state = never
    collected = phase.execute(run)
    assert "endpoint-1 did not end in time" in [str(each) for each in collected.reasons]
    assert collected.logs["endpoint-1-1"] == "what endpoint-1-1 said"


def test_a_worker_that_dies_under_load_is_a_reason(make_run: Any) -> None:
    run = make_run()
    original = run.worker_model.state
    asked: list[str] = []

    def dies(machine: Machine, process: ProcessSpec) -> str:
        if process.name == "worker-1":
            asked.append(process.name)
            return "ready" if len(asked) == 1 else "failed"
        return str(original(machine, process))

    run.worker_model.state = dies
    collected = phase.execute(run)
    assert "worker-1 on edge-1 has failed" in [str(each) for each in collected.reasons]


def test_workers_logs_are_kept_before_they_go(make_run: Any) -> None:
    run = make_run()
    original = run.worker_model.log

    def log(machine: Machine, process: ProcessSpec, lines: int = 0) -> str:
        # With a pod its log goes.
        assert process.name in run.worker_model.running
        if process.name == "worker-2":
            raise MachineUnreachable("it was killed")
        return str(original(machine, process, lines))

    run.worker_model.log = log
    collected = phase.execute(run)
    assert collected.logs == {
        "worker-1": "what worker-1 said",
        "worker-2": "no log: it was killed\n",
    }
    assert not collected.reasons


def test_an_interruption_while_logs_are_kept_still_stops_everything(make_run: Any) -> None:
    run = make_run()

    def log(*_: object) -> str:
        raise KeyboardInterrupt

    run.worker_model.log = log
    with pytest.raises(KeyboardInterrupt):
        phase.execute(run)
    assert run.worker_model.running == set()


def test_who_watches_is_told_where_samples_come_to_lie(make_run: Any, tmp_path: Path) -> None:
    teller = Teller(tmp_path, LiveRun("run-1", "/results", 1, 0.0, repetitions=2))
    run = dataclasses.replace(make_run(repetitions=2), teller=teller)
    phase.execute(run)
    told = live.read(tmp_path)
    assert told is not None
    assert len(told.streams) == 2 * 4
    first, second = told.streams[:2]
    assert first.path == run.plan.repetitions[0][0].process.output
    assert (first.warmup, first.requests, first.frequency, first.counted) == (1, 1, 100.0, True)
    # Endpoints do not begin at the same moment, nor in the same order again.
    phases = [each.start_ns for each in told.streams]
    assert len(set(phases)) == 8
    orders = [sorted(range(4), key=phases[half : half + 4].__getitem__) for half in (0, 4)]
    assert orders[0] != orders[1]
    started = run.machines[second.machine].files[f"{run.plan.repetitions[0][1].load.folder}/start"]
    assert int(started) == second.start_ns


def poisson_answers(run: phase.Run, started: int, off_ns: int = 0) -> None:
    """Samples of all endpoints at their times; those of `endpoint-2` are `off_ns` beside them."""
    for each in run.plan.repetitions[0]:
        assert each.load.offsets_ns is not None
        off = off_ns if each.endpoint.name == "endpoint-2" else 0
        run.endpoint_model.answers[each.process.name] = [  # type: ignore[attr-defined]
            {"sequence": number, "intended_ns": started + offset + off}
            for number, offset in enumerate(each.load.offsets_ns)
        ]


@pytest.mark.parametrize(("off_ns", "reasons"), [(0, 0), (900_000, 0), (2_000_000, 1)])
def test_who_keeps_to_arrivals_of_a_poisson_process_is_seen(
    make_run: Any, monkeypatch: pytest.MonkeyPatch, off_ns: int, reasons: int
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000.0)
    run = make_run(arrivals="poisson", duration="100 ms")
    poisson_answers(run, 1_000 * 10**9, off_ns)
    monkeypatch.setattr(phase, "_await_end", lambda *_: _let_all_end(run))
    collected = phase.execute(run)
    assert len(collected.reasons) == reasons
    if reasons:
        assert collected.reasons[0].code == "endpoint"
        assert "endpoint-2 had " in collected.reasons[0].sentence
        assert "due at other times than the arrivals that were asked" in str(collected.reasons[0])
    # As many rows as the schedules hold, which are not as many for each endpoint.
    loads = [each.load for each in run.plan.repetitions[0]]
    assert (
        len(collected.rows)
        == sum(sum(load.requests) for load in loads)
        == run.plan.planned[0] + run.plan.planned[1]
    )
    assert len({load.requests for load in loads}) > 1


def _let_all_end(run: phase.Run) -> None:
    for each in run.plan.repetitions[0]:
        run.endpoint_model.state(run.machines[each.process.machine], each.process)


def test_poisson_requests_without_a_sample_are_lost_as_many_as_were_drawn(make_run: Any) -> None:
    run = make_run(arrivals="poisson", duration="100 ms")
    for each in run.plan.repetitions[0]:
        run.endpoint_model.answers[each.process.name] = []
    collected = phase.execute(run)
    statuses = [(row["status"], row["warmup"]) for row in collected.rows]
    warmup, requests = run.plan.planned
    assert statuses.count(("lost", True)) == warmup
    assert statuses.count(("lost", False)) == requests


def test_a_worker_that_cannot_start_ends_the_run_with_what_it_said(make_run: Any) -> None:
    run = make_run()
    run.worker_model.forced["worker-2"] = "failed"
    with pytest.raises(StepFailed, match="worker-2 ended before it was ready") as caught:
        phase.execute(run)
    assert caught.value.output == "what worker-2 said"
    assert run.worker_model.running == set()


def test_a_line_that_is_no_sample_is_a_reason(make_run: Any) -> None:
    run = make_run()
    run.endpoint_model.answers["endpoint-1-1"].append({"status": "ok"})
    collected = phase.execute(run)
    assert any(
        "endpoint-1 wrote a line that is no sample" in each
        for each in [str(each) for each in collected.reasons]
    )


def test_a_later_repetition_that_cannot_begin_is_a_reason_and_the_last(make_run: Any) -> None:
    run = make_run(repetitions=3)
    run.endpoint_model.forced["endpoint-1-2"] = "failed"
    collected = phase.execute(run)
    (reason,) = [str(each) for each in collected.reasons]
    assert reason.startswith("repetition 2 of 3 could not begin, and was the last: endpoint-1-2")
    assert "what endpoint-1-2 said" in collected.logs["repetition-2"]
    assert {row["repetition"] for row in collected.rows} == {1}
    assert len(collected.rows) == 8
    assert run.worker_model.running == set()


def test_samples_outlive_a_second_interruption(make_run: Any) -> None:
    run = make_run()

    def interrupted(machine: Machine, process: ProcessSpec) -> None:
        del machine, process
        if collected.rows:
            raise KeyboardInterrupt

    collected = phase.Collected()
    run.endpoint_model.stop = interrupted
    with pytest.raises(KeyboardInterrupt):
        phase.execute(run, collected)
    assert len(collected.rows) == 8


def test_an_interrupted_load_has_lost_nothing_that_was_never_due(make_run: Any) -> None:
    run = make_run(duration="1 s")
    answers = run.endpoint_model.answers
    answers["endpoint-1-1"] = [{"sequence": 0}, {"sequence": 3}]
    answers["endpoint-2-1"] = []
    original = run.endpoint_model.state

    def state(machine: Machine, process: ProcessSpec) -> str:
        found = str(original(machine, process))
        if found == "ended":
            raise KeyboardInterrupt
        return found

    run.endpoint_model.state = state
    collected = phase.execute(run)
    assert collected.interrupted
    assert not collected.reasons
    rows = [
        (row["sequence"], row["status"])
        for row in collected.rows
        if row["endpoint"] == "endpoint-1"
    ]
    assert sorted(rows) == [(0, "ok"), (1, "lost"), (2, "lost"), (3, "ok")]


def test_an_endpoint_that_wrote_nothing_until_it_was_interrupted_has_no_rows(make_run: Any) -> None:
    run = make_run()
    run.endpoint_model.answers["endpoint-2-1"] = []
    original = run.endpoint_model.state

    def state(machine: Machine, process: ProcessSpec) -> str:
        found = str(original(machine, process))
        if found == "ended" and process.name == "endpoint-4-1":
            raise KeyboardInterrupt
        return found

    run.endpoint_model.state = state
    rows = phase.execute(run).rows
    assert {row["endpoint"] for row in rows} == {"endpoint-1", "endpoint-3", "endpoint-4"}
    assert {row["status"] for row in rows} == {"ok"}


def test_a_load_that_is_longer_than_its_duration_is_waited_for(make_run: Any) -> None:
    run = make_run(frequency="1 Hz", warmup="0.6 s", duration="10 ms")
    assert run.plan.repetitions[0][0].load.requests == (1, 1)
    began = time.time()
    original = run.endpoint_model.state

    def sends(machine: Machine, process: ProcessSpec) -> str:
        # The last request is due after a second, the last answer 10 ms later.
        return "ready" if time.time() < began + 1.1 else str(original(machine, process))

    run.endpoint_model.state = sends
    assert phase.execute(run).reasons == []


def test_clocks_of_those_that_take_part_are_read_around_each_repetition(
    make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[set[str]] = []

    def measure_some(machines: list[Machine]) -> tuple[list[clocks.ClockReading], dict[str, str]]:
        asked.append({machine.name for machine in machines})
        found = [clocks.ClockReading(each.name, 5, -7, 3, True) for each in machines]  # noqa: FBT003  a field of a record
        return found, {}

    monkeypatch.setattr(clocks, "measure_some", measure_some)
    run = make_run(repetitions=2)
    assert phase.execute(run).clocks == []
    collected = phase.execute(dataclasses.replace(run, own_clocks=True))
    assert asked == [{"edge-1", "edge-2", *(f"endpoint-{number}" for number in range(1, 5))}] * 4
    assert not collected.reasons
    first = collected.clocks[0]
    assert (first.repetition, first.when, first.offset_ns, first.bound_ns) == (1, "before", -7, 3)
    assert {(each.repetition, each.when) for each in collected.clocks} == {
        (number, when) for number in (1, 2) for when in ("before", "after")
    }


def test_a_clock_that_cannot_be_read_is_a_reason(
    make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "measure_some", lambda _: ([], {"edge-2": "it is gone"}))
    collected = phase.execute(dataclasses.replace(make_run(), own_clocks=True))
    assert [str(each) for each in collected.reasons] == [
        f"the clock of edge-2 was not read {when} repetition 1: it is gone"
        for when in ("before", "after")
    ]
    assert len(collected.rows) == 8


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Echo, "beside_worker", True)
    monkeypatch.setattr(baseline, "SHARE", 10.0)
    monkeypatch.setattr(baseline, "FREQUENCY", 1000.0)


@pytest.mark.usefixtures("beside")
def test_it_is_measured_before_the_first_repetition_and_leaves_nothing(make_run: Any) -> None:
    run = make_run()
    name = run.plan.baseline.process.name
    run.endpoint_model.answers[name] = [
        {
            "sequence": number,
            "status": "ok",
            "sent_ns": 10**18,
            "received_ns": 10**18 + 500_000,
            "finished_ns": 10**18 + 900_000,
            "answered_ns": 10**18 + 1_600_000,
        }
        for number in range(20)
    ]
    collected = phase.execute(run)
    assert [(each.quantity, each.mean) for each in collected.baseline] == [
        ("forward_ms", 0.5),
        ("return_ms", 0.7),
    ]
    assert run.endpoint_model.running == set()
    assert {row["endpoint"] for row in collected.rows} == {f"endpoint-{n}" for n in range(1, 5)}
    assert not collected.reasons


@pytest.mark.usefixtures("beside")
@pytest.mark.parametrize("state", ["failed", "starting"])
def test_a_run_is_as_good_without_it(make_run: Any, state: str) -> None:
    run = make_run()
    run.endpoint_model.forced[run.plan.baseline.process.name] = state
    collected = phase.execute(run)
    assert collected.baseline == []
    assert len(collected.rows) == 8
    assert not collected.reasons
    assert run.endpoint_model.running == set()


@pytest.mark.usefixtures("beside")
def test_one_that_does_not_end_is_not_awaited_for_ever(make_run: Any) -> None:
    run = make_run()
    process = run.plan.baseline.process
    run.endpoint_model.forced[process.name] = "ready"
    collected = phase.execute(run)
    assert collected.baseline == []
    assert len(collected.rows) == 8
