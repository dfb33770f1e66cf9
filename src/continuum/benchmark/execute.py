"""Phase 3, execute: start workers and endpoints, let the load run, bring the samples home.

Whatever happens to machines, brokers and processes in mid-run, this ends in time: a request
without an answer is a sample, a machine that is gone is a reason, and the run is degraded.
"""

from __future__ import annotations

import dataclasses
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from continuum import interruption
from continuum.benchmark import baseline, clock_steps, link_series
from continuum.benchmark.contract import RUN_FOLDER
from continuum.benchmark.host_share import Shared
from continuum.benchmark.reasons import Code, Reason
from continuum.benchmark.results import ClockReading
from continuum.benchmark.sample_lines import parse_lines
from continuum.errors import (
    ContinuumError,
    MachineUnreachable,
    NotFound,
    StepFailed,
    TimedOut,
)
from continuum.infrastructure import clocks
from continuum.infrastructure.host import share
from continuum.live import Stream
from continuum.machine import Command
from continuum.parallel import for_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from continuum.benchmark.configure import BenchmarkPlan, EndpointRun
    from continuum.benchmark.contract import Application
    from continuum.benchmark.observation import Observation
    from continuum.benchmark.results import Baseline
    from continuum.deployment import Deployment
    from continuum.events import Events, Step
    from continuum.infrastructure.host.share import HostShare, HostWatch
    from continuum.infrastructure.links.contract import Window
    from continuum.infrastructure.plan import Link
    from continuum.live import Teller
    from continuum.machine import Machine
    from continuum.software.contract import ExecutionModel, ProcessSpec, Start

PHASE = "benchmark"
READY_LIMIT = 120.0
"""Seconds until a worker or an endpoint must be able to take requests."""
START_DELAY = 0.5
START_DELAY_EACH = 0.05
"""Seconds between "start" and the first request, and what each endpoint adds to them, so that
every endpoint has read it."""
MOST_OFF_NS = 1_000_000
"""Between a request's time in the load plan and as its sample has it, for programs that round."""
GRACE = 15.0
"""Seconds that an endpoint may take beyond its load and its last answer's time-out."""
LOOK_INTERVAL = 5.0
"""Seconds between looks at the processes under load: each look costs a little of the host."""
POLL_INTERVAL = 0.1
LOG_LINES = 5000
"""Of each worker's log, which is kept whatever came of it."""
MOST_NAMED = 5
"""Links that a reason names."""
MOST_LOGS = 32
"""Workers whose logs are kept, beside those of workers that failed: each takes time at the end."""


