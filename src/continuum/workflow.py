"""The pipeline itself: from a loaded experiment to machines, software, a benchmark and a report.

    plan ──▶ up: image, network, machines ─▶ software ─▶ links
         ──▶ run: up ─▶ check links ─▶ workers, endpoints, samples ─▶ results, report ─▶ (down)

Every verb of the command line is one function here. Nothing here prints.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from continuum import existing, folders, interruption, lock, origin, plugins, state_file
from continuum.artifacts.store import ArtifactStore
from continuum.benchmark import configure as benchmark_configure
from continuum.deployment import Deployment
from continuum.errors import (
    ContinuumError,
    Interrupted,
    LinksOutOfTolerance,
    NotFound,
    NotPossibleHere,
    StepFailed,
    UsageError,
)
from continuum.images.recipe import ContainerImages, Recipe
from continuum.images.runtime import runtime_tree
from continuum.infrastructure import configure as infrastructure_configure
from continuum.infrastructure import execute as infrastructure_execute
from continuum.infrastructure import proofs, time_source
from continuum.infrastructure.configure import Change, Surroundings
from continuum.infrastructure.links import capacity as link_capacity
from continuum.live import LiveRun, Teller
from continuum.reasons import Code
from continuum.secret import shown
from continuum.software import configure as software_configure
from continuum.software import execute as software_execute
from continuum.software.serverless import distribution
from continuum.software.services import grafana

if TYPE_CHECKING:
    from continuum.benchmark.configure import BenchmarkPlan
    from continuum.benchmark.contract import Application
    from continuum.benchmark.execute import Collected
    from continuum.benchmark.observation import Observation
    from continuum.benchmark.reasons import Reason
    from continuum.benchmark.results import Run
    from continuum.events import Events, Step
    from continuum.experiment.load import Loaded
    from continuum.experiment.model import Experiment
    from continuum.images.recipe import InstallStep
    from continuum.infrastructure.links.check import LinkMeasurement, Traffic
    from continuum.infrastructure.links.contract import LinkEmulator
    from continuum.infrastructure.links.tolerance import Tolerances
    from continuum.infrastructure.plan import InfrastructurePlan
    from continuum.infrastructure.proofs import LimitProof
    from continuum.infrastructure.providers.contract import Check, Provider
    from continuum.machine import Machine
    from continuum.recorder import Recorder
    from continuum.software.configure import SoftwarePlan
    from continuum.software.contract import ExecutionModel

LOGS_BEFORE = 5.0
"""Seconds before a run from which logs are kept: a machine's clock may be a little off."""

GRAFANA = "grafana"
CLOCK = "clock"
"""The service that sets the clocks of machines that do not share one."""


@dataclass(frozen=True)
class Plan:
    """What `up` and `run` will do; made without touching anything.

    `software` and `benchmark` are None when the experiment leaves that phase out. `first`: nothing
    of the deployment is known yet.
    """

    loaded: Loaded
    deployment: Deployment
    provider: Provider
    application: Application | None
    recipe: Recipe
    infrastructure: InfrastructurePlan
    software: SoftwarePlan | None
    benchmark: BenchmarkPlan | None
    changes: tuple[Change, ...]
    remarks: tuple[str, ...]
    first: bool

    @property
    def experiment(self) -> Experiment:
        """The experiment that this plan carries out."""
        return self.loaded.experiment


@dataclass(frozen=True)
class Up:
    """A deployment that is up, and what was changed to get it there."""

    plan: Plan
    machines: tuple[Machine, ...]
    changes: tuple[Change, ...]

    @property
    def deployment(self) -> Deployment:
        """The deployment."""
        return self.plan.deployment


@dataclass(frozen=True)
class Outcome:
    """A run that ended: its results folder, and what `run.json` says (`record`). `removed`: also down.

    `misplaced`: why the folder is not the one that was asked for; "" when it is.
    """

    folder: Path
    record: Run
    deployment: Deployment
    removed: bool
    misplaced: str = ""


