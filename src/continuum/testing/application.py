"""The contract test of applications.

An author of an application inherits it in a test module of their own:

    class TestMine(ApplicationContract):
        application_type = Mine
        settings = {"size": 3}

pytest then finds the inherited tests. They run the application's processes on this host, without
machines: what `continuum.testing.local` says of that holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError

from continuum.benchmark.contract import RUN_FOLDER, Application, Endpoint, Load, Worker
from continuum.benchmark.sample_lines import STATUSES, TIMES
from continuum.experiment.model import Benchmark, Experiment, Tier
from continuum.images.recipe import Recipe, Tree
from continuum.testing.local import LocalHost, run_repetition

if TYPE_CHECKING:
    from pathlib import Path

    from continuum.software.contract import ProcessSpec


class ApplicationContract:
    """What every application keeps.

    Attributes:
        application_type: the class under test.
        settings: for it, as in an experiment's file.
        answers_itself: whether endpoints without a worker are part of the application.
        needs_worker: whether endpoints with a worker are.
    """

    application_type: ClassVar[type[Application]]
    settings: ClassVar[Mapping[str, Any]] = {}
    answers_itself: ClassVar[bool] = True
    needs_worker: ClassVar[bool] = True

    # -- what an author may change ---------------------------------------------------------------

    def application(self) -> Application:
        """A new instance."""
        kind = self.application_type
        return kind(kind.settings_type.model_validate(dict(self.settings)))

    def unfit(self) -> tuple[Experiment, ...]:
        """Experiments that the application must refuse, beside one without endpoints."""
        return ()

    @contextmanager
    def surroundings(self, application: Application, folder: Path) -> Iterator[None]:
        """What must be there while processes run, as a broker; may change the application."""
        del application, folder
        yield

    def experiment(self, *, itself: bool = False, endpoints: int = 2) -> Experiment:
        """An experiment that fits: one worker machine, or endpoints that answer themselves."""
        tiers = {"endpoint": Tier(machines=endpoints)}
        if not itself:
            tiers["edge"] = Tier(machines=1)
        benchmark = Benchmark(
            application=self.application_type.name, workers="endpoint" if itself else "edge"
        )
        return Experiment(name="contract", tiers=tiers, benchmark=benchmark)

    # -- configure -------------------------------------------------------------------------------

    def test_unknown_settings_are_refused(self) -> None:
        """Settings are checked, and a slip of the pen is found."""
        unknown = {**self.settings, "no_such_setting": 1}
        places: list[tuple[int | str, ...]] = []
        try:
            self.application_type.settings_type.model_validate(unknown)
        except ValidationError as error:
            places = [each["loc"] for each in error.errors()]
        assert ("no_such_setting",) in places

    def test_fits(self) -> None:
        """It takes what it says that it takes."""
        for itself in self._placements():
            assert self.application().skip(self.experiment(itself=itself)) is None

    def test_says_why_it_does_not_fit(self) -> None:
        """A reason is one line of words."""
        without = self.experiment(itself=not self.needs_worker, endpoints=0)
        for experiment in (without, *self.unfit()):
            reason = self.application().skip(experiment)
            assert reason, f"took {experiment}"
            assert reason == reason.strip()
            assert "\n" not in reason

    def test_installs_the_same_each_time(self) -> None:
        """Equal needs make equal images: trees are told apart by name and by their inputs."""
        steps = self.application().install()
        again = self.application().install()
        trees = [(step.name, step.inputs) for step in steps if isinstance(step, Tree)]
        assert trees == [(step.name, step.inputs) for step in again if isinstance(step, Tree)]
        first, second = Recipe.collect(steps), Recipe.collect(again)
        assert (first.packages, first.python, first.units) == (
            second.packages,
            second.python,
            second.units,
        )

    def test_services_are_names(self) -> None:
        """Services are named, none twice."""
        for itself in self._placements():
            services = self.application().services(self.experiment(itself=itself))
            assert all(isinstance(name, str) and name for name in services)
            assert len(set(services)) == len(services)

    def test_plans_without_looking_around(self) -> None:
        """The same worker, endpoint and load make the same process; another seed another."""
        for itself in self._placements():
            worker, endpoints = _placed(itself=itself)
            load = _load(endpoints[0], repetition=1)
            if worker is not None:
                assert self.application().worker(worker, endpoints) == self.application().worker(
                    worker, endpoints
                )
            planned = self.application().endpoint(endpoints[0], load)
            assert planned == self.application().endpoint(endpoints[0], load)
            assert planned != self.application().endpoint(
                endpoints[0], _load(endpoints[0], repetition=2)
            )

    def test_processes_keep_to_their_machine_and_folder(self) -> None:
        """Names, limits and paths are as the benchmark needs them."""
        application = self.application()
        for itself in self._placements():
            worker, endpoints = _placed(itself=itself)
            if worker is not None:
                spec = application.worker(worker, endpoints)
                _check_process(spec, worker)
            names = set()
            for endpoint in endpoints:
                load = _load(endpoint, repetition=1)
                spec = application.endpoint(endpoint, load)
                _check_process(spec, endpoint)
                assert spec.ready_file == f"{load.folder}/ready"
                names.add((spec.machine, spec.name))
            assert len(names) == len(endpoints)

    def test_columns_are_its_own(self) -> None:
        """No column is called as one that every sample has; every sample gets all of them."""
        from continuum.benchmark.samples import SCHEMA  # noqa: PLC0415  slow to import

        application = self.application()
        names = application.columns().names
        assert not set(names) & set(SCHEMA.names)
        assert set(application.complete({"sequence": 0, "status": "lost"})) == set(names)

    # -- processes -------------------------------------------------------------------------------

    def test_every_request_is_answered(self, tmp_path: Path) -> None:
        """All requests of the load, each once, in order of time, the warm-up marked."""
        for itself in self._placements():
            application, _, endpoints = self._ready(itself=itself)
            folder = tmp_path / ("itself" if itself else "worker")
            folder.mkdir()
            with self.surroundings(application, folder), LocalHost(folder) as host:
                host.install(application.install())
                loads = {each: _load(each, repetition=1) for each in endpoints}
                samples = run_repetition(host, application, loads)
            for endpoint, load in loads.items():
                _check_samples(samples[endpoint.name], load)
                self.check_samples(samples[endpoint.name])

    def check_samples(self, samples: list[dict[str, Any]]) -> None:
        """What an author knows of the samples of one endpoint that worked; nothing here."""

    def test_ends_in_time_without_a_worker(self, tmp_path: Path) -> None:
        """An endpoint that never gets an answer ends, and no request counts as answered."""
        if not self.needs_worker:
            return
        application, _, endpoints = self._ready(itself=False)
        with self.surroundings(application, tmp_path), LocalHost(tmp_path) as host:
            host.install(application.install())
            loads = {each: _load(each, repetition=1) for each in endpoints[:1]}
            samples = run_repetition(host, application, loads, with_workers=False, may_fail=True)
        assert all(sample["status"] != "ok" for sample in samples[endpoints[0].name])

    def _placements(self) -> tuple[bool, ...]:
        return (False,) * self.needs_worker + (True,) * self.answers_itself

    def _ready(self, *, itself: bool) -> tuple[Application, Worker | None, tuple[Endpoint, ...]]:
        worker, endpoints = _placed(itself=itself)
        return self.application(), worker, endpoints


def _placed(*, itself: bool) -> tuple[Worker | None, tuple[Endpoint, ...]]:
    local = "127.0.0.1"
    worker = None if itself else Worker("worker-1", 1, "edge-1", local, 1.5, 2**30)
    endpoints = tuple(
        Endpoint(f"endpoint-{number}", number, f"endpoint-{number}", local, 0.5, 2**29, worker)
        for number in (1, 2)
    )
    return worker, endpoints


def _load(endpoint: Endpoint, repetition: int) -> Load:
    return Load(
        repetition=repetition,
        seed=1000 * repetition + endpoint.number,
        frequency=12.5,
        warmup=0.4,
        duration=0.8,
        answer_timeout=3.0,
        folder=f"{RUN_FOLDER}/{endpoint.name}-{repetition}",
        arrivals="poisson" if endpoint.number == 2 else "periodic",
    )


def _check_process(spec: ProcessSpec, whose: Worker | Endpoint) -> None:
    assert spec.machine == whose.machine
    assert spec.cpu == whose.cpu
    assert spec.memory == whose.memory
    assert spec.arguments
    paths = [*spec.files]
    paths += [path for path in (spec.ready_file, spec.output, spec.working_directory) if path]
    assert all(path.startswith("/") for path in paths), paths


def _check_samples(samples: list[dict[str, Any]], load: Load) -> None:
    warmup, requests = load.requests
    ordered = sorted(samples, key=lambda sample: int(sample["sequence"]))
    assert [sample["sequence"] for sample in ordered] == list(range(warmup + requests))
    assert [sample["warmup"] for sample in ordered] == [True] * warmup + [False] * requests
    for sample in ordered:
        assert sample["status"] in STATUSES
        assert sample["status"] == "ok", sample
        assert sample["intended_ns"] is not None
        assert sample["answered_ns"] is not None
        times = [sample[name] for name in TIMES if sample[name] is not None]
        assert times == sorted(times), sample
    due = load.offsets_ns or [round(each * 1e9 / load.frequency) for each in range(len(ordered))]
    for sample, offset in zip(ordered, due, strict=True):
        into = sample["intended_ns"] - ordered[0]["intended_ns"]
        assert abs(into - (offset - due[0])) <= 1, sample