@dataclass
class Collected:
    """What a run left: rows as endpoints wrote them, and why it is not as it should be.

    `logs` holds what a worker or an endpoint said, by its name, when there was a reason to look;
    `resources` what machines took of processor and memory over time, when that was noted;
    `series` what Prometheus saw; `link_series` what the emulator did to packets;
    `clocks` how far the machines' clocks were off, where they have their own;
    `starts` how long a worker took to be there, where that was measured;
    `shared` what hosts gave to each repetition, where they are watched;
    `baseline` what programs add to a request;
    `interrupted`, which is no reason of its own: a person stopped it.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    resources: list[dict[str, Any]] = field(default_factory=list)
    series: list[dict[str, Any]] = field(default_factory=list)
    link_series: list[dict[str, Any]] = field(default_factory=list)
    clocks: list[ClockReading] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    shared: list[Shared] = field(default_factory=list)
    baseline: list[Baseline] = field(default_factory=list)
    interrupted: bool = False

    def because(self, code: Code, sentence: str, **figures: float | str) -> None:
        """Note a reason, once."""
        reason = Reason(code=code, sentence=sentence, figures=figures)
        if reason not in self.reasons:
            self.reasons.append(reason)


@dataclass(frozen=True)
class Run:
    """What `execute` works with. `worker_model` runs workers, `endpoint_model` endpoints.

    `own_clocks`: machines do not share a clock. `teller` is told where samples come to lie, for
    whoever watches. `observation` is how the run tells Prometheus of itself. `nodes` are the machines
    that can carry workers of `worker_model`, if not all can. `missing_links` are those that are not
    in force as they were asked for, looked up at the end of every repetition; `link_windows` what
    their emulator did to packets between two times. `watches` watch the hosts.
    """

    deployment: Deployment
    plan: BenchmarkPlan
    application: Application
    machines: dict[str, Machine]
    worker_model: ExecutionModel
    endpoint_model: ExecutionModel
    events: Events
    name: str
    own_clocks: bool = False
    teller: Teller | None = None
    observation: Observation | None = None
    nodes: tuple[str, ...] = ()
    missing_links: Callable[[], Sequence[Link]] = tuple
    link_windows: Callable[[int, int], Sequence[Window]] = lambda _since_ns, _until_ns: ()
    watches: Sequence[HostWatch] = ()


def execute(run: Run, collected: Collected | None = None) -> Collected:
    """Carry out all repetitions.

    What is known is put into `collected` as it comes, so that nothing is lost when this is
    interrupted a second time. A repetition after the first that cannot begin is a reason, and the
    last: what took a machine or a broker away took it from those that would follow, too.

    Raises:
        TimedOut: a worker or an endpoint never became ready.
        StepFailed: one ended before it was ready.
        MachineUnreachable: a machine was gone before the first repetition began.
    """
    collected = Collected() if collected is None else collected
    journal = run.deployment.journal
    workers = [process for _, process in run.plan.workers]
    try:
        _forget_everything(run, elsewhere=True)
        if run.observation is not None:
            run.observation.begin()
        _empty_run_folders(run)
        if workers:
            with journal.step(
                run.events, PHASE, "workers", waits_for=f"{len(workers)} workers to be ready"
            ):
                _start(run, run.worker_model, workers)
                _await_ready(run, run.worker_model, workers)
            if run.worker_model.measures_starts:
                _measure_starts(run, workers, collected)
        _measure_baseline(run, collected)
        for number, endpoints in enumerate(run.plan.repetitions, start=1):
            name = f"repetition {number} of {len(run.plan.repetitions)}"
            driver = run.plan.driver
            waits_for = f"all {run.application.noun}s" if driver else "endpoints to end"
            began_ns = time.time_ns()
            try:
                with (
                    journal.step(run.events, PHASE, name, waits_for=waits_for) as step,
                    _clocks_noted(run, number, collected),
                ):
                    _read_clocks(run, number, "before", collected, step)
                    if driver is not None:
                        with _watched(run, number, collected):
                            driver.drive(run, number, collected, step)
                    else:
                        _repetition(run, endpoints, collected, step)
                    _read_clocks(run, number, "after", collected, step)
            except ContinuumError as error:
                if number == 1:
                    raise
                collected.because(
                    Code.REPETITION, f"{name} could not begin, and was the last: {error.message}"
                )
                collected.logs[f"repetition-{number}"] = f"{error.where}\n{error.output}\n"
            _look_at_workers(run, workers, collected)
            _look_at_links(run, number, began_ns, collected)
            if f"repetition-{number}" in collected.logs:
                break
    except KeyboardInterrupt:
        collected.interrupted = True
    finally:
        with run.events.step(PHASE, "end", waits_for="workers and endpoints to stop"):
            try:
                _keep_logs_of_workers(run, workers, collected)
                _take_series_home(run, collected)
            finally:
                _forget_everything(run)
    return collected


def _take_series_home(run: Run, collected: Collected) -> None:
    """What Prometheus saw of the run, and what it did not see."""
    if run.observation is None:
        return
    with run.deployment.journal.step(run.events, PHASE, "series", waits_for="Prometheus"):
        collected.series, missing = run.observation.end()
    for reason in missing:
        collected.because(Code.OBSERVABILITY, reason)


def _processes(run: Run) -> dict[tuple[ExecutionModel, str], list[ProcessSpec]]:
    """All processes of all repetitions, by who runs them and by machine."""
    found: dict[tuple[ExecutionModel, str], list[ProcessSpec]] = {}
    for _, process in run.plan.workers:
        found.setdefault((run.worker_model, process.machine), []).append(process)
    first = (run.plan.baseline,) if run.plan.baseline else ()
    for endpoints in (first, *run.plan.repetitions):
        for each in endpoints:
            found.setdefault((run.endpoint_model, each.process.machine), []).append(each.process)
    return found


def _forget_everything(run: Run, *, elsewhere: bool = False) -> None:
    """Stop whatever this or an earlier run left; a machine that is gone has nothing to stop.

    `elsewhere`: also where this run has nothing, since an earlier one that was killed may have had.
    """
    todo = _processes(run)
    if elsewhere:
        for model, machines in ((run.endpoint_model, run.machines), (run.worker_model, run.nodes)):
            for machine in machines:
                todo.setdefault((model, machine), [])

    def stop(item: tuple[tuple[ExecutionModel, str], list[ProcessSpec]]) -> None:
        (model, machine), processes = item
        try:
            model.stop_all(run.machines[machine], processes)
        except ContinuumError as error:
            run.events.note(f"processes on {machine} not stopped: {error.message}")

    for_each(stop, list(todo.items()))
    if run.plan.driver is not None:
        try:
            run.plan.driver.clear(run)
        except ContinuumError as error:
            run.events.note(f"not everything was removed: {error.message}")


def _machines_used(run: Run) -> list[str]:
    """Names of the machines that take part."""
    used = dict.fromkeys(machine for _, machine in _processes(run))
    used |= dict.fromkeys(run.plan.driver.machines if run.plan.driver else ())
    return list(used)


def _empty_run_folders(run: Run) -> None:
    """What an earlier run left would be taken for this one's: its `start` file above all."""
    for_each(
        lambda name: run.machines[name].run(Command(("rm", "-rf", RUN_FOLDER))).check(),
        _machines_used(run),
    )


