"""libvirt on this host: a connection, and its daemons where nothing else starts them.

A host with a service manager starts libvirt itself. On others we start its two daemons with the
first virtual machine, and stop them after the last. What we started is known by the files that hold
the daemons' process numbers, in our own folder.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from continuum import folders
from continuum.errors import NotPossibleHere, StepFailed
from continuum.infrastructure.host import processes
from continuum.infrastructure.host.ssh_config import CONTROL_FOLDER
from continuum.infrastructure.providers.libvirt import hidden, kvm
from continuum.infrastructure.providers.libvirt.domain import NAMESPACE, Label
from continuum.machine import Command, run_on_host

ADDRESS = "qemu:///system"
MODULE = "libvirt"
_SOCKETS = (Path("/run/libvirt/libvirt-sock"), Path("/run/libvirt/virtqemud-sock"))
_KEPT = (Path("/etc/libvirt/qemu"), Path("/run/libvirt/qemu"))
_SERVICE_MANAGER = Path("/run/systemd/system")
_DAEMONS = ("virtlogd", "libvirtd")
_LIMIT = 30.0

Connection = Any
"""libvirt's own; its package has no types."""


def library() -> Any:  # noqa: ANN401  a module without types
    """The Python module.

    Raises:
        NotPossibleHere: it is not installed.
    """
    try:
        import libvirt  # noqa: PLC0415  an extra: most hosts have no virtual machines
    except ImportError as error:
        raise NotPossibleHere(
            f"provider libvirt needs the Python module libvirt: {error}",
            hint="`continuum up` installs it; by hand: apt-get install libvirt-dev gcc pkg-config "
            "python3-dev, then pip install 'continuum[libvirt]'",
        ) from error
    # What fails is raised; it need not be printed too.
    libvirt.registerErrorHandler(lambda *_: None, None)
    return libvirt


def may_have_machines() -> bool:
    """Whether libvirt keeps any virtual machine that is called like ours; asks no daemon."""
    return any(next(folder.glob("ctm-*.xml"), None) is not None for folder in _KEPT)


def answers() -> bool:
    """Whether libvirt's socket is there and somebody listens."""
    opened = _to_read()
    if opened is None:
        return False
    opened.close()
    return True


@contextmanager
def connection() -> Iterator[Connection]:
    """A connection that may change things; libvirt is started where it does not run.

    Raises:
        NotPossibleHere: libvirt is not there, or does not start.
    """
    with _using():
        opened = _opened()
        try:
            yield opened
        finally:
            opened.close()
    stop_if_unused()


@contextmanager
def looking() -> Iterator[Connection | None]:
    """A connection to look at what there is; None when there cannot be anything of ours."""
    if os.geteuid() == 0:
        if not may_have_machines():
            yield None
            return
        with connection() as opened:
            yield opened
        return
    opened = _to_read()
    try:
        yield opened
    finally:
        if opened is not None:
            opened.close()


def _to_read() -> Connection | None:
    """A connection that may only look; None where there is no libvirt, or it does not let us."""
    if not any(socket.exists() for socket in _SOCKETS):
        return None
    try:
        kind = library()
    except NotPossibleHere:
        return None
    try:
        opened: Connection = kind.openReadOnly(ADDRESS)
    except kind.libvirtError:
        return None
    return opened


def labelled(opened: Connection) -> list[tuple[Any, Label]]:
    """Every virtual machine that carries a label of ours, with it."""
    kind = library()
    found = []
    for domain in opened.listAllDomains():
        try:
            text = domain.metadata(kind.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE)
        except kind.libvirtError:
            continue  # It has none, or has just gone.
        label = Label.read(text)
        if label is not None:
            found.append((domain, label))
    return found


def is_active(domain: Any) -> bool:  # noqa: ANN401  libvirt's own
    """Whether a virtual machine runs; False when it has just gone."""
    try:
        return bool(domain.isActive())
    except library().libvirtError:
        return False


