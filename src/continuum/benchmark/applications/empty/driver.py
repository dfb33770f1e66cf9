"""One repetition: take earlier pods away, ask for new ones, follow them, gather what logs say.

While pods come up nothing is asked of the cluster: the audit log, a file, tells how far they are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from continuum import interruption
from continuum.benchmark import resources
from continuum.benchmark.applications.empty import containerd_log, timeline
from continuum.benchmark.applications.empty.audit_log import AuditLog
from continuum.benchmark.applications.empty.containerd_log import NodeLife
from continuum.benchmark.applications.empty.pods import Asked, Wish, ask, namespace
from continuum.benchmark.applications.empty.timeline import Call, Seen
from continuum.benchmark.contract import RUN_FOLDER, Driver
from continuum.errors import ContinuumError, NotFound, StepFailed, TimedOut
from continuum.images.recipe import RUNTIME_FOLDER
from continuum.machine import Command
from continuum.parallel import for_each
from continuum.reasons import Code
from continuum.software.managers.kubernetes.audit import NAMESPACE
from continuum.software.managers.kubernetes.kubeadm import AUDIT_LOG
from continuum.software.managers.kubernetes.kubectl import Kubectl

if TYPE_CHECKING:
    from continuum.benchmark.execute import Collected, Run
    from continuum.events import Step
    from continuum.machine import Machine

FOLDER = f"{RUN_FOLDER}/pods"
"""On the control machine: objects and calls."""

BEFORE = 1.0
"""Seconds for which resources are noted before the first call."""
READY_LIMIT = 60.0
"""Seconds until a namespace has its service account, and until the machines note resources."""
CLEAR_LIMIT = 120.0
"""Seconds until all pods are gone."""
CALL_SECONDS = 5.0
"""That a call of kubectl may take on average."""
LOOK_INTERVAL = 0.5
"""Seconds between looks at the audit log."""
GATHER_LIMIT = 60.0
ANSWER_LIMIT = 20.0
"""Seconds for logs to be read, and for the control plane to say that it is there."""
_LONGEST_SAID = 300


@dataclass(frozen=True)
class PodDriver(Driver):
    """Repetitions of `empty`.

    Attributes:
        control: the machine of the control plane.
        wish: the pods.
        limit: seconds after the last call until a pod that is not ready counts as lost.
    """

    control: str
    wish: Wish
    limit: float
    machines: tuple[str, ...] = field(init=False)
    lines: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "machines", (self.control, *self.wish.machines))
        object.__setattr__(self, "lines", _lines(self.wish))

    def drive(self, run: Run, repetition: int, collected: Collected, step: Step) -> None:
        """Carry out one repetition.

        Raises:
            ContinuumError: it could not begin.
        """
        _Repetition(self, run, repetition, collected, step).carry_out()

    def clear(self, run: Run) -> None:
        """Stop what notes resources, and ask for all pods to go; a repetition waits for that.

        Raises:
            ContinuumError: a machine or the control plane does not answer.
        """

        def stop(name: str) -> None:
            run.endpoint_model.stop_all(run.machines[name], (resources.process(name, 1, 0),))
            if name == self.control:
                _take_away_pods(Kubectl(run.machines[name]))

        for_each(stop, self.machines)


def _lines(wish: Wish) -> tuple[str, ...]:
    places = _counted(len(wish.machines), "machine")
    how = {
        "pod": "by one Job",
        "container": "in one pod on each machine",
        "file": "each in a file of its own, by one call",
        "call": "each by a call of its own",
    }
    limits = [
        f"{wish.cpu:g} cores" if wish.cpu is not None else "",
        f"{wish.memory / 2**20:g} MiB" if wish.memory is not None else "",
    ]
    may_use = " and ".join(each for each in limits if each) or "what there is"
    return (
        f"{_counted(wish.total, wish.noun)} on {places}, {how[wish.deployment]}",
        f"each may use {may_use}, and ends after {wish.sleep:g} s",
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _take_away_pods(kubectl: Kubectl) -> None:
    kubectl.run(
        *("delete", "jobs,pods", "--all", f"--namespace={NAMESPACE}"),
        *("--ignore-not-found", "--wait=false"),
    ).check("the control plane does not take the pods away")


def _await(holds: Callable[[], bool], limit: float, what: str) -> None:
    until = time.monotonic() + limit
    while not holds():
        if time.monotonic() > until:
            raise TimedOut(f"waited {limit:g} s for {what}")
        interruption.pause(LOOK_INTERVAL)


class _Repetition:
    """One repetition under way."""

    def __init__(
        self, driver: PodDriver, run: Run, repetition: int, collected: Collected, step: Step
    ) -> None:
        self.driver, self.run, self.repetition = driver, run, repetition
        self.collected, self.step = collected, step
        self.control = run.machines[driver.control]
        self.asked: Asked = ask(driver.wish, repetition)
        self.log = AuditLog(NAMESPACE)
        self.offset = 0
        self.calls: list[Call] = []
        self.waited = 0.0
        self.notes = [
            resources.process(name, repetition, self._longest + 60) for name in driver.machines
        ]

    @property
    def _longest(self) -> float:
        """Seconds that all calls, and the wait after them, may take."""
        return self._calls_limit + self.driver.limit

    @property
    def _calls_limit(self) -> float:
        return 60 + CALL_SECONDS * len(self.asked.calls)

    def carry_out(self) -> None:
        """All of it."""
        self.step.progress("preparing")
        self._prepare()
        began = time.time()
        try:
            self._ask()
            self._follow()
        except ContinuumError as error:
            self.collected.because(Code.PODS, error.message)
            self.collected.logs[f"pods-{self.repetition}"] = f"{error.where}\n{error.output}\n"
        finally:
            self.step.progress("collecting what the logs say")
            self._stop_notes()
            self._collect(began)

    def _prepare(self) -> None:
        kubectl = Kubectl(self.control)
        kubectl.apply([namespace()])

        def admits_pods() -> bool:
            accounts = kubectl.get("serviceaccounts", namespace=NAMESPACE)
            return any(each["metadata"]["name"] == "default" for each in accounts)

        def is_empty() -> bool:
            return not kubectl.get("pods", namespace=NAMESPACE)

        _await(admits_pods, READY_LIMIT, f"namespace {NAMESPACE} to take pods")
        _take_away_pods(kubectl)
        self.step.progress("waiting until earlier pods are gone")
        _await(is_empty, CLEAR_LIMIT, f"the pods of namespace {NAMESPACE} to be gone")
        for name, text in self.asked.files.items():
            self.control.put(text.encode(), f"{self._folder}/{name}")
        config = {
            "calls": self.asked.arguments(self._folder),
            "limit": self._calls_limit,
        }
        self.control.put(json.dumps(config).encode(), self._config)
        self.offset = self._size_of_log()
        for_each(self._start_notes, range(len(self.notes)))
        interruption.pause(BEFORE)

    @property
    def _folder(self) -> str:
        return f"{FOLDER}/{self.repetition}"

    @property
    def _config(self) -> str:
        return f"{FOLDER}/calls-{self.repetition}.json"

    def _size_of_log(self) -> int:
        size = self.control.run(Command(("stat", "--format=%s", AUDIT_LOG))).check(
            "the API server keeps no audit log, from which the pods' times are read",
            hint=f"continuum up --recreate makes the cluster of {self.run.deployment.name} anew",
        )
        return int(size.text)

    def _start_notes(self, index: int) -> None:
        spec = self.notes[index]
        self.run.endpoint_model.start(self.run.machines[spec.machine], spec)

    def _ask(self) -> None:
        wish = self.driver.wish
        self.step.progress(f"asking for {wish.total} {wish.noun}s")
        arguments = ("python3", "-m", "continuum_runtime.calls", self._config)
        done = self.control.run(
            Command(
                arguments,
                environment={"PYTHONPATH": RUNTIME_FOLDER},
                timeout=self._calls_limit + 30,
            )
        )
        self.calls = _calls(done.text)
        done.check("not everything could be asked for")

    def _follow(self) -> None:
        """Wait until nothing more can happen, or the limit."""
        wish = self.driver.wish
        began = time.monotonic()
        failed = {number for number, call in enumerate(self.calls) if call.failed}
        while True:
            self._read_on()
            places = timeline.places(wish, self.asked, self.log.pods)
            over = sum(
                place.call in failed
                or place.call >= len(self.calls)
                or timeline.is_over(place, self.log.pods)
                for place in places
            )
            self.step.progress(f"{over} of {wish.total} {wish.noun}s ready", over / len(places))
            self.waited = time.monotonic() - began
            if over == len(places) or self.waited > self.driver.limit:
                return
            interruption.pause(LOOK_INTERVAL)

    def _read_on(self) -> None:
        """Read what the audit log has got since the last look."""
        more = self.control.run(
            Command(("tail", f"--bytes=+{self.offset + 1}", AUDIT_LOG), timeout=GATHER_LIMIT)
        ).check("the audit log cannot be read")
        self.offset += len(more.stdout)
        self.log.feed(more.stdout)

    def _stop_notes(self) -> None:
        def stop(index: int) -> None:
            spec = self.notes[index]
            machine = self.run.machines[spec.machine]
            try:
                self.run.endpoint_model.stop(machine, spec)
                content = machine.get(resources.output_file(self.repetition))
            except NotFound:
                content = b""
            except ContinuumError as error:
                self.collected.because(Code.MACHINE, f"{machine.name} is gone: {error.message}")
                return
            self.collected.resources += [
                {
                    "run": self.run.name,
                    "repetition": self.repetition,
                    "machine": machine.name,
                    **row,
                }
                for row in resources.parse(content)
            ]

        for_each(stop, range(len(self.notes)))

    def _collect(self, began: float) -> None:
        """Rows of what is known, and the reasons that follow from it."""
        whole = True
        try:
            self._read_on()
        except ContinuumError as error:
            self.collected.because(Code.PODS, error.message)
            whole = False
        nodes = for_each(lambda name: self._node(name, began), self.driver.wish.machines)
        seen = Seen(self.calls, self.log.pods, nodes, whole)
        wish = self.driver.wish
        reasons = timeline.reasons(wish, self.asked, seen, self.waited)
        if reasons:
            self._look_at_control_plane()
        for reason in reasons:
            self.collected.because(Code.PODS, reason)
        for row in timeline.rows(wish, self.asked, seen):
            self.collected.rows.append(
                {
                    "run": self.run.name,
                    "repetition": self.repetition,
                    "endpoint": self.driver.control,
                    **row,
                }
            )

    def _look_at_control_plane(self) -> None:
        """Not every pod is ready: is there still someone who could bring it up?"""
        try:
            Kubectl(self.control).run("get", "--raw=/readyz", limit=ANSWER_LIMIT).check(
                "the control plane does not answer any more"
            )
        except ContinuumError as error:
            self.collected.because(Code.PODS, error.message)

    def _node(self, name: str, began: float) -> NodeLife:
        machine: Machine = self.run.machines[name]
        try:
            log = machine.run(
                Command(
                    (
                        *("journalctl", "--unit=containerd", "--no-pager", "--output=cat"),
                        f"--since=@{int(began) - 1}",
                    ),
                    timeout=GATHER_LIMIT,
                )
            ).check()
        except ContinuumError as error:
            self.collected.because(Code.PODS, f"{name} does not tell of its pods: {error.message}")
            return NodeLife()
        return containerd_log.read(log.stdout.decode("utf-8", "replace"), NAMESPACE)


def _calls(output: str) -> list[Call]:
    """The calls that were made, in order.

    Raises:
        StepFailed: the output is not what `continuum_runtime.calls` prints.
    """
    try:
        lines = [json.loads(line) for line in output.splitlines()]
        return [
            Call(
                int(line["asked_ns"]),
                int(line["ended_ns"]),
                line["status"],
                " ".join(str(line["said"]).split())[-_LONGEST_SAID:],
            )
            for line in lines
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise StepFailed("it cannot be read what was asked for", output=output[-2000:]) from error