def _read_clocks(
    run: Run,
    repetition: int,
    when: Literal["before", "after"],
    collected: Collected,
    step: Step,
) -> None:
    if not run.own_clocks:
        return
    step.progress("reading the machines' clocks")
    found, failed = clocks.measure_some([run.machines[name] for name in _machines_used(run)])
    collected.clocks += [
        ClockReading(repetition=repetition, when=when, **dataclasses.asdict(each)) for each in found
    ]
    for machine, why in failed.items():
        collected.because(
            Code.CLOCK,
            f"the clock of {machine} was not read {when} repetition {repetition}: {why}",
        )


def _clock_offsets(run: Run) -> dict[str, int]:
    return clock_steps.offsets(
        [run.machines[name] for name in _machines_used(run)] if run.own_clocks else []
    )


@contextmanager
def _clocks_noted(run: Run, repetition: int, collected: Collected) -> Iterator[None]:
    """Read all clocks at both ends of the block, and tell those that were set meanwhile."""
    before = _clock_offsets(run)
    yield
    # This host's is told by who watches it, where somebody does.
    watched = any(
        each.repetition == repetition and not each.share.host for each in collected.shared
    )
    after = _clock_offsets(run)
    if watched:
        del after[clock_steps.THIS_HOST]
    collected.reasons += clock_steps.reasons(repetition, before, after)


@contextmanager
def _watched(run: Run, repetition: int, collected: Collected) -> Iterator[None]:
    """Keep what the hosts give to a repetition, also of one that is interrupted."""
    shares: list[HostShare] = []
    try:
        with share.watched(run.watches, run.events.note) as shares:
            yield
    finally:
        collected.shared += [Shared(repetition, each) for each in shares]


def _start(run: Run, model: ExecutionModel, processes: list[ProcessSpec]) -> None:
    for_each(lambda process: model.start(run.machines[process.machine], process), processes)


def _measure_starts(run: Run, workers: list[ProcessSpec], collected: Collected) -> None:
    """Where the execution model can: how long the first worker takes to be there."""
    process = workers[0]
    with run.deployment.journal.step(
        run.events, PHASE, "starts", waits_for=f"{process.name} to start again"
    ) as step:
        machine = run.machines[process.machine]
        try:
            for start in run.worker_model.starts(machine, process, step.progress):
                collected.starts.append(start)
        except ContinuumError as error:
            collected.because(Code.STARTS, error.message)
            _keep_log(run, run.worker_model, process, collected)
        if collected.starts:
            _await_ready(run, run.worker_model, workers)


def _measure_baseline(run: Run, collected: Collected) -> None:
    """Let the endpoint beside the worker make its requests. Without it a run is as good."""
    each = run.plan.baseline
    if each is None:
        return
    machine, model = run.machines[each.endpoint.machine], run.endpoint_model
    with run.deployment.journal.step(
        run.events, PHASE, "baseline", waits_for=f"requests on {machine.name}"
    ):
        try:
            model.start(machine, each.process)
            _await_ready(run, model, [each.process])
            machine.put(str(time.time_ns()).encode(), f"{each.load.folder}/start")
            _await_baseline(run, each)
            samples, _ = parse_lines(machine.get(samples_file(each)), each.load.requests[0])
            model.stop(machine, each.process)
        except ContinuumError as error:
            run.events.note(f"what programs add was not measured: {error.message}")
        else:
            collected.baseline = baseline.summary(samples)