class RunInterrupted(KeyboardInterrupt):
    """A signal ended a run; its results are written."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


# -- plan ----------------------------------------------------------------------------------------


def plan(loaded: Loaded, events: Events, *, look_at_links: bool = False) -> Plan:
    """Configure all three phases.

    `look_at_links`: also say whether links have gone. `up` sets them without asking, and tells
    what it changed: to look before would be to look twice.

    Raises:
        NotPossibleHere: valid, but not on this host or with this version.
    """
    experiment = loaded.experiment
    if loaded.not_runnable:
        raise NotPossibleHere(
            "; ".join(dict.fromkeys(loaded.not_runnable)),
            where=str(loaded.path or ""),
            hint="continuum validate shows what runs; --provider lxc runs a file on containers",
        )
    if loaded.misfit is not None:
        misfit = loaded.misfit
        place = f"{misfit.file}:{misfit.line}" if misfit.line else misfit.file
        raise NotPossibleHere(misfit.message, where=place, hint=misfit.hint)
    deployment = Deployment.named(experiment.name)
    deployment.refuse_damage()
    _find_out_version(experiment, events)
    before = infrastructure_execute.stored_plan(deployment)
    provider = _provider(experiment, before, events)
    application = _application(experiment)
    services = _services_needed(experiment, application, provider)
    if grafana.belongs_to(experiment, deployment):
        services[GRAFANA] = ()
    recipe = _recipe(experiment, application, services)
    if before is not None and before.provider != provider.name:
        before = None  # `up` removes what the other provider made; nothing of it is kept.
    kept = next(iter(before.network.tiers.values()), None) if before else None
    surveyed = provider.survey()
    infrastructure = infrastructure_configure.configure(
        experiment,
        Surroundings(
            deployment=deployment.name,
            identity=deployment.identity,
            image=provider.image_fingerprint(recipe),
            host_cores=os.cpu_count() or 1,
            blocks_in_use=provider.foreign_blocks(deployment, before.network if before else None),
            block_user=provider.block_user,
            kept_block=str(kept[0]) if kept else None,
            kept_size=kept.num_addresses if kept else 0,
            block_preferred=loaded.block_is_a_wish,
            host_time=CLOCK in software_configure.service_names(experiment, services),
            existing=provider.existing(deployment, experiment),
            hosts=surveyed.hosts,
            rooms=surveyed.rooms,
            kept_hosts=infrastructure_configure.kept_hosts(before, surveyed.hosts),
            mtu=surveyed.mtu,
        ),
        shown(provider.settings.model_dump(mode="json")),
    )
    provider.refuse(deployment, infrastructure)
    states = {state.name: state.state for state in provider.states(deployment)} if before else {}
    former = before
    if former is not None and provider.capabilities.made_up:
        # Machines on paper are the same, whatever is set for their world.
        former = replace(former, settings=infrastructure.settings)
    changes = infrastructure_configure.changes(former, states, infrastructure)
    if not changes and not infrastructure_execute.is_whole(deployment):
        changes.append(Change("update", deployment.name, "the last `up` did not get to its end"))
    if not changes and look_at_links:
        changes += _links_that_went(deployment, infrastructure, provider)
    return Plan(
        loaded=loaded,
        deployment=deployment,
        provider=provider,
        application=application,
        recipe=recipe,
        infrastructure=infrastructure,
        software=(
            software_configure.configure(experiment, infrastructure, services)
            if experiment.software is not None or experiment.benchmark is not None
            else None
        ),
        benchmark=(
            benchmark_configure.configure(experiment, infrastructure, application)
            if application is not None
            else None
        ),
        changes=tuple(changes),
        remarks=(
            *infrastructure_configure.other_addresses(experiment, infrastructure),
            *provider.remarks(experiment, infrastructure),
            *provider.caveats(infrastructure),
            *_link_remarks(infrastructure, provider),
            *_host_limits(provider, infrastructure),
            *software_configure.left_out(experiment),
            *distribution.notes(experiment),
            *grafana.left_out(experiment, deployment),
        ),
        first=before is None,
    )


def _link_remarks(infrastructure: InfrastructurePlan, provider: Provider) -> list[str]:
    """Limits on how the links are emulated; nothing where none really are."""
    if provider.capabilities.made_up:
        return []
    return link_capacity.remarks(infrastructure, own_kernels=provider.capabilities.own_kernels)


def _links_that_went(
    deployment: Deployment, infrastructure: InfrastructurePlan, provider: Provider
) -> Iterator[Change]:
    """Network and links of a deployment that is up are part of what it should be."""
    for lack in existing.network_missing(deployment, infrastructure, provider):
        yield Change("update", "network", lack)
    missing = existing.missing_links(deployment, infrastructure, provider)
    if missing:
        asked = len(infrastructure.network.links)
        yield Change("update", "links", f"{len(missing)} of {asked} are not in force")


def _look_for_grafana(loaded: Loaded, deployment: Deployment, events: Events) -> None:
    """What begins to collect metrics has Grafana where it can be had."""
    if loaded.obstacles or not grafana.may_be_added(loaded.experiment, deployment):
        return
    kind: type[Provider] = plugins.load("providers", loaded.experiment.infrastructure.provider)
    if not kind.capabilities.made_up:
        grafana.look_for(events)


def _find_out_version(experiment: Experiment, events: Events) -> None:
    """Have the version of Kubernetes known: where it must be looked up, that is told, and kept."""
    if experiment.software is not None and experiment.in_a_cluster:
        ArtifactStore(events).version("kubernetes", experiment.software.kubernetes.version)


def _provider(
    experiment: Experiment, before: InfrastructurePlan | None, events: Events
) -> Provider:
    """The experiment's provider, over several hosts where it has them, or had them `before`."""
    kind: type[Provider] = plugins.load("providers", experiment.infrastructure.provider)
    provider = kind(kind.settings_type.model_validate(experiment.infrastructure.settings), events)
    former = before.hosts if before is not None and before.provider == provider.name else ()
    if not experiment.hosts and not former:
        return provider
    if provider.capabilities.made_up:
        events.note("hosts are not used: the machines are made up")
        return provider
    if not provider.capabilities.several_hosts:
        raise NotPossibleHere(
            f'provider "{provider.name}" makes machines on this host only',
            where="hosts",
            hint="take the hosts out, or use provider lxc",
        )
    from continuum.infrastructure.hosts import several  # noqa: PLC0415  few experiments have them

    return several.over(
        provider,
        several.hosts_of(experiment),
        former=former,
        this_host=experiment.infrastructure.this_host or not experiment.hosts,
    )


