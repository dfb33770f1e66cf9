"""Proofs of machines' limits: each is measured from inside a machine, as links are.

One machine of each tier on each host is measured, by `continuum_runtime.limit_probe`, when machines
have been made or started; what came of it is kept with the deployment. So a second `up` measures
nothing, but for what was not shown the first time.

A limit is proved where the machine was offered more and got as much as it was asked to get. Where
this host itself has no more to give, it is proved as far as that goes: the machine gets no more than
its limit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter

from continuum import state_file
from continuum.errors import NotPossibleHere, StepFailed
from continuum.experiment.units import show_bytes
from continuum.images.recipe import RUNTIME_FOLDER
from continuum.machine import Command
from continuum.parallel import for_each

if TYPE_CHECKING:
    from continuum.deployment import Deployment
    from continuum.infrastructure.plan import InfrastructurePlan, MachineSpec
    from continuum.infrastructure.providers.contract import Capabilities
    from continuum.machine import Machine

FILE = "limits.json"

Limit = Literal["cores", "cpu_pin", "memory", "disk_read", "disk_write"]
Verdict = Literal["holds", "at most", "not shown", "does not hold"]

ATTEMPTS = 3
"""Times that a limit is measured until it holds: a machine that has just booted is still at it."""

CORES_TOLERANCE = 0.1
DISK_TOLERANCE = 0.05
"""Shares of what was asked."""
TICK = 0.008
"""Seconds by which the kernel may be late to stop a machine whose quota is used up, and which it
takes off later: two ticks at 250 Hz. Over the time that is measured they are cores."""
WORK = 0.1
SHORTEST, LONGEST = 0.25, 1.0
"""Processor seconds that a quota is measured over, and seconds that this may take."""
DISK_SECONDS = 0.35
"""Version 1 and 2 of control groups let through what a tenth of a second may have at once; here
three times, from when what was saved is used up."""
PAGE = 64 * 2**10
"""Bytes by which a kernel may round memory."""
LEAST_MEMORY = 0.7
"""Share of its memory that a kernel of its own leaves to a machine, at least."""
BUSY_DISK = 0.5
"""Share of the time from which a disk counts as the one that held transfers up."""
BUSY_HOST = 0.1
"""Idle cores below which the host counts as what held them up."""
PROBE_TIMEOUT = 60.0


@dataclass(frozen=True)
class LimitProof:
    """The outcome of measuring one limit of one machine, and so of its tier on its host.

    Attributes:
        limit: `cores` and `cpu_pin` in cores, `memory` in bytes, `disk_read` and `disk_write` in
            bytes per second.
        measured: in the same unit; None where nothing could be measured.
        verdict: `holds`: as asked; `at most`: no more than asked, and the host had no more to give;
            `not shown`; `does not hold`.
        note: why it is not as asked.
    """

    machine: str
    tier: str
    host: str
    limit: Limit
    asked: float
    measured: float | None
    verdict: Verdict
    note: str = ""

    @property
    def final(self) -> bool:
        """Tell whether it need not be measured again."""
        return self.verdict in {"holds", "at most"}

    def __str__(self) -> str:
        measured = "nothing" if self.measured is None else show(self.limit, self.measured)
        said = f"{self.machine} {self.limit}: asked {show(self.limit, self.asked)}"
        return f"{said}, measured {measured}" + (f" ({self.note})" if self.note else "")


PROOFS = TypeAdapter(tuple[LimitProof, ...])


def show(limit: str, value: float) -> str:
    """A value with its unit, as a person reads it."""
    if limit == "memory":
        return show_bytes(round(value))
    if limit.startswith("disk"):
        return f"{value / 1e6:.4g} MB/s"
    return f"{value:.3g} cores"


# -- what is asked -------------------------------------------------------------------------------


def limits_of(spec: MachineSpec, capabilities: Capabilities) -> dict[Limit, float]:
    """The limits of a machine that its provider enforces."""
    limits: dict[Limit, float] = {}
    if "cores" in capabilities.limits:
        limits["cores"] = spec.cores * spec.quota
    if "cpu_pin" in capabilities.limits and spec.pinned_cores:
        limits["cpu_pin"] = len(spec.pinned_cores)
    if "memory" in capabilities.limits:
        limits["memory"] = spec.memory
    if "disk" in capabilities.limits:
        rates: dict[Limit, int | None] = {
            "disk_read": spec.disk_read,
            "disk_write": spec.disk_write,
        }
        limits |= {name: rate for name, rate in rates.items() if rate is not None}
    return limits


def task(limits: Mapping[Limit, float], capabilities: Capabilities) -> dict[str, Any]:
    """The task for `limit_probe` of measuring them."""
    own_kernel = {"own_kernel": capabilities.own_kernels}
    measures: dict[str, Any] = {}
    for limit, value in limits.items():
        if limit == "cores":
            measures[limit] = {"asked": value, "seconds": _seconds(value), **own_kernel}
        elif limit == "memory":
            measures[limit] = own_kernel
        elif limit != "cpu_pin":
            measures[limit] = {"rate": value, "seconds": DISK_SECONDS}
    return measures


def _seconds(cores: float) -> float:
    return min(LONGEST, max(SHORTEST, WORK / cores))


# -- what came of it -----------------------------------------------------------------------------


def judge(
    limit: Limit, value: float, answer: Mapping[str, Any], *, own_kernel: bool
) -> tuple[float | None, Verdict, str]:
    """Judge a limit: what was measured of it, the verdict, and why it is not as asked."""
    if limit in answer.get("failed", {}):
        return None, "not shown", str(answer["failed"][limit])
    if limit == "cpu_pin":
        measured = int(answer["available"])
        return measured, "holds" if measured == value else "does not hold", ""
    if limit == "cores":
        return _judge_cores(value, answer, own_kernel=own_kernel)
    if limit == "memory":
        return _judge_memory(value, answer["memory"], own_kernel=own_kernel)
    return _judge_disk(value, answer[limit], own_kernel=own_kernel)


def _judge_cores(
    value: float, answer: Mapping[str, Any], *, own_kernel: bool
) -> tuple[float, Verdict, str]:
    available = int(answer["available"])
    if "cores" not in answer:
        if available == value:
            return available, "holds", ""
        return available, "at most", f"there are {available}"
    used, spare = float(answer["cores"]["used"]), float(answer["cores"]["spare"])
    tolerance = max(CORES_TOLERANCE * value, TICK / _seconds(value))
    if used > value + tolerance:
        return used, "does not hold", ""
    if used >= value - tolerance:
        return used, "holds", ""
    if own_kernel or used + spare < value - tolerance:
        return used, "at most", "the host gave no more" if own_kernel else "the host was busy"
    return used, "not shown", f"while {spare:.2g} cores of the host were idle"


def _judge_memory(
    value: float, reading: Mapping[str, Any], *, own_kernel: bool
) -> tuple[float | None, Verdict, str]:
    measured, enforced = reading["bytes"], reading["enforced"]
    if measured is None:
        return None, "not shown", "no limit can be read in the machine"
    least = value * LEAST_MEMORY if own_kernel else value - PAGE
    if not least <= measured <= value:
        return measured, "does not hold", ""
    if enforced is None:
        return measured, "not shown", "no control group can be made in the machine to try it"
    if not enforced:
        return measured, "does not hold", "the kernel lets programs go beyond"
    return measured, "holds", ""


def _judge_disk(
    value: float, reading: Mapping[str, Any], *, own_kernel: bool
) -> tuple[float, Verdict, str]:
    rate = float(reading["rate"])
    if rate > value * (1 + DISK_TOLERANCE):
        return rate, "does not hold", ""
    if rate >= value * (1 - DISK_TOLERANCE):
        return rate, "holds", ""
    if own_kernel:
        return rate, "at most", "the host gave no more"
    if reading["busy"] >= BUSY_DISK:
        return rate, "at most", "the disk was busy"
    if reading["spare"] < BUSY_HOST:
        return rate, "at most", "the host was busy"
    return rate, "not shown", "and the disk was idle meanwhile"


# -- proving -------------------------------------------------------------------------------------


def load(deployment: Deployment) -> tuple[LimitProof, ...]:
    """The last proofs of the deployment's limits; empty when nothing that can be read is kept."""
    return state_file.kept(deployment.folder / FILE, PROOFS) or ()