def version(number: int) -> str:
    """As `9.0.0`: libvirt packs three numbers into one."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def stop_if_unused() -> None:
    """Stop the daemons that we started, unless some virtual machine needs them."""
    if not any(_number_file(name).exists() for name in _DAEMONS):
        return
    with _lock("libvirt.use") as used:
        try:
            fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # Another command is at it; it looks here when it is done.
        if _alive("libvirtd"):
            if may_have_machines():
                return
            try:
                opened = library().open(ADDRESS)
            except library().libvirtError:
                opened = None
            if opened is not None:
                needed = bool(opened.listAllDomains())
                opened.close()
                if needed:
                    return
        for name in reversed(_DAEMONS):
            _stop(name)


def _opened() -> Connection:
    kind = library()
    if any(_number_file(name).exists() and not _alive(name) for name in _DAEMONS):
        _start()  # One that we started was killed: the other answers, and starts no machine.
    try:
        return kind.open(ADDRESS)
    except kind.libvirtError as error:
        if _SERVICE_MANAGER.exists():
            said = str(error)
            run_on_host(Command(("systemctl", "start", "libvirtd.service"))).check(
                "libvirt does not run, and cannot be started",
                hint="systemctl status libvirtd",
            )
        else:
            said = str(error)
            _start()
    deadline = time.monotonic() + _LIMIT
    while time.monotonic() < deadline:
        try:
            return kind.open(ADDRESS)
        except kind.libvirtError as error:
            said = str(error)
            time.sleep(0.05)
    raise NotPossibleHere(
        "libvirt does not answer on this host",
        where=ADDRESS,
        output=said,
        hint="continuum doctor --provider libvirt",
    )


def _start() -> None:
    """Start the daemons; who starts them at the same time waits."""
    folders.make_open_folder(CONTROL_FOLDER)
    with _lock("libvirt.start") as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for name in _DAEMONS:
            if _alive(name):
                continue
            command = (*_without_kvm(), name, "--daemon", "--pid-file", str(_number_file(name)))
            result = run_on_host(Command(command, timeout=_LIMIT))
            if result.exit_code != 0:
                raise NotPossibleHere(
                    f"{name} does not start",
                    where=str(result.command),
                    output=result.last_output,
                    hint="continuum doctor --provider libvirt",
                )


def _without_kvm() -> tuple[str, ...]:
    """What to put before a daemon so that it leaves alone a KVM that does not work."""
    if not kvm.DEVICE.exists() or kvm.known().works is not False:
        return ()
    hide = (sys.executable, "-m", hidden.__name__, str(kvm.DEVICE))
    return ("unshare", "--mount", "--propagation=slave", *hide)


def _stop(name: str) -> None:
    file = _number_file(name)
    if _alive(name):
        process = int(file.read_text())
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
        deadline = time.monotonic() + _LIMIT
        while _alive(name):
            if time.monotonic() > deadline:
                raise StepFailed(
                    f"{name}, which we started, does not end", where=f"process {process}"
                )
            time.sleep(0.02)
    file.unlink(missing_ok=True)


def _alive(name: str) -> bool:
    """Whether the daemon that we started still runs: its number may be another's by now."""
    try:
        number = int(_number_file(name).read_text())
        title = Path(f"/proc/{number}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False
    called = os.path.basename(title.split(b"\0")[0])  # noqa: PTH119  bytes
    return called == name.encode() and processes.may_be_ours(number)


def _number_file(name: str) -> Path:
    return CONTROL_FOLDER / f"{name}.pid"


@contextmanager
def _using() -> Iterator[None]:
    """Keep others from stopping what we use."""
    with _lock("libvirt.use") as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


@contextmanager
def _lock(name: str) -> Iterator[int]:
    folders.make_open_folder(CONTROL_FOLDER)
    descriptor = os.open(CONTROL_FOLDER / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