def _application(experiment: Experiment) -> Application | None:
    if experiment.benchmark is None:
        return None
    kind: type[Application] = plugins.load("applications", experiment.benchmark.application)
    return kind(kind.settings_type.model_validate(experiment.benchmark.settings))


def _services_needed(
    experiment: Experiment, application: Application | None, provider: Provider
) -> dict[str, tuple[str, ...]]:
    """Names of the machines that need each service for the application's or the clocks' sake."""
    needed: dict[str, tuple[str, ...]] = {}
    if application is not None:
        needed |= dict.fromkeys(application.services(experiment), experiment.worker_machines)
    if not provider.capabilities.one_clock and (application or experiment.software):
        needed[CLOCK] = ()
    return needed


def _recipe(
    experiment: Experiment,
    application: Application | None,
    services: dict[str, tuple[str, ...]],
) -> Recipe:
    steps: list[InstallStep] = [runtime_tree()]
    if experiment.software is not None or application is not None:
        steps += software_configure.install_steps(experiment, services)
    if application is not None:
        steps += application.install()
        carried = benchmark_configure.worker_image(experiment, application)
        if carried is not None:
            steps.append(ContainerImages((carried,)))
    return Recipe.collect(steps)


# -- up and down ---------------------------------------------------------------------------------


def up(
    loaded: Loaded,
    events: Events,
    *,
    recreate: bool = False,
    yes: bool = False,
    take_over: bool = False,
) -> Up:
    """Bring the experiment's machines, software and links up; what is right already stays.

    `recreate`: make all machines anew. `yes`: machines may be replaced or removed. `take_over`: the
    deployment may be another file's.

    Raises:
        UsageError: the deployment is another file's, or machines would be lost, and nobody said yes.
    """
    deployment = Deployment.named(loaded.experiment.name)
    with _changing(deployment, loaded, events, take_over=take_over):
        _look_for_grafana(loaded, deployment, events)
        return _up(plan(loaded, events), events, recreate=recreate, yes=yes)


@contextmanager
def _changing(
    deployment: Deployment, loaded: Loaded, events: Events, *, take_over: bool
) -> Iterator[None]:
    """Hold the deployment's lock; what was refused before it began leaves no folder."""
    deployment.refuse_damage()
    with deployment.journal.locked():
        folders.make_folder(deployment.folder, folders.PRIVATE_FOLDER)
        try:
            if not take_over:
                origin.refuse_other_file(deployment, loaded.path)
            former = origin.renamed_from(deployment, loaded.path)
            if former is not None:
                events.note(
                    f'deployment "{deployment.name}" was brought up from {former}, which is gone: '
                    f"it belongs to {loaded.path} now"
                )
            yield
        finally:
            if {entry.name for entry in deployment.folder.glob("*")} <= {"lock", "logs"}:
                lock.remove(deployment.folder)


