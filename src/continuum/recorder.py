"""What a run leaves: gathers what happened, and writes the results folder from it."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING

from continuum import folders, room
from continuum.benchmark import (
    expectation,
    host_share,
    link_series,
    loads,
    recount,
    samples,
    statistics,
    steadiness,
    transfer,
)
from continuum.benchmark.reasons import Code, Reason, in_order
from continuum.benchmark.results import (
    LINK_SERIES_FILE,
    LINKS_FILE,
    LOGS_FOLDER,
    REPORT_FILE,
    RESOURCES_FILE,
    RUN_FILE,
    SAMPLES_FILE,
    SERIES_FILE,
    STALLS_FILE,
    Clock,
    EndpointRecord,
    FunctionsRecord,
    LimitRecord,
    LinkRecord,
    LoadRecord,
    MachineRecord,
    Run,
    StartRecord,
    Status,
    WorkerRecord,
    write_run,
)
from continuum.digest_key import digest_key
from continuum.errors import StepFailed
from continuum.host_facts import host_facts
from continuum.infrastructure.configure import to_json
from continuum.report import plots
from continuum.report.clocks import between
from continuum.report.files import PLOTS_FOLDER
from continuum.report.page import write_report
from continuum.secret import Secret, masked, texts
from continuum.software.serverless import names, openfaas
from continuum.version import version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

    from continuum.benchmark.configure import BenchmarkPlan
    from continuum.benchmark.contract import Application, Endpoint, Worker
    from continuum.benchmark.execute import Collected
    from continuum.benchmark.host_share import Shared
    from continuum.benchmark.results import Baseline, Expectation, Group, HostShareRecord
    from continuum.deployment import Deployment
    from continuum.errors import ContinuumError
    from continuum.experiment.load import Loaded
    from continuum.experiment.model import Experiment
    from continuum.infrastructure.links.check import LinkMeasurement
    from continuum.infrastructure.plan import InfrastructurePlan
    from continuum.infrastructure.proofs import LimitProof
    from continuum.infrastructure.providers.contract import Capabilities


RESULTS_FOLDER = "results"
"""Folder of results beside deployments, when there is no room in the folder asked for."""


def _now() -> str:
    return dt.datetime.now().astimezone().isoformat(timespec="seconds")


@dataclass
class Recorder:
    """One run, as far as it is known. `write` is called at its end; again, it writes all anew.

    Attributes:
        emulator: name of what enforces the links, "" when nothing is emulated.
        removed: whether the deployment is removed after the run.
        image_versions: of what the machine image holds, by name.
        isolation: what separates root in each machine from its host, by the machine's name.
        links, tcp, collected: filled in as they come to be known; `tcp` as `Run.tcp`.
        link_seconds: how long the link check took; None without one.
        shared: what hosts gave to the link check.
        logs: of machines and pods, by the names of their files without the ending.
        accept: codes of reasons that are accepted as data.
        limits: what the machines' limits measured.
        reasons: what was not as it should be, beside what was collected.
        misplaced: why the results are not where they were asked for, and where they are.
    """

    folder: Path
    loaded: Loaded
    deployment: Deployment
    plan: InfrastructurePlan
    benchmark: BenchmarkPlan | None
    application: Application | None
    capabilities: Capabilities
    emulator: str
    removed: bool
    image_versions: dict[str, str]
    isolation: Mapping[str, str] = field(default_factory=dict)
    links: list[LinkMeasurement] = field(default_factory=list)
    tcp: dict[str, str] = field(default_factory=dict)
    link_seconds: float | None = None
    collected: Collected | None = None
    shared: list[Shared] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    accept: tuple[str, ...] = ()
    limits: tuple[LimitProof, ...] = ()
    reasons: list[Reason] = field(default_factory=list)
    started: str = field(default_factory=_now)
    misplaced: str = ""
    _notes: list[str] = field(default_factory=list)
    _failure: tuple[Status, Reason] | None = None

    def note(self, text: str) -> None:
        """Keep something that a reader of the report should know."""
        self._notes.append(text)

    def failed(self, error: ContinuumError) -> None:
        """The run ended with an error."""
        sentence = f"{error.message} ({error.where})".removesuffix(" ()")
        self._failure = ("failed", Reason(code=Code.FAILED, sentence=sentence))

    def because(self, reason: Reason) -> None:
        """Something was not as it should be: the run is degraded."""
        self.reasons.append(reason)

    def interrupted(self) -> None:
        """The run was stopped by a signal: the deployment stays. One that had failed has failed."""
        if self._failure is None:
            why = Reason(code=Code.INTERRUPTED, sentence="stopped by a signal")
            self._failure = ("interrupted", why)
        self.removed = False

    @staticmethod
    def load_writers() -> None:
        """Import all that writing takes, so that no interruption leaves a half imported module."""
        import jinja2  # noqa: F401, PLC0415  slow to import, as all of these
        import pyarrow.parquet  # noqa: F401, PLC0415

        plots.load()

    def write(self) -> Run:
        """Write all files of the results folder; returns what `run.json` holds.

        Where there is no room for them, or none any more, they are written to the state folder:
        `folder` is then another one, and `misplaced` says why.

        Raises:
            StepFailed: there is no room in the state folder either; says what is where.
        """
        table = self._table()
        identity = {"run": self.folder.name, "deployment": self.deployment.name}
        taken = None if table is None else samples.samples_file(table, identity)
        record = self._record(table, taken)
        try:
            self._write(record, taken)
        except OSError as error:
            if error.errno not in room.ERRORS:
                raise
            self._write_elsewhere(record, taken, error)
        return record

    def _write_elsewhere(self, record: Run, taken: bytes | None, error: OSError) -> None:
        full, first = self.folder, room.no_room(error, self.folder)
        self.folder = folders.state_folder().parent / RESULTS_FOLDER / full.name
        if os.path.lexists(self.folder):
            self.folder = self.folder.with_name(f"{full.name}-{os.getpid()}")
        try:
            self._write(record, taken)
        except OSError as problem:
            left = f"; {full / RUN_FILE} is whole" if (full / RUN_FILE).exists() else ""
            folders.remove_tree(self.folder)
            self.folder = full
            raise StepFailed(
                f"the results cannot be written: {first}, and {room.no_room(problem, folders.state_folder())}",
                where=str(full),
                hint=f"make room, then run again with another --results{left}",
            ) from error
        self.misplaced = f"{first}: the results are in {self.folder}"
        # Whole there: half of them in both places would be taken for the run.
        for path in self._written(full):
            folders.remove_tree(path)
        with suppress(OSError):
            full.rmdir()

    def _written(self, folder: Path) -> Iterator[Path]:
        """Paths that this run may have written to in a folder."""
        names = (RUN_FILE, SAMPLES_FILE, LINKS_FILE, RESOURCES_FILE, SERIES_FILE, LINK_SERIES_FILE)
        for name in (*names, STALLS_FILE, REPORT_FILE, PLOTS_FOLDER, LOGS_FOLDER):
            yield folder / name

    def _write(self, record: Run, taken: bytes | None) -> None:
        """Write `run.json` first: it is small, and says most."""
        folders.make_folder(self.folder)
        write_run(self.folder, record)
        if taken is not None:
            folders.write_file(self.folder / SAMPLES_FILE, taken)
        if self.links:
            samples.write_links(self.folder / LINKS_FILE, self.links)
        if self.collected is not None and self.collected.resources:
            samples.write_resources(self.folder / RESOURCES_FILE, self.collected.resources)
        if self.collected is not None and self.collected.series:
            samples.write_series(self.folder / SERIES_FILE, self.collected.series)
        if self.collected is not None and self.collected.link_series:
            samples.write_link_series(self.folder / LINK_SERIES_FILE, self.collected.link_series)
        if stalls := list(host_share.stall_rows(self._shared())):
            samples.write_stalls(self.folder / STALLS_FILE, stalls)
        for name, text in self._all_logs().items():
            folders.write_file(self.folder / name, masked(text))
        write_report(self.folder)

    def _all_logs(self) -> dict[str, str]:
        """Text by the path of its file in the results folder."""
        found = {**(self.collected.logs if self.collected else {}), **self.logs}
        return {f"{LOGS_FOLDER}/{name}.log": text for name, text in found.items()}

    def _table(self) -> pa.Table | None:
        if self.collected is None or self.application is None:
            return None
        table = samples.table(self.collected.rows, self.application.columns())
        hosts = {each.name: each.host for each in self.plan.machines}
        endpoints = {each.name: hosts.get(each.machine, "") for each in self._endpoints()}
        return host_share.mark(table, self.collected.shared, endpoints)

    def _shared(self) -> list[Shared]:
        """The shares that hosts gave to the link check and to the repetitions."""
        return [*self.shared, *(self.collected.shared if self.collected else ())]

    def _status(
        self,
        table: pa.Table | None,
        groups: tuple[Group, ...],
        expected: tuple[Expectation, ...],
    ) -> tuple[Status, tuple[Reason, ...]]:
        collected = self.collected.reasons if self.collected else []
        known = [*self.reasons, *self._busy_hosts()]
        if self._failure is not None:
            status, why = self._failure
            if status == "interrupted":
                why = self._progress(table) or why
            return status, (why, *in_order([*known, *collected]))
        known += self._negative(table)
        reasons = [*known, *collected]
        if self.collected is not None:
            found = [*collected, *_wrong(groups)]
            # Who drives the repetitions knows better why a sample is not as it should be.
            if self.benchmark is None or self.benchmark.driver is None or not found:
                found += _unanswered(table, self.noun)
            reasons = [*known, *found, *self._emulation(), *self._differences(table, expected)]
        return ("degraded" if reasons else "done"), in_order(reasons)

    def _negative(self, table: pa.Table | None) -> list[Reason]:
        """A reason for times below 0, which no mean holds, where one clock cannot make them."""
        if table is None or self.application is None or not self.capabilities.one_clock:
            return []
        found = statistics.negative(table, quantities=self.application.quantities())
        if not found:
            return []
        named = ", ".join(f"{count} of {name}" for name, count in found.items())
        return [
            Reason(
                code=Code.CLOCK,
                sentence=f"{sum(found.values())} times are below 0, and left out of means: {named}",
                figures={**found},
            )
        ]

    def _emulation(self) -> list[Reason]:
        """Reasons for which links were not as declared while requests crossed them."""
        if self.collected is None or not self.collected.link_series:
            return []
        series = samples.link_series_table(self.collected.link_series)
        stalls = [
            (begin_ns, end_ns)
            for each in self.collected.shared
            for begin_ns, end_ns, _ in each.share.stalls
        ]
        longest_ms = max((end_ns - begin_ns for begin_ns, end_ns in stalls), default=0) / 1e6
        return link_series.reasons(link_series.totals(series, stalls), longest_ms)

    def _differences(
        self, table: pa.Table | None, expected: tuple[Expectation, ...]
    ) -> list[Reason]:
        """Figures not as the model has them. Those that are made up are not, and need not be."""
        if self.capabilities.made_up or table is None or not self._has_endpoints:
            return []
        return [*expectation.reasons(expected), *steadiness.reasons(table, self._all_servers())]

    @property
    def _has_endpoints(self) -> bool:
        return self.benchmark is not None and self.benchmark.driver is None

    def _progress(self, table: pa.Table | None) -> Reason | None:
        """An interrupted run's progress in all its requests; None when only endpoints know."""
        if table is None or self.benchmark is None or self.application is None:
            return None
        loads = [run.load for repetition in self.benchmark.repetitions for run in repetition]
        if not loads or any(self.application.expected_requests(load) is None for load in loads):
            return None
        made = table["warmup"].to_pylist().count(False)
        planned = sum(load.requests[1] for load in loads)
        return Reason(
            code=Code.INTERRUPTED,
            sentence=f"interrupted after {made} of {planned} {self.noun}s",
            figures={"made": made, "planned": planned},
        )

    def _record(self, table: pa.Table | None, taken: bytes | None) -> Run:
        experiment = self.loaded.experiment
        resolved = experiment.model_dump(mode="json", by_alias=True, exclude_none=True)
        benchmark = experiment.benchmark
        seed = benchmark.seed if benchmark else 1
        groups = self._groups(table)
        expected = self._expectation(table, seed)
        unstalled, stalled = (None, 0) if table is None else host_share.without_stalls(table)
        status, reasons = self._status(table, groups, expected)
        return Run(
            run=self.folder.name,
            deployment=self.deployment.name,
            status=status,
            reasons=reasons,
            accept=self.accept,
            started=self.started,
            finished=_now(),
            versions=_versions(self.image_versions),
            host=host_facts(),
            hashes={
                "experiment": _hash(json.dumps(resolved, sort_keys=True) + _digests(experiment)),
                "plan": _hash(to_json(self.plan)),
                "image": self.plan.image,
                **self._arrivals_hash(),
                **({recount.SAMPLES: recount.digest(taken)} if taken is not None else {}),
            },
            seeds=self._seeds(seed),
            clock=Clock(
                one_clock=self.capabilities.one_clock,
                readings=tuple(self.collected.clocks) if self.collected else (),
            ),
            provider=self.plan.provider,
            emulator=self.emulator,
            tcp=self.tcp,
            made_up=self.capabilities.made_up,
            quota_covers=self.capabilities.quota_covers,
            machines=tuple(
                MachineRecord(
                    name=spec.name,
                    tier=spec.tier,
                    address=spec.address,
                    cores=spec.cores,
                    quota=spec.quota,
                    memory=spec.memory,
                    ssh=(
                        ""
                        if self.removed or not self.capabilities.ssh
                        else self.deployment.ssh_command(spec.name)
                    ),
                    host=spec.host,
                    isolation=self.isolation.get(spec.name, ""),
                )
                for spec in self.plan.machines
            ),
            limits=tuple(LimitRecord(**asdict(each)) for each in self.limits),
            workers=self._workers(),
            endpoints=self._endpoints(),
            links=tuple(
                LinkRecord(
                    source=link.source,
                    destination=link.destination,
                    delay_ms=link.settings.delay_ms,
                    jitter_ms=link.settings.jitter_ms,
                    loss_percent=link.settings.loss_percent,
                    rate_mbit=link.settings.rate_mbit,
                    queue_bytes=link.settings.queue_bytes,
                )
                for link in self.plan.network.links
            ),
            link_check_seconds=None if self.link_seconds is None else round(self.link_seconds, 1),
            noun=self.noun,
            table=groups,
            expectation=expected,
            baseline=self._baseline(),
            loads=self._loads(table, interrupted=status == "interrupted"),
            experiment=resolved,
            experiment_text=self.loaded.source_text,
            experiment_file=str(self.loaded.path or ""),
            remove="" if self.removed else f"continuum down {self.deployment.name}",
            cluster="" if self.removed else self.deployment.cluster_command(),
            logs=tuple(self._all_logs()),
            notes=(*self.loaded.notes, *self._notes),
            functions=self._functions(),
            starts=tuple(
                StartRecord(**asdict(each))
                for each in (self.collected.starts if self.collected else ())
            ),
            host_share=self._host_share(),
            unstalled=self._groups(unstalled),
            stalled=stalled,
        )

    def _busy_hosts(self) -> Iterator[Reason]:
        """Reasons for which figures are those of a host rather than of the experiment."""
        driven = self.benchmark is not None and self.benchmark.driver is not None
        return host_share.reasons(self._host_share(), may_saturate=driven)

    def _host_share(self) -> tuple[HostShareRecord, ...]:
        return tuple(host_share.record(each) for each in self._shared())

    def _functions(self) -> FunctionsRecord | None:
        found = openfaas.access(self.loaded.experiment, self.plan)
        if found is None:
            return None
        if self.removed:
            return FunctionsRecord(distribution=found.distribution)
        return FunctionsRecord(
            distribution=found.distribution,
            gateway=found.url,
            user=names.USER,
            credentials=openfaas.password_command(self.deployment.name),
        )

    @property
    def noun(self) -> str:
        """What one sample is."""
        return self.application.noun if self.application else Run.model_fields["noun"].default

    def _groups(self, table: pa.Table | None) -> tuple[Group, ...]:
        if table is None or self.application is None:
            return ()
        benchmark = self.loaded.experiment.benchmark
        # Pods wait for as long as their application says.
        waits = benchmark.answer_timeout if benchmark and self.noun == "request" else None
        return statistics.aggregate(
            table, quantities=self.application.quantities(), answer_timeout=waits
        )

    def _seeds(self, seed: int) -> dict[str, int]:
        if self.benchmark is None:
            return {}
        each = {
            f"{run.endpoint.name}, repetition {run.load.repetition}": run.load.seed
            for repetition in self.benchmark.repetitions
            for run in repetition
        }
        return {"benchmark": seed, **each}

    def _arrivals_hash(self) -> dict[str, str]:
        """Of the times that endpoints were given, where they are a file's: it may change later."""
        runs = self.benchmark.repetitions[0] if self.benchmark else ()
        given = [str(run.load.offsets_ns) for run in runs if run.load.arrivals == "file"]
        return {"arrivals": _hash("".join(given))} if given else {}

    def _workers(self) -> tuple[WorkerRecord, ...]:
        if self.benchmark is None:
            return ()
        return tuple(
            WorkerRecord(
                name=worker.name,
                machine=worker.machine,
                cpu=process.cpu,
                memory=process.memory,
                servers=self._servers(worker),
            )
            for worker, process in self.benchmark.workers
        )

    def _endpoints(self) -> tuple[EndpointRecord, ...]:
        if self.benchmark is None:
            return ()
        return tuple(
            EndpointRecord(
                name=run.endpoint.name,
                machine=run.endpoint.machine,
                cpu=run.process.cpu,
                memory=run.process.memory,
                worker=run.endpoint.worker.name if run.endpoint.worker else None,
                servers=None if run.endpoint.worker else self._servers(run.endpoint),
            )
            for run in self.benchmark.repetitions[0]
        )

    def _servers(self, worker: Worker | Endpoint) -> int | None:
        return None if self.application is None else self.application.servers(worker)

    def _loads(self, table: pa.Table | None, *, interrupted: bool) -> tuple[LoadRecord, ...]:
        benchmark = self.loaded.experiment.benchmark
        if table is None or benchmark is None or not self._has_endpoints:
            return ()
        servers = self._all_servers()
        return loads.loads(table, servers, benchmark.duration, interrupted=interrupted)

    def _expectation(self, table: pa.Table | None, seed: int) -> tuple[Expectation, ...]:
        if table is None or self.benchmark is None or self.application is None:
            return ()
        if not self._has_endpoints:
            return ()
        endpoints = [run.endpoint for run in self.benchmark.repetitions[0]]
        ways = {
            each.name: transfer.way_over(
                self.plan.network.links,
                each.address,
                *((each.worker.gateway,) if each.worker and each.worker.gateway else ()),
                each.worker.address if each.worker else each.address,
            )
            for each in endpoints
        }
        functions = self.loaded.experiment.workers_as_functions
        transport = (
            self.application.function_transport() if functions else self.application.transport()
        )
        return expectation.expect(
            table,
            expectation.Network(ways, transport, self._clocks(endpoints)),
            servers=self._all_servers(),
            baselines=self._baseline(),
            seed=seed,
        )

    def _clocks(self, endpoints: list[Endpoint]) -> dict[str, tuple[float, float]]:
        """By how many ms the clock of each endpoint's worker is ahead, at least and at most."""
        if self.capabilities.one_clock or self.collected is None:
            return {}
        ahead = {
            each.name: between(self.collected.clocks, each.machine, each.worker.machine)
            for each in endpoints
            if each.worker and each.worker.machine != each.machine
        }
        return {name: (error.low, error.high) for name, error in ahead.items()}

    def _baseline(self) -> tuple[Baseline, ...]:
        """The time that programs take where no link is crossed."""
        return tuple(self.collected.baseline) if self.collected else ()

    def _all_servers(self) -> dict[str, int | None]:
        """Requests that each worker, or endpoint without one, works on at a time."""
        return {
            each.name: each.servers
            for each in (*self._workers(), *self._endpoints())
            if not (isinstance(each, EndpointRecord) and each.worker)
        }


