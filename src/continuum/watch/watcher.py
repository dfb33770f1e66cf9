"""Finds out what is to be seen: one conversation with each machine, kept while somebody watches.

Each machine answers one line every `INTERVAL` seconds (`continuum_runtime.live`): the lines that its
endpoint has written since, and what it takes of processor and memory. Nothing is started on machines
while nobody watches.
"""

from __future__ import annotations

import base64
import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from continuum import live, lock
from continuum.deployment import Deployment
from continuum.errors import ContinuumError
from continuum.images.recipe import RUNTIME_FOLDER
from continuum.infrastructure.execute import stored_plan
from continuum.infrastructure.ssh_machine import SshMachine
from continuum.machine import Command
from continuum.software.services import scraping
from continuum.watch import prometheus
from continuum.watch.figures import BUCKET_SECONDS, Look, Meter, Watched, streams_on
from continuum.watch.snapshot import Known, Snapshot, Source, snapshot

if TYPE_CHECKING:
    from continuum.infrastructure.plan import InfrastructurePlan
    from continuum.infrastructure.providers.contract import Provider
    from continuum.live import LiveRun
    from continuum.machine import Ask, Machine

INTERVAL = 2.0
"""Seconds between two looks at a machine."""

RETRY = 5.0
"""Seconds until a machine that did not answer is asked again."""

STATES_INTERVAL = 4.0
"""Seconds between two looks at which machines run."""

UNWATCHED = 20.0
"""Seconds after which nobody is thought to watch, who has not asked for a snapshot."""

STALE = 20.0
"""Seconds after which what Prometheus said last is not of now."""

_LONGEST = 7 * 86400.0
_CATCH_UP = 20
"""Answers that are taken at once from a machine whose file holds more than one answer does."""

LOOK = Command(
    ("python3", "-m", "continuum_runtime.live"),
    environment={"PYTHONPATH": RUNTIME_FOLDER},
    timeout=_LONGEST,
    only_reads=True,
)