def _up(todo: Plan, events: Events, *, recreate: bool, yes: bool) -> Up:
    deployment, provider = todo.deployment, todo.provider
    former = _another_provider(todo, events)
    os.environ.update(infrastructure_execute.past_proxies(todo.infrastructure, os.environ))
    if not recreate:
        _refuse_to_break_a_cluster(todo)
        if not yes:
            _refuse_to_destroy(todo)
    for remark in todo.remarks if todo.changes else ():
        events.note(remark)
    for change in () if todo.first else todo.changes:
        events.note(str(change))
    if former is not None:
        with events.step("infrastructure", f"remove machines of provider {former.name}"):
            former.destroy(deployment)
        deployment.kubeconfig.unlink(missing_ok=True)
    provider.leave_former(deployment)
    deployment.save_experiment(todo.experiment)
    origin.record(deployment, todo.loaded.path)
    if recreate:
        provider.destroy(deployment)
        deployment.kubeconfig.unlink(missing_ok=True)
    machines = infrastructure_execute.execute(
        deployment, todo.infrastructure, todo.recipe, provider, events
    )
    if not todo.experiment.in_a_cluster:
        deployment.kubeconfig.unlink(missing_ok=True)
    changes = list(todo.changes)
    if todo.software is not None and software_execute.execute(
        deployment,
        todo.experiment,
        todo.software,
        machines,
        events,
        ssh=provider.capabilities.ssh,
    ):
        named = ", ".join(dict.fromkeys(play.role for play in todo.software.plays))
        changes.append(Change("update", f"software ({named})", "the machines did not have it"))
    changed = infrastructure_execute.execute_links(
        deployment, todo.infrastructure, provider, events
    )
    if changed and not changes:
        changes.append(Change("update", "links", "they were not in force"))
    return Up(todo, tuple(machines), tuple(changes))


def _refuse_to_break_a_cluster(todo: Plan) -> None:
    """A machine that is replaced takes what it is in the cluster along: that has to be asked for.

    Also where the experiment has no cluster any more, or another provider.

    Raises:
        UsageError: machines of a cluster that has been up would be lost.
    """
    if not todo.deployment.kubeconfig.exists():
        return
    control = {todo.experiment.control_machine, _kept_control_machine(todo.deployment)}
    lost = [change for change in todo.changes if _breaks(change, control, whole=todo.first)]
    if lost:
        raise UsageError(
            f"{len(lost)} machines of a cluster would be replaced, and what runs on them lost",
            where=f'deployment "{todo.deployment.name}"',
            output="\n".join(map(str, lost)),
            hint="continuum up --recreate FILE makes the whole deployment anew",
        )


def losses(todo: Plan) -> list[Change]:
    """The changes by which machines are lost, with all that is on them."""
    before = _plan_of_another_provider(todo)
    if before is not None:
        return [
            Change("remove", each.name, f"provider {before.provider} made it")
            for each in before.machines
        ]
    return [change for change in todo.changes if change.action in {"replace", "remove"}]


def _refuse_to_destroy(todo: Plan) -> None:
    """Machines go, with what is on them, only where that was asked for.

    Raises:
        UsageError: some would.
    """
    lost = losses(todo)
    if lost:
        machines = f"{len(lost)} machine{'s' if len(lost) != 1 else ''}"
        raise UsageError(
            f"{machines} would be replaced or removed, and what is on them lost",
            where=f'deployment "{todo.deployment.name}"',
            output="\n".join(map(str, lost)),
            hint="the same command with --yes does it; continuum up --recreate FILE makes all anew",
        )


def _breaks(change: Change, control: set[str | None], *, whole: bool) -> bool:
    """Whether a change costs a cluster machines that it has; `whole`: nothing of it is kept."""
    if change.action == "create":
        return change.what != "links" and (whole or change.what in control)
    return change.action == "replace" or (change.action == "remove" and change.what in control)


def _kept_control_machine(deployment: Deployment) -> str | None:
    """The control plane's machine as the deployment was last brought up."""
    try:
        return deployment.experiment().control_machine
    except NotFound:
        return None


def _plan_of_another_provider(todo: Plan) -> InfrastructurePlan | None:
    """The plan of what is there, if another provider than the experiment's made it."""
    before = infrastructure_execute.stored_plan(todo.deployment)
    return None if before is None or before.provider == todo.provider.name else before


def _another_provider(todo: Plan, events: Events) -> Provider | None:
    """The provider that made what is there, if it is not the plan's.

    Raises:
        NotPossibleHere: it is not there, or may not act.
    """
    if _plan_of_another_provider(todo) is None:
        return None
    (former,) = existing.providers_of(todo.deployment, events)
    if not former.may_act():
        raise NotPossibleHere(
            f'deployment "{todo.deployment.name}" was made by provider {former.name}, '
            "whose machines only root can remove",
            hint=f"continuum down {todo.deployment.name}, then the same command again",
        )
    return former