def _await_baseline(run: Run, each: EndpointRun) -> None:
    load, machine = each.load, run.machines[each.endpoint.machine]
    lasts = load.warmup + load.duration
    deadline = time.monotonic() + lasts + load.answer_timeout + GRACE
    interruption.pause(lasts)
    while run.endpoint_model.state(machine, each.process) in {"starting", "ready"}:
        if time.monotonic() > deadline:
            raise TimedOut(f"{each.endpoint.name} did not end in time", where=machine.name)
        interruption.pause(POLL_INTERVAL)


def _await_ready(run: Run, model: ExecutionModel, processes: list[ProcessSpec]) -> None:
    # With clocks of their own they may be emulated, or small computers.
    limit = READY_LIMIT * (3 if run.own_clocks else 1)
    deadline = time.monotonic() + limit
    waiting = list(processes)
    while waiting:
        began = time.monotonic()
        states = for_each(
            lambda process: model.state(run.machines[process.machine], process), waiting
        )
        for process, state in zip(waiting, states, strict=True):
            tells = bool(process.ready_file) or model.tells_ready
            if state in {"failed", "absent"} or (state == "ended" and tells):
                raise StepFailed(
                    f"{process.name} ended before it was ready",
                    where=f"{process.machine}: {' '.join(process.arguments)}",
                    output=model.log(run.machines[process.machine], process, 20),
                    hint=f"continuum logs {run.deployment.name} {process.machine}",
                )
        waiting = [
            process
            for process, state in zip(waiting, states, strict=True)
            if not _is_ready(model, process, state)
        ]
        if waiting and time.monotonic() > deadline:
            first = waiting[0]
            raise TimedOut(
                f"{first.name} was not ready within {limit:g} s",
                where=f"{first.machine}: {' '.join(first.arguments)}",
                output=model.log(run.machines[first.machine], first, 20),
                hint=f"continuum logs {run.deployment.name} {first.machine}",
            )
        if waiting:
            _pause_after_look(began)


def _is_ready(model: ExecutionModel, process: ProcessSpec, state: str) -> bool:
    if process.ready_file or model.tells_ready:
        return state == "ready"
    return state in {"ready", "starting", "ended"}


def _pause_after_look(began: float) -> None:
    """For as long as the look took: one at a cluster needs the processor that its pods start with."""
    interruption.pause(max(POLL_INTERVAL, time.monotonic() - began))


def _repetition(
    run: Run, endpoints: tuple[EndpointRun, ...], collected: Collected, step: Step
) -> None:
    processes = [each.process for each in endpoints]
    step.progress(f"starting {len(processes)} endpoints")
    _start(run, run.endpoint_model, processes)
    _await_ready(run, run.endpoint_model, processes)
    if run.observation is not None:
        run.observation.targets([process for _, process in run.plan.workers] + processes)
    delay = START_DELAY + START_DELAY_EACH * len(endpoints)
    # Two clocks: endpoints are told Unix time; limits are by the clock that is never set.
    start, start_ns = time.monotonic() + delay, int((time.time() + delay) * 1e9)
    begins_ns = {each.endpoint.name: start_ns + each.load.phase_ns for each in endpoints}

    def begin(each: EndpointRun) -> None:
        try:
            run.machines[each.endpoint.machine].put(
                str(begins_ns[each.endpoint.name]).encode(), f"{each.load.folder}/start"
            )
        except ContinuumError as error:
            collected.because(
                Code.ENDPOINT, f"{each.endpoint.name} was not told to start: {error.message}"
            )

    try:
        with _watched(run, endpoints[0].load.repetition, collected):
            for_each(begin, endpoints)
            if run.teller is not None:
                run.teller.begins(
                    tuple(_stream(run, each, begins_ns[each.endpoint.name]) for each in endpoints)
                )
            _await_end(run, endpoints, start, step, collected)
    except KeyboardInterrupt:
        collected.interrupted = True  # Known before samples are collected.
        raise
    finally:
        step.progress("collecting samples")
        for_each(
            lambda each: _collect(run, each, begins_ns[each.endpoint.name], collected), endpoints
        )