@dataclass
class _Told:
    """What threads have found out of one deployment; hold `lock`."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    run: str = ""
    watched: Watched = field(default_factory=Watched)
    meters: dict[str, Meter] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    observed: prometheus.Figures | None = None
    observed_at: float = -math.inf


class Watcher:
    """Watches one deployment, or the one in which something happened last.

    Use it as a context; `look` gives a snapshot of what is known, and is called by whoever watches.
    """

    def __init__(self, name: str | None, providers: Callable[[Deployment], Provider]) -> None:
        """Begin nothing yet.

        Args:
            name: of the deployment; None for the one in which something happened last.
            providers: finds the provider that made a deployment.
        """
        self._name = name
        self._providers = providers
        self._one: _OneDeployment | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with self._lock:
            if self._one is not None:
                self._one.stop()

    def look(self) -> Snapshot:
        """What is to be seen now; safe from several threads."""
        with self._lock:
            deployment = self._wanted()
            one = self._one
            if deployment is not None and (one is None or one.is_another(deployment)):
                if one is not None:
                    one.stop()
                self._one = one = _OneDeployment(deployment, self._providers)
            if one is None or self._ended.is_set():
                return snapshot(Known(at=time.time()))
            return one.look()

    def _wanted(self) -> Deployment | None:
        """The deployment to be watched; None when there is none, or none any more."""
        if self._name is not None:
            found = Deployment.named(self._name)
            return found if found.folder.is_dir() else None
        there = Deployment.all()
        return max(there, key=_last_change, default=None)


def _last_change(deployment: Deployment) -> tuple[bool, float]:
    """A run comes first, then what was written down last."""
    run = live.read(deployment.folder)
    try:
        at = deployment.journal.path.stat().st_mtime
    except OSError:
        at = 0.0
    return run is not None and run.lasts, at


class _OneDeployment:
    """What is known of one deployment, and the threads that find it out."""

    def __init__(self, deployment: Deployment, providers: Callable[[Deployment], Provider]) -> None:
        self.deployment = deployment
        self._providers = providers
        self._told = _Told()
        self._stopped = threading.Event()
        self._asked = time.monotonic()
        self._threads: dict[str, threading.Thread] = {}
        self._plan: InfrastructurePlan | None = None
        self._provider: Provider | None = None
        self._states: dict[str, str] = {}
        self._states_at = -STATES_INTERVAL
        self._run: LiveRun | None = None
        self._made = _made(deployment)

    def is_another(self, deployment: Deployment) -> bool:
        """Whether that is not this one, or this one made anew."""
        return deployment.name != self.deployment.name or _made(deployment) != self._made

    def stop(self) -> None:
        """Let the threads end; the conversations end with this process at the latest."""
        self._stopped.set()

    def look(self) -> Snapshot:
        """What is to be seen now."""
        self._asked = time.monotonic()
        gone = not self.deployment.folder.is_dir()
        if not gone:
            self._find_out()
        run = self._run
        lasts = run is not None and run.lasts and not gone
        told = self._told
        entries = [] if gone else self.deployment.journal.entries()
        with told.lock:
            if run is not None and run.run != told.run:
                told.run, told.watched, told.observed = run.run, Watched(), None
            own = (
                told.watched.requests(
                    run.repetitions,
                    planned=run.planned[1],
                    interrupted=run.status == "interrupted",
                )
                if run
                else None
            )
            timeline = told.watched.timeline()
            usage = {name: meter.usage() for name, meter in told.meters.items()}
            problems = dict(told.problems)
            observed = told.observed if self._is_observed() or own is None else None
        source: Source = "samples" if own is not None else "none"
        if observed is not None:
            usage = {**usage, **observed.usage}
        if observed is not None and observed.requests is not None:
            source, own, timeline = "prometheus", observed.requests, observed.timeline
        return snapshot(
            Known(
                at=time.time(),
                deployment=self.deployment.name,
                provider=self._provider.name if self._provider else "",
                made_up=self._provider is not None and self._provider.capabilities.made_up,
                plan=self._plan,
                states=self._states,
                entries=entries,
                live=run,
                run_lasts=lasts,
                changing=not gone and _is_changed(self.deployment),
                gone=gone,
                usage=usage,
                problems={} if gone else problems,
                requests=own,
                timeline=timeline,
                point_seconds=scraping.INTERVAL if source == "prometheus" else BUCKET_SECONDS,
                source=source,
            )
        )

    def _find_out(self) -> None:
        """Read what lies in the deployment's folder, and have a thread for every machine."""
        self._run = live.read(self.deployment.folder) or self._run
        now = time.monotonic()
        if now - self._states_at < STATES_INTERVAL:
            return
        self._states_at = now
        plan = stored_plan(self.deployment)
        if plan is None:
            return
        if plan != self._plan:
            self._plan, self._provider = plan, self._providers(self.deployment)
        assert self._provider is not None
        try:
            states = self._provider.states(self.deployment)
        except ContinuumError:
            return  # Its host does not answer now.
        self._states = {state.name: state.state for state in states}
        try:
            machines = reachable(self.deployment, plan, self._provider)
        except ContinuumError:
            return
        for machine in machines:
            thread = self._threads.get(machine.name)
            if self._states.get(machine.name) == "running" and (
                thread is None or not thread.is_alive()
            ):
                self._begin(machine)

    def _is_observed(self) -> bool:
        """Whether Prometheus tells of the run that is under way, and all that is to be known."""
        run, told = self._run, self._told
        fresh = time.monotonic() - told.observed_at < STALE
        return (
            fresh
            and run is not None
            and run.lasts
            and run.run == told.run
            and told.observed is not None
            and told.observed.requests is not None
        )

    def _begin(self, machine: Machine) -> None:
        thread = threading.Thread(
            target=self._follow, args=(machine,), name=f"watch {machine.name}", daemon=True
        )
        self._threads[machine.name] = thread
        thread.start()

    # -- in the thread of one machine ------------------------------------------------------------

    def _follow(self, machine: Machine) -> None:
        """Talk with a machine until nobody watches, or it does not run any more."""
        while self._is_wanted():
            if not self._is_wanted(machine.name):
                self._stopped.wait(INTERVAL)
                continue
            try:
                with machine.converse(LOOK) as ask:
                    while self._is_wanted(machine.name):
                        began = time.monotonic()
                        self._ask(machine.name, ask)
                        self._stopped.wait(max(0.1, INTERVAL - (time.monotonic() - began)))
            except ContinuumError as error:
                self._problem(machine.name, error.message)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                self._problem(machine.name, f"what it says cannot be read: {error}")
            if self._states.get(machine.name) != "running":
                return
            self._stopped.wait(RETRY)

    def _is_wanted(self, machine: str = "") -> bool:
        """Whether somebody watches, and would learn something from this machine."""
        if self._stopped.is_set() or time.monotonic() - self._asked >= UNWATCHED:
            return False
        if not machine or not self._is_observed():
            return True
        return self._run is not None and self._run.observed_on == machine

    def _problem(self, machine: str, text: str) -> None:
        with self._told.lock:
            self._told.problems[machine] = text.partition("\n")[0][:200]

    def _ask(self, machine: str, ask: Ask) -> None:
        for _ in range(_CATCH_UP):
            if not self._ask_once(machine, ask):
                return

    def _ask_once(self, machine: str, ask: Ask) -> bool:
        """One question and its answer; whether there is more to be read at once."""
        run = self._run
        told = self._told
        with told.lock:
            watched = told.watched if run is not None and run.run == told.run else None
            tallies = (
                {stream.path: watched.tally(stream) for stream in streams_on(machine, run.streams)}
                if run is not None and watched is not None
                else {}
            )
        if self._is_observed():
            tallies = {}  # They are read when the run is over.
        asked: dict[str, Any] = {"files": {path: tally.offset for path, tally in tallies.items()}}
        if run is not None and run.lasts and run.observed_on == machine:
            asked["get"] = self._pages(run)
        answer = json.loads(ask(json.dumps(asked).encode() + b"\n"))
        more = False
        with told.lock:
            told.problems.pop(machine, None)
            if asked.get("get") and run is not None and run.run == told.run:
                figures = prometheus.figures(answer["got"], run)
                if figures is not None:
                    told.observed, told.observed_at = figures, time.monotonic()
            if answer["cpu_ns"] is not None:
                meter = told.meters.setdefault(machine, Meter())
                meter.read(Look(answer["at"], answer["cpu_ns"], answer["memory_bytes"]))
            for path, tally in tallies.items():
                read: Mapping[str, Any] = answer["files"].get(path, {})
                assert watched is not None
                content = base64.b64decode(read.get("data", ""))
                if read and read["from"] != tally.offset:
                    content = b""  # Not the file that it was: its run is over.
                watched.read(tally, content, answer["at"])
                tally.offset = read.get("offset", tally.offset)
                more = more or bool(read.get("more"))
        return more

    def _pages(self, run: LiveRun) -> list[str]:
        """What Prometheus is asked, unless it was asked just now."""
        if time.monotonic() - self._told.observed_at < scraping.INTERVAL - 0.5:
            return []
        plan = self._plan
        hosts = (
            [spec.address for spec in plan.machines if spec.name == run.observed_on] if plan else []
        )
        now = time.time()
        return prometheus.addresses(hosts[0], now, now - run.began) if hosts else []


def _made(deployment: Deployment) -> int | None:
    """Tells a folder from another of the same name that took its place."""
    try:
        return deployment.folder.stat().st_ino
    except OSError:
        return None


def _is_changed(deployment: Deployment) -> bool:
    """Whether a process holds the deployment's lock now.

    The kernel's list tells it: who tries the lock holds it for a moment, in which no run could begin.
    """
    try:
        node = lock.path(deployment.folder).stat().st_ino
        held = Path("/proc/locks").read_text()
    except OSError:
        return False
    return any(
        line.split()[1:2] == ["FLOCK"] and line.split()[5].rpartition(":")[2] == str(node)
        for line in held.splitlines()
    )


def reachable(
    deployment: Deployment, plan: InfrastructurePlan, provider: Provider
) -> Sequence[Machine]:
    """Handles of the machines that this process may use: by SSH where only root has another way."""
    if provider.may_act():
        return provider.machines(deployment, plan)
    if not provider.capabilities.ssh or not deployment.ssh_config.exists():
        return ()
    return [
        SshMachine(spec.name, spec.tier, spec.address, deployment.ssh_config)
        for spec in plan.machines
    ]