def down(names: Sequence[str], events: Events, *, all_: bool = False) -> list[str]:
    """Remove deployments with all that belongs to them; returns their names.

    Raises:
        NotFound: there is no such deployment, or none at all.
    """
    known = [deployment.name for deployment in Deployment.all()]
    leftovers = existing.leftovers(events)
    # What a killed `down` left is removed as soon as the lock is taken.
    unseen = [*leftovers, *Deployment.half_removed()]
    wanted = list(dict.fromkeys([*known, *unseen] if all_ else names))
    if not wanted and not all_:
        raise NotFound("no deployment named", hint=f"there are: {', '.join(known) or 'none'}")
    failed: list[ContinuumError] = []
    for deployment in [
        Deployment.named(name)
        if all_ or name in unseen
        else Deployment.existing(name, damaged=True)
        for name in wanted
    ]:
        try:
            with deployment.journal.locked():
                if deployment.damage() is not None:
                    lock.remove(deployment.folder)  # A link goes; where it leads to stays.
                if deployment.folder.is_dir() or deployment.name in leftovers:
                    _down(deployment, events)
        except Interrupted:
            raise
        except OSError as error:
            problem = state_file.failure(error)
            if problem is None:
                raise
            failed.append(problem)
        except ContinuumError as error:
            failed.append(error)  # The others can be removed all the same.
    if failed:
        first, *more = failed
        first.message = "\n".join([first.message, *(error.message for error in more)])
        first.hint = "; ".join(dict.fromkeys(each.hint for each in failed if each.hint))
        raise first
    return wanted


def _down(deployment: Deployment, events: Events) -> None:
    with events.step("infrastructure", f"remove {deployment.name}", "machines to stop"):
        # Who cannot be had leaves all as it is, so that it can be removed whole later.
        made_by = existing.providers_of(deployment, events)
        software_execute.end_leftovers(deployment)
        time_source.stop(deployment.identity)
        for provider in made_by:
            provider.destroy(deployment)
        lock.remove(deployment.folder)


# -- run -----------------------------------------------------------------------------------------


def run(  # noqa: PLR0913  one parameter per option of the command line
    loaded: Loaded,
    events: Events,
    *,
    results: Path,
    down: bool = False,
    accept: Sequence[str] = (),
    all_pairs: bool = False,
    yes: bool = False,
    take_over: bool = False,
) -> Outcome:
    """Bring up, check the links, run the benchmark, and write results and report.

    Once machines are up the folder `results`, see `results_folder`, is written, whatever happens
    then. `accept` are codes of reasons that are accepted as data, beside those of the experiment.
    `yes` and `take_over` as of `up`.

    Raises:
        LinksOutOfTolerance: unless `links` is accepted; what was measured is in the results folder.
        UsageError: nothing can be written there, or as of `up`.
        RunInterrupted: a signal ended it; the results hold what came before.
    """
    from continuum.recorder import Recorder  # noqa: PLC0415  slow to import

    deployment = Deployment.named(loaded.experiment.name)
    with _changing(deployment, loaded, events, take_over=take_over):
        _look_for_grafana(loaded, deployment, events)
        todo = plan(loaded, events)
        _try_to_write(results)
        ready = _up(todo, events, recreate=False, yes=yes)
        recorder = Recorder(
            folder=results,
            loaded=loaded,
            deployment=deployment,
            plan=todo.infrastructure,
            benchmark=todo.benchmark,
            application=todo.application,
            capabilities=todo.provider.capabilities,
            emulator=todo.provider.emulator_in_use(deployment, todo.infrastructure),
            accept=_accepted(loaded.experiment, accept),
            removed=down or loaded.experiment.infrastructure.delete,
            image_versions={
                **todo.provider.image_versions(todo.infrastructure),
                **software_configure.versions(loaded.experiment),
            },
        )
        recorder.isolation = todo.provider.isolation(deployment, todo.infrastructure)
        for remark in todo.provider.caveats(todo.infrastructure):
            recorder.note(remark)
        recorder.limits = proofs.load(deployment)
        for reason in _limits_not_shown(recorder.limits):
            recorder.because(reason)
        teller = _teller(recorder)
        try:
            _measure(ready, recorder, events, teller, all_pairs=all_pairs)
        except Exception as error:
            recorder.failed(
                error
                if isinstance(error, ContinuumError)
                else StepFailed(f"{type(error).__name__}: {error}")
            )
            _finish(recorder, events, teller, ready.machines)
            raise
        except KeyboardInterrupt:
            recorder.interrupted()
            _finish(recorder, events, teller, ready.machines)
            raise
        record = _finish(recorder, events, teller, ready.machines)
    outcome = Outcome(recorder.folder, record, deployment, recorder.removed, recorder.misplaced)
    if record.status == "interrupted":
        raise RunInterrupted(outcome)
    return outcome


def _limits_not_shown(limits: Iterable[LimitProof]) -> Iterator[Reason]:
    from continuum.benchmark.reasons import Reason  # noqa: PLC0415  slow to import

    for each in limits:
        if not each.final:
            figures: dict[str, float | str] = {
                "machine": each.machine,
                "limit": each.limit,
                "asked": each.asked,
            }
            if each.measured is not None:
                figures["measured"] = each.measured
            yield Reason(
                code=Code.LIMITS, sentence=f"a limit is not shown: {each}", figures=figures
            )


