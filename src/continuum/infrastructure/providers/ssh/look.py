"""Looks at machines that exist, and says why one of them will not do. Changes nothing."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from continuum.errors import ContinuumError, MachineUnreachable, NotPossibleHere
from continuum.infrastructure.providers.ssh import remote
from continuum.infrastructure.providers.ssh.connection import Entry
from continuum.infrastructure.providers.ssh.settings import SshSettings
from continuum.infrastructure.ssh_machine import SshMachine
from continuum.machine import Result
from continuum.parallel import for_each

LIMIT = 45.0
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Debian's names of the architectures that we generate for."""


@dataclass(frozen=True)
class Seen:
    """A machine that answered.

    Attributes:
        login: as who SSH logs in; another than root has sudo.
        architecture: as Debian calls it.
        python: version, as `3.11`.
        libc: version of glibc, as (2, 36); (0, 0) where it is another one.
        release: distribution and suite.
        address, device: by which SSH came, as the machine sees it, and the interface it is on.
        client: from where it came.
        memory: bytes.
        record: what `live_machine` wrote down there, None when nothing is there.
        names: what is ours in its table of names.
    """

    login: str
    architecture: str
    python: str
    libc: tuple[int, int]
    release: tuple[str, str]
    address: str
    device: str
    client: str
    cores: int
    memory: int
    record: Mapping[str, Any] | None
    names: str


@dataclass(frozen=True)
class Unfit:
    """Why a machine will not do; `unreachable` when it did not even answer."""

    message: str
    unreachable: bool = False
    output: str = ""
    hint: str = ""


def look(machines: Sequence[SshMachine]) -> list[Result | ContinuumError]:
    """What the machines say of themselves, all asked at once; or why they do not answer."""

    def one(machine: SshMachine) -> Result | ContinuumError:
        try:
            return remote.ask(machine, "probe", timeout=LIMIT)
        except ContinuumError as error:
            return error

    return for_each(one, machines, threads=64)


def judge(
    answer: Result | ContinuumError, entry: Entry, settings: SshSettings, identity: str
) -> Seen | Unfit:
    """What was seen of a machine, or why it will not do for the deployment of that identity."""
    where = f"{entry.name} ({entry.target})"
    if isinstance(answer, ContinuumError):
        return _silent(answer, where, entry, settings)
    if answer.exit_code == remote.OLD:
        wanted = ".".join(map(str, remote.OLDEST_PYTHON))
        return Unfit(f"{where} has Python {answer.text}; at least {wanted} is needed")
    try:
        said: dict[str, Any] = json.loads(answer.stdout)
    except ValueError:
        return _without_python(answer, where)
    reason = _unfit_system(said) or _unfit_use(said, identity)
    if reason is not None:
        return Unfit(f"{where} {reason.message}", output=reason.output, hint=reason.hint)
    version = str(said["libc"][1]).split(".") if said["libc"][0] == "glibc" else ["0", "0"]
    return Seen(
        login=said["login"],
        architecture=ARCHITECTURES[said["architecture"]],
        python=".".join(map(str, said["python"])),
        libc=(int(version[0]), int(version[1])),
        release=(said["release"]["ID"], said["release"]["VERSION_CODENAME"]),
        address=said["address"],
        device=said["device"],
        client=said["client"],
        cores=said["cores"],
        memory=said["memory"],
        record=said["record"],
        names=said["hosts"],
    )


def _silent(error: ContinuumError, where: str, entry: Entry, settings: SshSettings) -> Unfit:
    hint = f"`ssh {entry.target}` must work without a question: it shows what is wrong"
    if "host key" in error.output.lower():
        reason = "its host key is not one that your SSH knows"
        if not settings.accept_new_host_keys and "changed" not in error.output.lower():
            hint = (
                f"`ssh {entry.target}` once, and compare the key; or set accept_new_host_keys = "
                "true in [infrastructure.ssh]"
            )
    else:
        lines = [line for line in error.output.splitlines() if line.strip()]
        reason = lines[-1] if lines else error.message
    return Unfit(f"{where} cannot be reached: {reason}", unreachable=True, hint=hint)


def _without_python(answer: Result, where: str) -> Unfit:
    output = answer.last_output
    if answer.exit_code == 127 or "not found" in output:
        reason = "has no python3"
    elif "No module named" in output:
        reason = "has a Python without its whole standard library"
    else:
        reason = "cannot be looked at"
    return Unfit(f"{where} {reason}", output=output, hint="apt-get install python3 there")


def _unfit_system(said: Mapping[str, Any]) -> Unfit | None:  # noqa: PLR0911  one reason each
    """Why what runs on the machine will not do."""
    if said["lacking"]:
        modules = ", ".join(said["lacking"])
        return Unfit(
            f"has a Python without {modules}", hint="apt-get install python3 on the machine"
        )
    if "apt-get" not in said["programs"]:
        name = said["release"]["PRETTY_NAME"] or "of an unknown kind"
        return Unfit(f'is "{name}"; software is installed from Debian or Ubuntu packages')
    if not said["systemd"]:
        return Unfit("does not run systemd, which starts what is benchmarked")
    if said["architecture"] not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        return Unfit(f"is a {said['architecture']}; known are {known}")
    if not said["sudo"]:
        return Unfit(
            "has no sudo without a password for the user that SSH logs in as",
            hint="log in as root, or give that user sudo without a password (NOPASSWD)",
        )
    if "ip" not in said["programs"]:
        return Unfit("has no program ip", hint="apt-get install iproute2 on the machine")
    return None


def _unfit_use(said: Mapping[str, Any], identity: str) -> Unfit | None:
    """Why the machine's place in the network, or others' use of it, will not do."""
    record = said["record"]
    if not _is_of_a_network(said["address"]) or not said["device"]:
        return Unfit(
            f"is reached at {said['address'] or 'no address'}, which is no IPv4 address of a "
            "network that others could reach it by",
            hint="name it by its own IPv4 address",
        )
    if record is not None and record["identity"] != identity:
        return Unfit(f'is used by deployment "{record["deployment"]}"', hint=remote.HOW_TO_FREE)
    if said["foreign"]:
        return Unfit(
            f"has {' and '.join(said['foreign'])}, which no deployment made, and which would be "
            "removed with it",
            hint="move what is there elsewhere",
        )
    if record is None and said["shaped"]:
        return Unfit(
            f"has traffic control on {said['device']} that somebody else put there",
            hint=f"tc qdisc del dev {said['device']} root, on the machine, if nobody needs it",
        )
    return None


def _is_of_a_network(address: str) -> bool:
    try:
        return not ipaddress.IPv4Address(address).is_loopback
    except ValueError:
        return False


def refuse(unfit: Sequence[Unfit]) -> None:
    """Raise when there are machines that will not do; one message for each, all at once.

    Raises:
        MachineUnreachable: some cannot be reached.
        NotPossibleHere: all can be, and some will not do.
    """
    if not unfit:
        return
    unreachable = [each for each in unfit if each.unreachable]
    kind = MachineUnreachable if unreachable else NotPossibleHere
    first = (unreachable or list(unfit))[0]
    raise kind(
        "\n".join(each.message for each in unfit),
        where="infrastructure.ssh.machines",
        output="\n".join(filter(None, (each.output for each in unfit))),
        hint=first.hint,
    )
