"""Where logs are, by one name: of machines, units, pods and functions; and all of them at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from continuum import state_file
from continuum.errors import ContinuumError
from continuum.machine import Command
from continuum.parallel import for_each
from continuum.software.managers.kubernetes.kubeadm import ADMIN
from continuum.software.serverless.names import FUNCTION_LABEL, FUNCTIONS

if TYPE_CHECKING:
    from pathlib import Path

    from continuum.machine import Machine

Kind = Literal["machine", "unit", "pod", "function"]

_KUBECTL = ("/usr/local/bin/kubectl", f"--kubeconfig={ADMIN}")
_WORKER = "app.kubernetes.io/name"
_OURS = "continuum-"
_SERVICE = ".service"
_OF_THE_SYSTEM = ("systemd-", "user@", "user-runtime-dir@", "getty@", "console-getty", "init.")
_FIELDS = ("_SYSTEMD_UNIT", "UNIT")
"""Units that said something, and those that only systemd said something about."""
_SEARCH_LIMIT = 20.0
_TAKE_LIMIT = 20.0
FOLLOW_LIMIT = 86400.0
"""Seconds after which following a log ends."""

MOST_LINES = 5000
MOST_BYTES = 1_000_000
"""Of each log that is kept with a run's results."""
MOST_PODS = 50
"""Whose logs are kept with a run's results: each is asked for by itself."""


@dataclass(frozen=True)
class Log:
    """One log.

    Attributes:
        kind: what writes it.
        name: by which a person asks for it.
        machine: on which it is read: a pod's on the control machine.
        where: the machine that it comes from, for a pod that of its node; "" when that is not known.
        part: the unit, or `NAMESPACE/POD`; "" for a whole machine.
        others: more names by which it is found.
    """

    kind: Kind
    name: str
    machine: str
    where: str
    part: str = ""
    others: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Tells it from all others."""
        return self.where if self.kind == "machine" else f"{self.where or '?'}/{self.name}"

    def answers_to(self, word: str) -> bool:
        """Whether a person means it by this word, `NAME` or `MACHINE/NAME`."""
        machine, separator, name = word.partition("/")
        if separator and self.kind != "machine" and machine == self.where:
            word = name
        return word == self.name or word in self.others

    def command(self, lines: int = 0, *, follow: bool = False, since: float = 0.0) -> Command:
        """What shows it: the last `lines`, 0 for all; from a Unix time on, 0 for the beginning."""
        limit = FOLLOW_LIMIT if follow else _TAKE_LIMIT
        if self.kind in {"pod", "function"}:
            namespace, _, pod = self.part.partition("/")
            arguments = (
                *(*_KUBECTL, "logs", pod, f"--namespace={namespace}", "--all-containers"),
                f"--tail={lines or -1}",
                *(("--follow",) if follow else ()),
            )
            return Command(arguments, timeout=limit, only_reads=True)
        arguments = (
            *("journalctl", "--no-pager", "--quiet", "--output=short-iso-precise"),
            *((f"--unit={self.part}",) if self.part else ()),
            *((f"--lines={lines}",) if lines else ()),
            *((f"--since=@{since:.0f}",) if since else ()),
            *(("--follow",) if follow else ()),
        )
        return Command(arguments, timeout=limit, only_reads=True)


def of_machine(machine: str, unit: str = "") -> Log:
    """The log of a machine, or of one of its units, whether there is such a unit or not."""
    if not unit:
        return Log("machine", machine, machine, machine)
    full = unit if "." in unit else f"{unit}{_SERVICE}"
    short = full.removesuffix(_SERVICE)
    name = short.removeprefix(_OURS)
    others = tuple(dict.fromkeys(each for each in (short, full, unit) if each != name))
    return Log("unit", name, machine, machine, full, others)


def units_of(machine: str, listed: str) -> list[Log]:
    """The logs of a machine's services, from the names that its journal knows, one a line."""
    names = sorted({line.strip() for line in listed.splitlines() if line.strip()})
    return [of_machine(machine, name) for name in names if name.endswith(_SERVICE)]


def pods_of(control: str, items: Iterable[Mapping[str, Any]]) -> list[Log]:
    """The logs of pods, by their own names and by those of the worker or the function in them."""
    found = []
    for item in items:
        about = item["metadata"]
        labels = about.get("labels", {})
        name, namespace = about["name"], about["namespace"]
        function = labels.get(FUNCTION_LABEL) if namespace == FUNCTIONS else None
        worker = labels.get(_WORKER)
        kind: Kind = "function" if function else "pod"
        first = function or name
        others = tuple(each for each in (name, worker) if each and each != first)
        where = item.get("spec", {}).get("nodeName", "")
        found.append(Log(kind, first, control, where, f"{namespace}/{name}", others))
    return sorted(found, key=lambda log: (log.name, log.part))