def _teller(recorder: Recorder) -> Teller:
    """Who tells the run to whoever watches it."""
    return Teller(
        recorder.deployment.folder,
        LiveRun(
            run=recorder.folder.name,
            results=str(recorder.folder),
            process=os.getpid(),
            began=time.time(),
            noun=recorder.noun,
            repetitions=len(recorder.benchmark.repetitions) if recorder.benchmark else 0,
            planned=recorder.benchmark.planned if recorder.benchmark else (0, 0),
            removed=recorder.removed,
            observed_on=recorder.loaded.experiment.observing_machine or "",
        ),
    )


def _tcp(ready: Up, recorder: Recorder) -> dict[str, str]:
    """The behaviour of TCP on the machines, as far as they tell."""
    try:
        return ready.plan.provider.tcp_in_force(ready.deployment, ready.plan.infrastructure)
    except ContinuumError as error:
        recorder.note(f"TCP's settings were not read back: {error.message}")
        return {}


def _accepted(experiment: Experiment, more: Sequence[str]) -> tuple[str, ...]:
    """Codes of reasons that are accepted as data, by the experiment or for this run."""
    benchmark = experiment.benchmark
    return tuple(dict.fromkeys((*(benchmark.accept if benchmark else ()), *more)))


def _measure(
    ready: Up, recorder: Recorder, events: Events, teller: Teller, *, all_pairs: bool
) -> None:
    recorder.tcp = _tcp(ready, recorder)
    began = time.monotonic()
    recorder.links = _check_links(ready, recorder, events, all_pairs=all_pairs)
    if recorder.links:
        recorder.link_seconds = time.monotonic() - began
    teller.tell(links=tuple(recorder.links))
    remark = ready.plan.provider.link_remark(ready.deployment, ready.plan.infrastructure)
    obstacles = ready.plan.provider.traffic_obstacles(ready.plan.infrastructure)
    _judge_links(recorder.links, obstacles, remark, recorder, events)
    if ready.plan.benchmark is not None:
        _benchmark(ready, recorder, events, teller)


def _finish(recorder: Recorder, events: Events, teller: Teller, machines: Sequence[Machine]) -> Run:
    """Write the results whatever happened; then remove the deployment if that was asked for."""
    _keep_logs(recorder, events, machines, teller.run.began)
    try:
        record = _write(recorder, events)
    except KeyboardInterrupt:
        # Of a run that has ended nobody should read that it was killed.
        teller.tell(status="interrupted")
        raise
    if recorder.misplaced:
        events.note(recorder.misplaced, "warning")
    teller.tell(
        status=record.status,
        reasons=tuple(map(str, record.reasons)),
        removed=recorder.removed,
        results=str(recorder.folder),
    )
    if recorder.removed:
        _down(recorder.deployment, events)
    return record


def _write(recorder: Recorder, events: Events) -> Run:
    """Write the results; who interrupts that has them all the same, and ends it the second time."""
    with interruption.held():
        recorder.load_writers()
        try:
            record = _write_once(recorder, events)
            if not interruption.take():
                return record
        except KeyboardInterrupt:
            if interruption.insisted():
                raise
        recorder.interrupted()
        return _write_once(recorder, events)


def _write_once(recorder: Recorder, events: Events) -> Run:
    with recorder.deployment.journal.step(
        events, "report", "results", waits_for="the report", needed=False
    ):
        return recorder.write()


def _keep_logs(
    recorder: Recorder, events: Events, machines: Sequence[Machine], since: float
) -> None:
    """Bring home what machines and pods said during the run; whatever comes of that, it goes on."""
    from continuum.software import logs  # noqa: PLC0415  slow to import

    deployment = recorder.deployment
    try:
        with deployment.journal.step(
            events, "report", "logs", waits_for="what the machines said", needed=False
        ) as step:
            control = logs.control_machine(deployment.kubeconfig, machines)
            recorder.logs = logs.take_all(machines, control, since - LOGS_BEFORE)
            step.changed = bool(recorder.logs)
    except ContinuumError as error:
        recorder.note(f"logs were not collected: {error.message}")
    except KeyboardInterrupt:
        recorder.interrupted()


def results_folder(name: str, asked: Path | None) -> Path:
    """The folder of a run that is to begin, not made yet.

    Raises:
        UsageError: the one that is asked for is there, and not empty.
    """
    if asked is None:
        now = dt.datetime.now(dt.UTC).strftime("%Y%m%d-%H%M%S")
        whole = Path("results").absolute() / f"{name}-{now}"
        others = (whole.with_name(f"{whole.name}-{number}") for number in itertools.count(2))
        return next(each for each in itertools.chain([whole], others) if not each.exists())
    folder = asked.absolute()
    if folder.is_dir() and not any(folder.iterdir()):
        return folder
    if folder.exists():
        raise UsageError(
            f"{asked} is there already and is not an empty folder", hint="name another --results"
        )
    return folder