def _stream(run: Run, each: EndpointRun, start_ns: int) -> Stream:
    warmup, requests = each.load.requests
    return Stream(
        endpoint=each.endpoint.name,
        machine=each.endpoint.machine,
        repetition=each.load.repetition,
        path=samples_file(each),
        start_ns=start_ns,
        frequency=each.load.frequency,
        warmup=warmup,
        requests=requests,
        answer_timeout=each.load.answer_timeout,
        arrivals=each.load.arrivals,
        seed=each.load.seed,
        warmup_seconds=each.load.warmup,
        seconds=each.load.duration,
        trace=each.load.trace,
        column=each.load.column,
        counted=run.application.expected_requests(each.load) is not None,
    )


def samples_file(each: EndpointRun) -> str:
    """The file on its machine that an endpoint writes its samples to."""
    return each.process.output or f"{each.load.folder}/samples.jsonl"


def _await_end(
    run: Run,
    endpoints: tuple[EndpointRun, ...],
    start: float,
    step: Step,
    collected: Collected,
) -> None:
    load = endpoints[0].load
    # Rounded to whole requests, of which there is at least one, the load may be the longer one.
    last_due = max(each.load.last_due for each in endpoints)
    expected = start + max(load.warmup + load.duration, last_due)
    limit = expected + max(each.load.answer_timeout for each in endpoints) + GRACE
    waiting = list(endpoints)
    next_look = start + LOOK_INTERVAL
    while waiting:
        now = time.monotonic()
        if now > limit:
            for each in waiting:
                collected.because(Code.ENDPOINT, f"{each.endpoint.name} did not end in time")
                _keep_log(run, run.endpoint_model, each.process, collected)
            return
        phase = _tell(step, now - start, load.warmup, load.duration)
        if run.observation is not None:
            run.observation.phase(load.repetition, phase)
        if now < expected and now < next_look:
            interruption.pause(min(1.0, expected - now, next_look - now) + 0.001)
            continue
        next_look = time.monotonic() + LOOK_INTERVAL
        began = time.monotonic()
        alive = for_each(lambda each: _still_runs(run, each, collected), waiting)
        waiting = [each for each, runs in zip(waiting, alive, strict=True) if runs]
        if waiting and now >= expected:
            _pause_after_look(began)


def _tell(step: Step, into: float, warmup: float, duration: float) -> str:
    """Tell what a repetition is doing, so many seconds after its start; returns the phase."""
    if into < warmup:
        step.progress(f"warm-up, {max(0.0, into):.0f} of {warmup:g} s", 0.0)
        return "warmup"
    if into <= warmup + duration:
        step.progress(
            f"load, {into - warmup:.0f} of {duration:g} s", min(1.0, (into - warmup) / duration)
        )
        return "load"
    step.progress("waiting for the last answers", 1.0)
    return "answers"


def _still_runs(run: Run, each: EndpointRun, collected: Collected) -> bool:
    try:
        state = run.endpoint_model.state(run.machines[each.endpoint.machine], each.process)
    except ContinuumError as error:
        collected.because(Code.MACHINE, f"{each.endpoint.machine} is gone: {error.message}")
        return False
    if state in {"failed", "absent"}:
        collected.because(Code.ENDPOINT, f"{each.endpoint.name} failed")
        _keep_log(run, run.endpoint_model, each.process, collected)
    return state not in {"failed", "absent", "ended"}


def _collect(run: Run, each: EndpointRun, start_ns: int, collected: Collected) -> None:
    try:
        content = run.machines[each.endpoint.machine].get(samples_file(each))
    except (NotFound, MachineUnreachable, StepFailed) as error:
        # Who was interrupted before the first request was due has made none.
        if not (collected.interrupted and isinstance(error, NotFound)):
            collected.because(
                Code.ENDPOINT, f"no samples from {each.endpoint.name}: {error.message}"
            )
        content = b""
    samples, problems = parse_lines(content, each.load.requests[0], each.load.answer_timeout)
    _check_arrivals(run, each, start_ns, samples, collected)
    for problem in problems[:5]:
        collected.because(
            Code.ENDPOINT, f"{each.endpoint.name} wrote a line that is no sample: {problem}"
        )
    seen = set()
    for sample in samples:
        seen.add(sample["sequence"])
        collected.rows.append(_row(run, each, sample))
    for sequence in _missing(run, each, seen, interrupted=collected.interrupted):
        collected.rows.append(_row(run, each, _never_written(each, sequence)))