def save(deployment: Deployment, proofs: Sequence[LimitProof]) -> None:
    """Keep them with the deployment."""
    deployment.write(FILE, json.dumps([asdict(each) for each in proofs], indent=1) + "\n")


def valid(
    plan: InfrastructurePlan,
    capabilities: Capabilities,
    before: Sequence[LimitProof],
    changed: Sequence[str],
) -> tuple[LimitProof, ...]:
    """Those of the former proofs that still count: `changed` are machines made or started since."""
    groups = _groups(plan)
    kept = {key for key, specs in groups.items() if not any(each.name in changed for each in specs)}
    limits = {
        key: limits_of(specs[0], capabilities) for key, specs in groups.items() if key in kept
    }
    return tuple(
        proof
        for proof in before
        if proof.final and limits.get((proof.tier, proof.host), {}).get(proof.limit) == proof.asked
    )


def pending(
    plan: InfrastructurePlan,
    capabilities: Capabilities,
    kept: Sequence[LimitProof],
    changed: Sequence[str],
) -> dict[str, dict[Limit, float]]:
    """The limits that are to be measured, by machine; in the plan's order."""
    machines = {}
    for (tier, host), specs in _groups(plan).items():
        proved = {each.limit for each in kept if (each.tier, each.host) == (tier, host)}
        spec = next((each for each in specs if each.name in changed), specs[0])
        limits = {
            limit: value
            for limit, value in limits_of(spec, capabilities).items()
            if limit not in proved
        }
        if limits:
            machines[spec.name] = limits
    return machines