def _try_to_write(folder: Path) -> None:
    """Find out before the run, not after it, whether there is a place for its results."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folders.make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"results cannot be written to {folder}: {error.strerror}",
            hint="name another --results",
        ) from error
    finally:
        for each in made:
            with suppress(OSError):
                each.rmdir()


def _check_links(
    ready: Up, recorder: Recorder, events: Events, *, all_pairs: bool
) -> list[LinkMeasurement]:
    todo = ready.plan
    if not todo.infrastructure.network.links:
        return []
    network = todo.experiment.network
    every = all_pairs or (network is not None and network.all_pairs)
    with todo.deployment.journal.step(
        events, "benchmark", "link check", waits_for="every directed link to be measured"
    ) as step:
        told = todo.provider.measure_links(todo.deployment, todo.infrastructure, all_pairs=every)
        if told is not None:
            return told
        from continuum.benchmark.host_share import LINK_CHECK, Shared  # noqa: PLC0415
        from continuum.infrastructure.host import share  # noqa: PLC0415
        from continuum.infrastructure.links import check  # noqa: PLC0415

        _await_settled(todo, recorder, step)
        answers = todo.provider.answer_delays(todo.infrastructure)
        if answers:
            recorder.note(
                f"machines take {min(answers.values()):.2g} to {max(answers.values()):.2g} ms to "
                "answer when they are idle (half the round trip): so much of both machines of a "
                "link is within the tolerance of its delay"
            )
        watches = todo.provider.host_watches(todo.deployment, todo.infrastructure)
        with share.watched(watches, events.note) as shares:
            measured = check.check(
                ready.machines,
                todo.infrastructure,
                all_pairs=every,
                tolerances=_tolerances(todo.experiment),
                traffic=_traffic(todo),
                host_mbit=_host_mbit(todo),
                stalls=share.StallsSoFar(watches),
                clocks=check.Clocks(
                    one=todo.provider.capabilities.one_clock,
                    answer_ms=answers,
                    by_kernel=todo.provider.capabilities.own_kernels
                    and not _delayed_on_arrival(recorder.emulator),
                ),
                progress=step.progress,
            )
        recorder.shared = [Shared(LINK_CHECK, each) for each in shares]
        return measured


def _await_settled(todo: Plan, recorder: Recorder, step: Step) -> None:
    """Wait for boots to settle, which would be measured along with the links."""
    from continuum.infrastructure.host import share  # noqa: PLC0415

    machines = todo.provider.consumers(todo.deployment, todo.infrastructure)
    still = share.await_settled(machines, step.progress)
    if still is not None:
        recorder.note(
            f"the machines had not settled when the links were measured: {share.SETTLING_LIMIT:g} s "
            f"after they came up they still used {100 * still:.0f} % of the host"
        )


def _tolerances(experiment: Experiment) -> Tolerances:
    """The smallest deviations of links that must be found."""
    from continuum.infrastructure.links.tolerance import Tolerances  # noqa: PLC0415

    network = experiment.network
    return Tolerances() if network is None else Tolerances(**network.check.model_dump())


def _traffic(todo: Plan) -> dict[tuple[str, str], Traffic] | None:
    """The traffic of the experiment itself from tier to tier; None when it cannot be said."""
    if todo.application is None or todo.experiment.workers_as_functions:
        return None
    from continuum.benchmark.traffic import traffic  # noqa: PLC0415

    return traffic(todo.experiment, todo.application)


def link_check_seconds(todo: Plan) -> float | None:
    """The duration of a run's link check with links that hold; None where nothing is measured."""
    if not todo.infrastructure.network.links or todo.provider.capabilities.made_up:
        return None
    from continuum.infrastructure.links import check  # noqa: PLC0415

    network = todo.experiment.network
    return check.expected_seconds(
        todo.infrastructure,
        all_pairs=network is not None and network.all_pairs,
        tolerances=_tolerances(todo.experiment),
        traffic=_traffic(todo),
    )


def _host_limits(provider: Provider, infrastructure: InfrastructurePlan) -> Iterator[str]:
    """Links faster than this host, as far as it was measured; `plan` itself measures nothing."""
    from continuum.infrastructure.links import host_rate  # noqa: PLC0415

    capabilities = provider.capabilities
    if not (capabilities.made_up or capabilities.own_kernels):
        remark = host_rate.remark(infrastructure.network.links)
        if remark:
            yield remark