def _check_arrivals(
    run: Run,
    each: EndpointRun,
    start_ns: int,
    samples: list[dict[str, Any]],
    collected: Collected,
) -> None:
    """Arrivals that are not periodic are new to programs that were written before there were any."""
    offsets = each.load.offsets_ns
    if offsets is None or run.application.expected_requests(each.load) is None:
        return
    others = [
        sample["sequence"]
        for sample in samples
        if sample["intended_ns"] is not None
        and (
            sample["sequence"] >= len(offsets)
            or abs(sample["intended_ns"] - start_ns - offsets[sample["sequence"]]) > MOST_OFF_NS
        )
    ]
    if others:
        collected.because(
            Code.ENDPOINT,
            f"{each.endpoint.name} had {len(others)} of {len(samples)} {run.application.noun}s due at "
            f"other times than the arrivals that were asked for, first number {min(others)}",
            others=len(others),
        )


def _missing(run: Run, each: EndpointRun, seen: set[int], *, interrupted: bool) -> list[int]:
    """Requests that the load plan holds and no sample speaks of.

    When a person ended the load, what would have come after the last sample is none of them: most
    of it was never due, and no network lost it.
    """
    expected = run.application.expected_requests(each.load)
    if expected is None:
        return []
    if interrupted:
        expected = min(expected, max(seen, default=-1) + 1)
    return [sequence for sequence in range(expected) if sequence not in seen]


def _never_written(each: EndpointRun, sequence: int) -> dict[str, Any]:
    return {
        "sequence": sequence,
        "status": "lost",
        "warmup": sequence < each.load.requests[0],
    }


def _row(run: Run, each: EndpointRun, sample: dict[str, Any]) -> dict[str, Any]:
    whole = {
        **sample,
        "run": run.name,
        "repetition": each.load.repetition,
        "endpoint": each.endpoint.name,
        "worker": each.endpoint.worker.name if each.endpoint.worker else each.endpoint.name,
    }
    return {**whole, **run.application.complete(whole)}


def _look_at_workers(run: Run, workers: list[ProcessSpec], collected: Collected) -> None:
    def look(process: ProcessSpec) -> None:
        machine = run.machines[process.machine]
        try:
            state = run.worker_model.state(machine, process)
        except ContinuumError as error:
            # It may be another machine that does not answer: that of the control plane.
            where = f"{process.name} on {process.machine}"
            collected.because(Code.WORKER, f"how {where} is cannot be told: {error.message}")
            return
        if state in {"failed", "ended", "absent"}:
            collected.because(
                Code.WORKER, f"{process.name} on {process.machine} has {_past(state)}"
            )
            _keep_log(run, run.worker_model, process, collected)

    for_each(look, workers)


def _look_at_links(run: Run, repetition: int, began_ns: int, collected: Collected) -> None:
    """Read the links back: whatever took one away, the figures show it.

    It may have been done from inside a machine, or be the end of the emulator. What that counted
    since the repetition began comes home with it.
    """
    try:
        missing = run.missing_links()
        windows = run.link_windows(began_ns, time.time_ns())
        collected.link_series += link_series.rows(windows, repetition)
    except ContinuumError as error:
        collected.because(
            Code.EMULATOR,
            f"links could not be read back after repetition {repetition}: {error.message}",
            repetition=repetition,
        )
        return
    if missing:
        named = link_series.first_few([str(link) for link in missing], MOST_NAMED)
        collected.because(
            Code.EMULATOR,
            f"links were not in force as declared after repetition {repetition}: {named}",
            repetition=repetition,
            missing=len(missing),
        )


def _past(state: str) -> str:
    return {"failed": "failed", "ended": "ended", "absent": "vanished"}[state]


def _keep_logs_of_workers(run: Run, workers: list[ProcessSpec], collected: Collected) -> None:
    """What workers said goes with them where they are pods; of the others it is in one place so."""

    def keep(process: ProcessSpec) -> None:
        if process.name not in collected.logs:
            _keep_log(run, run.worker_model, process, collected, LOG_LINES)
        if not collected.logs[process.name].strip():
            del collected.logs[process.name]

    for_each(keep, workers[:MOST_LOGS])


def _keep_log(
    run: Run, model: ExecutionModel, process: ProcessSpec, collected: Collected, lines: int = 0
) -> None:
    try:
        collected.logs[process.name] = model.log(run.machines[process.machine], process, lines)
    except ContinuumError as error:
        collected.logs[process.name] = f"no log: {error.message}\n"