def is_of_the_system(log: Log) -> bool:
    """Whether it is one that every machine has, and that seldom is what a person looks for."""
    return log.kind == "unit" and log.part.startswith(_OF_THE_SYSTEM)


@dataclass(frozen=True)
class Found:
    """All logs that there are, and why those of some machines are not known."""

    logs: tuple[Log, ...]
    problems: Mapping[str, str]

    def meant(self, word: str) -> list[Log]:
        """Those that a person means by a word; a machine's own name comes first."""
        machines = [log for log in self.logs if log.kind == "machine" and log.name == word]
        return machines or [log for log in self.logs if log.answers_to(word)]


def control_machine(kubeconfig: Path, machines: Sequence[Machine]) -> str | None:
    """The machine that a deployment's cluster is spoken with on; None when it has no cluster."""
    text = state_file.undamaged(state_file.read_text(kubeconfig))
    if text is None:
        return None
    return next((each.name for each in machines if f"//{each.address}:" in text), None)


def find(machines: Sequence[Machine], control: str | None) -> Found:
    """Ask all machines, and the cluster where there is one, what has a log."""
    problems: dict[str, str] = {}

    def look(machine: Machine) -> list[Log]:
        found = [of_machine(machine.name)]
        try:
            found += units_of(machine.name, "".join(_units(machine, each) for each in _FIELDS))
            if machine.name == control:
                found += pods_of(control, _pods(machine))
        except ContinuumError as error:
            problems[machine.name] = error.message
        return found

    found = for_each(look, machines)
    return Found(tuple(log for logs in found for log in logs), problems)


def _units(machine: Machine, field: str) -> str:
    """Names that a field of the machine's journal has, one a line."""
    arguments = ("journalctl", "--quiet", "--no-pager", f"--field={field}")
    said = machine.run(Command(arguments, timeout=_SEARCH_LIMIT, only_reads=True)).stdout
    return said.decode("utf-8", "replace") + "\n"


def _pods(control: Machine) -> list[dict[str, Any]]:
    arguments = (*_KUBECTL, "get", "pods", "--all-namespaces", "--output=json")
    result = control.run(Command(arguments, timeout=_SEARCH_LIMIT, only_reads=True))
    try:
        items: list[dict[str, Any]] = json.loads(result.check().stdout)["items"]
    except (ValueError, KeyError, TypeError):
        return []
    return items


def take_all(machines: Sequence[Machine], control: str | None, since: float) -> dict[str, str]:
    """The end of every machine's log and of every pod's, by a file's name; from a Unix time on.

    What cannot be had is said in its place: this never fails.
    """
    by_name = {machine.name: machine for machine in machines}
    kept: dict[str, str] = {}
    silent: set[str] = set()

    def take(log: Log) -> None:
        name = f"machines/{log.machine}" if log.kind == "machine" else f"pods/{_file(log.part)}"
        if log.where in silent:
            # A cluster asks the node for long before it gives up.
            kept[name] = f"no log: {log.where} does not answer\n"
            return
        try:
            said = by_name[log.machine].run(log.command(MOST_LINES, since=since)).stdout
        except ContinuumError as error:
            kept[name] = f"no log: {error.message}\n"
            if log.kind == "machine":
                silent.add(log.machine)
            return
        if said.strip():
            kept[name] = bounded(said)

    for_each(take, [of_machine(machine.name) for machine in machines])
    if control is not None:
        try:
            for_each(take, pods_of(control, _pods(by_name[control]))[:MOST_PODS])
        except ContinuumError as error:
            kept["pods"] = f"no logs of pods: {error.message}\n"
    return dict(sorted(kept.items()))


def _file(part: str) -> str:
    return part.replace("/", "_")


def bounded(said: bytes, most: int = MOST_BYTES) -> str:
    """The last bytes of a log, whole lines, and how much is left out."""
    if len(said) <= most:
        return said.decode("utf-8", "replace")
    end = said[-most:]
    rest = end[end.find(b"\n") + 1 :]
    return f"({len(said) - len(rest)} bytes before this are left out)\n" + rest.decode(
        "utf-8", "replace"
    )