def _host_mbit(todo: Plan) -> float | None:
    """The rate that this host can send without a link, where a link's could be beyond it."""
    from continuum.infrastructure.links import host_rate  # noqa: PLC0415

    capabilities = todo.provider.capabilities
    if capabilities.made_up or capabilities.own_kernels or todo.experiment.hosts:
        return None
    rates = [each.settings.rate_mbit or 0 for each in todo.infrastructure.network.links]
    return host_rate.measured() if max(rates) > host_rate.EASY_MBIT else None


def _delayed_on_arrival(name: str) -> bool:
    emulator: type[LinkEmulator] = plugins.load("emulators", name)
    return emulator.delays_at_receiver


def _judge_links(
    links: list[LinkMeasurement],
    obstacles: list[str],
    remark: str,
    recorder: Recorder,
    events: Events,
) -> None:
    from continuum.infrastructure.links import measurement  # noqa: PLC0415

    limited = [each for each in measurement.deciding(links) if each.verdict == "host limit"]
    if limited:
        recorder.note(
            f"this host cannot send the rate of {len(limited)} of its links even without a link: "
            + "; ".join(
                f"{each.from_machine} → {each.to_machine} {each.measured:.4g} of {each.asked:g} Mbit/s"
                for each in limited[: measurement.MOST_TOLD]
            )
        )
    if not measurement.outside(links):
        return
    error = LinksOutOfTolerance(
        measurement.sentence(links),
        where=str(recorder.folder),
        output="\n".join([*measurement.lines(links), *obstacles, *([remark] if remark else [])]),
        hint=(
            "let machines' packets through, as the last lines say, and run again"
            if obstacles
            else "run again when the host is less busy, or go on all the same with --accept links"
        ),
    )
    if Code.LINKS not in recorder.accept:
        raise error
    from continuum.benchmark.reasons import Reason  # noqa: PLC0415  slow to import

    recorder.because(
        Reason(code=Code.LINKS, sentence=error.message, figures=measurement.figures(links))
    )
    events.note(f"{error.message}; going on, as asked\n{error.output}", "warning")


def _benchmark(ready: Up, recorder: Recorder, events: Events, teller: Teller) -> None:
    """Hand the recorder what was collected, also what came before an error."""
    from continuum.benchmark import execute  # noqa: PLC0415  slow to import

    collected = execute.Collected()
    try:
        _repetitions(ready, teller, collected, events)
        recorder.collected = collected
    finally:
        if collected.rows:
            recorder.collected = collected
    if collected.interrupted:
        recorder.interrupted()


def _repetitions(ready: Up, teller: Teller, collected: Collected, events: Events) -> None:
    from continuum.benchmark import execute  # noqa: PLC0415  slow to import

    todo = ready.plan
    assert todo.benchmark is not None
    assert todo.application is not None
    software = todo.experiment.software
    worker_model: type[ExecutionModel] = plugins.load(
        "execution_models", software.execution_model if software else "process"
    )
    endpoint_model: type[ExecutionModel] = plugins.load("execution_models", "process")
    by_name = {machine.name: machine for machine in ready.machines}
    execute.execute(
        execute.Run(
            deployment=todo.deployment,
            plan=todo.benchmark,
            application=todo.application,
            machines=by_name,
            worker_model=worker_model(todo.experiment, by_name),
            endpoint_model=endpoint_model(todo.experiment, by_name),
            events=events,
            name=teller.run.run,
            teller=teller,
            own_clocks=not todo.provider.capabilities.one_clock,
            observation=_observation(ready, teller.run.run),
            missing_links=lambda: (
                existing.missing_links(todo.deployment, todo.infrastructure, todo.provider) or []
            ),
            link_windows=lambda since_ns, until_ns: todo.provider.link_windows(
                todo.deployment, todo.infrastructure, since_ns, until_ns
            ),
            nodes=todo.experiment.node_machines if todo.experiment.carries_containers else (),
            watches=todo.provider.host_watches(todo.deployment, todo.infrastructure),
        ),
        collected,
    )


def _observation(ready: Up, name: str) -> Observation | None:
    """How the run tells Prometheus of itself, where there is one."""
    observing = ready.plan.experiment.observing_machine
    if observing is None or not ready.plan.provider.capabilities.ssh:
        return None
    from continuum.benchmark.observation import Observation  # noqa: PLC0415  slow to import

    return Observation(
        run=name,
        machine=next(each for each in ready.machines if each.name == observing),
        machines={spec.name: spec for spec in ready.plan.infrastructure.machines},
    )


# -- the host ------------------------------------------------------------------------------------


def doctor(provider: str, events: Events, experiment: Experiment | None = None) -> list[Check]:
    """Try every prerequisite of a provider on this host, and on those that an experiment names."""
    if experiment is not None and experiment.hosts:
        return _provider(experiment, None, events).check()
    kind: type[Provider] = plugins.load("providers", provider)
    return kind(kind.settings_type(), events).check()