def _unanswered(table: pa.Table | None, noun: str) -> list[Reason]:
    """Samples that are not as they should be, after the warm-up."""
    if table is None:
        return []
    rows = [
        status
        for status, warmup in zip(
            table["status"].to_pylist(), table["warmup"].to_pylist(), strict=True
        )
        if not warmup
    ]
    words = {
        "lost": "got no answer",
        "timeout": "were answered too late",
        "error": "ended in an error",
    }
    found = [
        Reason(
            code=Code.UNANSWERED,
            sentence=f"{rows.count(status)} of {len(rows)} {noun}s {said}",
            figures={status: rows.count(status), "of": len(rows)},
        )
        for status, said in words.items()
        if rows.count(status)
    ]
    return found if rows else [Reason(code=Code.UNANSWERED, sentence=f"no {noun} was made")]


def _wrong(groups: tuple[Group, ...]) -> list[Reason]:
    """Results that are not the right ones."""
    whole = next((group for group in groups if group.kind == "all"), None)
    if whole is None or whole.agreed == whole.judged:
        return []
    wrong = whole.judged - whole.agreed
    return [
        Reason(
            code=Code.WRONG_RESULTS,
            sentence=f"{wrong} of {whole.judged} results are not the right ones",
            figures={"wrong": wrong, "of": whole.judged},
        )
    ]


def _versions(image: dict[str, str]) -> dict[str, str]:
    return {
        "continuum": version(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "ansible-core": metadata.version("ansible-core"),
        **image,
    }


def _digests(experiment: Experiment) -> str:
    """A text that differs for another secret, "" without any; nobody can guess by it."""
    return "".join(Secret(each).digest(digest_key()) for each in texts(experiment))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
