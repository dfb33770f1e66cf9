"""Commands in a machine's network: from this host, with this host's programs, where it is a namespace
of this host's; inside the machine where it has a kernel of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from continuum.errors import NotPossibleHere, StepFailed
from continuum.infrastructure import tcp
from continuum.infrastructure.links import shaping
from continuum.infrastructure.links.contract import Interface
from continuum.machine import Command, Result, run_on_host

TIMEOUT = 30.0

CHAIN = "CONTINUUM-LINKS"


def inside(interface: Interface, *arguments: str, lines: str | None = None) -> Result:
    """Run a program in the machine's network; its result, whatever its exit code.

    It is a program of the host, unless the machine has a kernel of its own.

    Raises:
        TimedOut: it did not end in time.
    """
    command = Command(arguments, input=None if lines is None else lines.encode(), timeout=TIMEOUT)
    if interface.inside is not None:
        return interface.inside.run(command)
    entered = ("nsenter", f"--net={interface.namespace}", *arguments)
    return run_on_host(replace(command, arguments=entered), where=interface.machine.name)


def tune(interface: Interface, settings: Mapping[str, str]) -> None:
    """Set how TCP behaves on the machine; `settings` as `tcp.settings` makes them.

    Raises:
        NotPossibleHere: its kernel lacks the congestion control.
    """
    if not settings:
        return
    result = inside(interface, *tcp.set_command(settings))
    if result.exit_code != 0:
        known = inside(interface, *tcp.available_command())
        tcp.judge(result, settings, known, interface.machine.name)


def read_shaping(interface: Interface) -> shaping.InForce:
    """Traffic control that is in force on the interface."""
    device = interface.device
    message = f"cannot read the traffic control of {interface.machine.name}"
    disciplines = inside(interface, "tc", "-json", "qdisc", "show", "dev", device).check(message)
    filters = inside(interface, "tc", "filter", "show", "dev", device).check(message)
    return shaping.read(disciplines.text, filters.text)


def apply_shaping(
    interface: Interface, host: str, classes: tuple[shaping.TrafficClass, ...]
) -> bool:
    """Put exactly these classes in force, and read them back; True when anything was changed.

    Raises:
        StepFailed: the kernel refuses, or has something else than what it was given.
    """
    found = read_shaping(interface)
    same = shaping.same(classes, found.classes) and found.unaltered(host)
    if same or (not classes and not found.has_root):
        return False
    # In one batch, so that packets pass freely for as short as can be.
    lines = shaping.remove(interface.device) if found.has_root else ""
    lines += shaping.batch(interface.device, host, classes)
    name = interface.machine.name
    inside(interface, "tc", "-batch", "-", lines=lines).check(
        f"cannot set the traffic control of {name}", hint="continuum doctor"
    )
    now = read_shaping(interface).classes or ()
    if not shaping.same(classes, now):
        raise StepFailed(
            f"the traffic control of {name} is not what was asked for",
            where=name,
            output=f"asked: {classes}\nfound: {now}",
        )
    return True


def jump(device: str) -> str:
    """The rule that sends arriving packets to our chain."""
    return f"-A PREROUTING -i {device} -j {CHAIN}"


def _saved(interface: Interface) -> list[str]:
    """All rules of the raw table, as `iptables-save` prints them."""
    saved = inside(interface, "iptables-save", "-t", "raw").check(
        f"cannot read the packet rules of {interface.machine.name}"
    )
    return saved.text.splitlines()


def read_rules(interface: Interface) -> list[str] | None:
    """The rules of our chain, as `iptables-save` prints them; None when packets do not go there first."""
    rules = _saved(interface)
    arriving = [rule for rule in rules if rule.startswith("-A PREROUTING ")]
    if arriving[:1] != [jump(interface.device)]:
        return None
    return [rule for rule in rules if rule.startswith(f"-A {CHAIN} ")]


def write_rules(interface: Interface, table: str, *, jumps: bool) -> None:
    """Set the rules of our chain, and unless packets go there first already, have them do so."""
    last = ""
    if not jumps:
        last = _leave(interface) + jump(interface.device).replace("-A ", "-I ", 1) + "\n"
    lines = table.replace("COMMIT\n", f"{last}COMMIT\n")
    inside(interface, "iptables-restore", "--noflush", lines=lines).check(
        f"cannot set the packet rules of {interface.machine.name}", hint="continuum doctor"
    )


def clear_rules(interface: Interface) -> bool:
    """Take our chain and the jump to it away; True when they were there."""
    leave = _leave(interface)
    if not leave:
        return False
    lines = f"*raw\n{leave}-F {CHAIN}\n-X {CHAIN}\nCOMMIT\n"
    inside(interface, "iptables-restore", "--noflush", lines=lines).check(
        f"cannot remove the packet rules of {interface.machine.name}"
    )
    return True


def _leave(interface: Interface) -> str:
    """Lines that take away every jump to our chain."""
    jumps = [rule for rule in _saved(interface) if rule == jump(interface.device)]
    return "".join(f"{rule.replace('-A ', '-D ', 1)}\n" for rule in jumps)


def scratch(
    run: Callable[[Command], Result],
    *arguments: str,
    lines: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str | None:
    """Try a program in a network namespace that exists only meanwhile; what it said if it failed.

    Raises:
        NotPossibleHere: no such namespace can be made.
    """
    command = Command(
        ("unshare", "--net", *arguments),
        input=None if lines is None else lines.encode(),
        environment=environment or {},
        timeout=TIMEOUT,
    )
    result = run(command)
    if result.exit_code == 0:
        return None
    if b"unshare failed" in result.stderr:
        raise NotPossibleHere(
            "network namespaces cannot be made", output=result.last_output, hint="run as root"
        )
    return result.last_output or f"exit status {result.exit_code}"