def _groups(plan: InfrastructurePlan) -> dict[tuple[str, str], list[MachineSpec]]:
    """The machines that are made alike: by tier and host."""
    groups: dict[tuple[str, str], list[MachineSpec]] = {}
    for spec in plan.machines:
        groups.setdefault((spec.tier, spec.host), []).append(spec)
    return groups


def prove(
    plan: InfrastructurePlan,
    machines: Sequence[Machine],
    todo: Mapping[str, Mapping[Limit, float]],
    capabilities: Capabilities,
    progress: Callable[[str], None],
) -> list[LimitProof]:
    """Measure them, one machine of a host after the other: two would take from each other.

    Raises:
        MachineUnreachable: one of the machines does not run.
    """
    specs = {spec.name: spec for spec in plan.machines if spec.name in todo}
    by_name = {machine.name: machine for machine in machines}

    def of_host(host: str) -> list[LimitProof]:
        proofs: list[LimitProof] = []
        for spec in specs.values():
            if spec.host == host:
                progress(spec.name)
                proofs += _of_machine(by_name[spec.name], spec, todo[spec.name], capabilities)
        return proofs

    hosts = dict.fromkeys(spec.host for spec in specs.values())
    return [proof for proofs in for_each(of_host, hosts) for proof in proofs]


def _of_machine(
    machine: Machine,
    spec: MachineSpec,
    limits: Mapping[Limit, float],
    capabilities: Capabilities,
) -> list[LimitProof]:
    left = dict(limits)
    attempts: dict[Limit, list[LimitProof]] = {limit: [] for limit in limits}
    for attempt in range(1, ATTEMPTS + 1):
        answer = _ask(machine, task(left, capabilities))
        for limit, value in left.items():
            measured, verdict, note = judge(
                limit, value, answer, own_kernel=capabilities.own_kernels
            )
            attempts[limit].append(
                LimitProof(
                    machine=spec.name,
                    tier=spec.tier,
                    host=spec.host,
                    limit=limit,
                    asked=value,
                    measured=measured,
                    verdict=verdict,
                    note=note,
                )
            )
        # A busy host may have been so for a moment; what a guest is not given tells not even that.
        enough = capabilities.own_kernels or attempt > 1
        done = {"holds", "at most"} if enough else {"holds"}
        left = {
            limit: value
            for limit, value in left.items()
            if limit in answer and attempts[limit][-1].verdict not in done
        }
        if not left:
            break
    return [conclude(each) for each in attempts.values()]


def conclude(attempts: Sequence[LimitProof]) -> LimitProof:
    """The result of several attempts at one limit: the last, unless they contradict each other."""
    last = attempts[-1]
    if last.verdict == "holds":
        return last
    broken = [each for each in attempts if each.verdict == "does not hold"]
    if not broken or len(broken) == len(attempts):
        return last
    values = ", ".join(show(each.limit, each.measured or 0) for each in attempts)
    return replace(broken[-1], verdict="not shown", note=f"one after the other {values}")


def _ask(machine: Machine, asked_of_it: Mapping[str, Any]) -> dict[str, Any]:
    """The probe's answer; where it cannot be run, the failure of each limit."""
    command = Command(
        ("python3", "-m", "continuum_runtime.limit_probe"),
        input=json.dumps(asked_of_it).encode(),
        environment={"PYTHONPATH": RUNTIME_FOLDER},
        timeout=PROBE_TIMEOUT,
    )
    try:
        answer: dict[str, Any] = json.loads(machine.run(command).check().stdout)
    except (StepFailed, ValueError) as error:
        names = ("cores", "cpu_pin", "memory", "disk_read", "disk_write")
        return {"failed": dict.fromkeys(names, f"the probe did not run: {error}")}
    return answer


def refuse(proofs: Sequence[LimitProof]) -> None:
    """Raise when limits do not hold.

    Raises:
        NotPossibleHere: with each of them, what was asked and what was measured.
    """
    broken = [each for each in proofs if each.verdict == "does not hold"]
    if not broken:
        return
    raise NotPossibleHere(
        f"{len(broken)} of {len(proofs)} limits of machines do not hold on this host",
        where=", ".join(dict.fromkeys(each.machine for each in broken)),
        output="\n".join(map(str, broken)),
        hint="take them out of the file, or see `continuum doctor` for what this host can limit",
    )
