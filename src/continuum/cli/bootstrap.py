"""What must be there before Continuum itself can run: its Python environment, Debian packages.

Run by the launcher with whatever Python the host has, so it uses the standard library alone, and so
does all that it imports of ours:

    python -m continuum.cli.bootstrap LOCK ENVIRONMENTS POINTER [--yes]

makes the environment of the packages that the file LOCK names, each with its SHA-256, in the folder
ENVIRONMENTS, unless it is there, and writes its path to POINTER.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from continuum import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

HEARTBEAT = 5.0
"""Seconds after which a line says that something is still under way."""

PIP_TIMEOUT = 1800.0
APT_TIMEOUT = 1800.0
TOO_LATE = 124
PACKAGE_LISTS = Path("/var/lib/apt/lists")


class CannotPrepare(Exception):
    """This host cannot be made ready; `output` is the last output of what failed."""

    def __init__(self, message: str, *, hint: str, output: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.output = output


def say(line: str) -> None:
    """One line for the person, on standard error."""
    sys.stderr.write(f"continuum: {line}\n")
    sys.stderr.flush()


def tell_output(line: str) -> None:
    """A line of another program's, without what a terminal obeys."""
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)
    sys.stderr.write(f"    {text}\n")


def follow(
    arguments: Sequence[str],
    *,
    timeout: float,
    progress: Callable[[str], str | None],
    tell: Callable[[str], None] = say,
    inherit: tuple[int, ...] = (),
) -> tuple[int, str]:
    """Run a program and tell how far it is.

    `progress` makes what a person wants to know from a line of its output, or None. A line is
    told when that changed and, at the latest, every `HEARTBEAT` seconds.

    Returns:
        The exit code, and the last lines of the output. The code is `TOO_LATE` when it was
        stopped after `timeout` seconds.
    """
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={
            name: value
            for name, value in environment.clean(os.environ).items()
            if name != "PYTHONPATH"
        },
        text=True,
        errors="replace",
        pass_fds=inherit,
    )
    assert process.stdout is not None
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    output = process.stdout

    def read() -> None:
        with output:
            for line in output:
                lines.put(line.rstrip())
        lines.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    last: deque[str] = deque(maxlen=20)
    began = told = time.monotonic()
    now_at = said = ""
    try:
        while True:
            try:
                line = lines.get(timeout=1.0)
            except queue.Empty:
                line = ""
            if line is None:
                return process.wait(timeout=60), "\n".join(last)
            if line:
                last.append(line)
                now_at = progress(line) or now_at
            now = time.monotonic()
            if now - began > timeout:
                return TOO_LATE, "\n".join(last)
            # Downloads come in dozens: one line every other second is enough to follow them.
            pause = 2.0 if now_at != said else HEARTBEAT
            if now_at and now - told >= pause:
                tell(f"  {now_at} ({now - began:.0f} s)")
                said, told = now_at, now
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        # What it started may outlive it and hold the pipe: then the thread ends with us.
        reader.join(timeout=1.0)


# ── Debian packages ──────────────────────────────────────────────────────────────────────────────


def find_program(name: str) -> str | None:
    """Path of a program, also from where only root's PATH looks."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")


def missing_packages(programs: dict[str, str]) -> list[str]:
    """Debian packages of those programs that this host lacks, sorted."""
    return sorted({package for name, package in programs.items() if find_program(name) is None})


def as_root() -> list[str]:
    """What to put before a command so that root runs it.

    Raises:
        CannotPrepare: not root, and no sudo.
    """
    if os.geteuid() == 0:
        return []
    sudo = find_program("sudo")
    if sudo is None:
        raise CannotPrepare(
            "this needs root, and there is no sudo on this host",
            hint="run the same command as root",
        )
    return [sudo]


def install_packages(
    packages: Sequence[str],
    *,
    yes: bool,
    ask: Callable[[str], bool] | None = None,
    tell: Callable[[str], None] = say,
) -> None:
    """Install Debian packages, without those that they merely recommend, after saying so.

    Raises:
        CannotPrepare: no apt-get, no way to be root, the person said no, or apt-get failed.
    """
    names = ", ".join(packages)
    command = f"apt-get install --no-install-recommends {' '.join(packages)}"
    apt = find_program("apt-get")
    if apt is None:
        raise CannotPrepare(
            f"this host lacks what these Debian packages hold: {names}",
            hint="there is no apt-get here: install the same programs with the host's own means",
        )
    try:
        prefix = as_root()
    except CannotPrepare as error:
        raise CannotPrepare(
            f"Continuum needs these Debian packages: {names}; "
            "installing them needs root, and there is no sudo on this host",
            hint=f"as root: {command}",
        ) from error
    tell(f"Continuum needs these Debian packages: {names}")
    question = ask or _ask
    if not yes and not question("install them now?"):
        raise CannotPrepare("the Debian packages were not installed", hint=f"as root: {command}")

    def get(*arguments: str) -> tuple[int, str]:
        return follow(
            [
                *prefix,
                *("env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"),
                *(apt, "-q", "-y", "-o", "DPkg::Lock::Timeout=300", *arguments),
            ],
            timeout=APT_TIMEOUT,
            progress=_apt_progress,
            tell=tell,
        )

    install = ("install", "--no-install-recommends", *packages)
    code, output = get(*install) if _has_package_lists() else (100, "")
    if code != 0:
        tell("reading the lists of packages")
        get("update")
        code, output = get(*install)
    if code != 0:
        raise CannotPrepare(
            f"apt-get could not install {names}", output=output, hint=f"as root: {command}"
        )
    tell(f"installed {names}")


def install_python_packages(
    requirements: Sequence[str],
    libraries: Mapping[str, str],
    *,
    yes: bool,
    tell: Callable[[str], None] = say,
) -> None:
    """Install Python packages into our own environment, owned by whoever owns it.

    `libraries` are what they are built for: the Debian package by pkg-config's name.

    Raises:
        CannotPrepare: a library or a package could not be installed, or the person said no.
    """
    wanted = sorted({package for name, package in libraries.items() if not _has_library(name)})
    if wanted:
        install_packages(wanted, yes=yes, tell=tell)
    command = [
        *(sys.executable, "-m", "pip", "install", *_into(sys.prefix)),
        *("--no-input", "--disable-pip-version-check", "--progress-bar", "off", *requirements),
    ]
    names = ", ".join(requirements)
    tell(f"installing into Continuum's environment: {names}")
    owner = Path(sys.prefix).stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        user = (f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups")
        command = ["setpriv", *user, *command]
    code, output = follow(command, timeout=PIP_TIMEOUT, progress=_pip_progress, tell=tell)
    if code != 0:
        raise CannotPrepare(f"pip could not install {names}", output=output, hint=" ".join(command))


def _into(prefix: str) -> tuple[str, ...]:
    """Options of pip that go before another place in a `pip.conf`; none outside of environments."""
    return ("--target=", f"--prefix={prefix}") if prefix != sys.base_prefix else ()


def _has_library(name: str) -> bool:
    program = find_program("pkg-config")
    if program is None:
        return False
    command = [program, "--exists", name]
    return subprocess.run(command, timeout=30, check=False).returncode == 0


def _has_package_lists() -> bool:
    return any(PACKAGE_LISTS.glob("*_Packages*"))


def _apt_progress(line: str) -> str | None:
    words = line.split()
    match words:
        case ["Get:" | "Hit:", *_]:
            return None
        case [first, *_] if first.startswith(("Get:", "Hit:")):
            return "downloading " + (words[4] if len(words) > 5 else "lists of packages")
        case ["Unpacking" | "Setting", *_]:
            name = words[2] if words[0] == "Setting" and len(words) > 2 else words[1]
            return f"{'setting up' if words[0] == 'Setting' else 'unpacking'} {name}"
    return None


def _ask(question: str) -> bool:
    """True for yes; without a terminal that is the answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    sys.stderr.write(f"continuum: {question} [Y/n] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"", "y", "yes"}


# ── The environment ──────────────────────────────────────────────────────────────────────────────


def requirements(lock: Path) -> list[str]:
    """Lines of a lock file: packages with their versions, and the SHA-256 of each of their files.

    Raises:
        CannotPrepare: there is no such file.
    """
    try:
        lines = lock.read_text().splitlines()
    except FileNotFoundError as error:
        raise CannotPrepare(
            f"this clone has no {lock.name}, which names the packages that Continuum needs",
            hint=f"git checkout -- {lock.name}",
        ) from error
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def environment_name(wanted: Sequence[str], interpreter: Path) -> str:
    """Equal for equal contents, so that several clones share one environment."""
    inputs = json.dumps([list(wanted), list(sys.version_info[:3]), str(interpreter)])
    return hashlib.sha256(inputs.encode()).hexdigest()[:16]


@contextmanager
def locked(path: Path, *, wait: float = PIP_TIMEOUT) -> Iterator[int]:
    """Hold the lock file, yield its descriptor; say once who is waited for.

    Raises:
        CannotPrepare: another process kept it for `wait` seconds.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        began = time.monotonic()
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode() or "another process"
                if time.monotonic() - began > wait:
                    raise CannotPrepare(
                        f"process {holder} did not finish Continuum's environment",
                        hint=f"stop it, or remove {path}, and try again",
                    ) from None
                if not told:
                    say(f"waiting for process {holder}, which makes Continuum's environment")
                    told = True
                time.sleep(0.2)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def make_environment(folder: Path, packages: Path, interpreter: Path, lock: int) -> None:
    """Make a virtual environment; the file `complete` in it is written last.

    `packages` is the lock file. pip takes no file whose SHA-256 is not in it, and builds none: what
    a build needs has no sums. The programs that fill it inherit the lock: should this process be killed, the next one waits
    for them before it begins again.

    Raises:
        CannotPrepare: it could not be made. Nothing of it is left.
    """

    def step(arguments: list[str], message: str, hint: str) -> None:
        code, output = follow(
            arguments,
            timeout=PIP_TIMEOUT,
            progress=_pip_progress,
            inherit=(lock,),
        )
        if code != 0:
            late = f" within {PIP_TIMEOUT:.0f} s" if code == TOO_LATE else ""
            raise CannotPrepare(message + late, output=output, hint=hint)

    began = time.monotonic()
    say("making Continuum's environment (once, about a minute)")
    remove(folder)
    try:
        step(
            [str(interpreter), "-m", "venv", str(folder)],
            f"{interpreter} could not make a virtual environment in {folder}",
            "apt-get install python3-venv, or set CONTINUUM_PYTHON to another Python",
        )
        wanted = requirements(packages)
        if wanted:
            step(
                [
                    *(str(folder / "bin" / "python"), "-m", "pip", "install", *_into(str(folder))),
                    *("--no-input", "--disable-pip-version-check", "--progress-bar", "off"),
                    *("--require-hashes", "--only-binary=:all:", "--no-deps"),
                    *("--requirement", str(packages)),
                ],
                "pip could not install what Continuum needs",
                "pip takes packages from where this host's own configuration says: "
                f"{interpreter} -m pip config list",
            )
        (folder / "complete").write_text("\n".join(wanted) + "\n")
    except BaseException:
        remove(folder)
        raise
    say(f"the environment is ready ({time.monotonic() - began:.0f} s)")


def remove(folder: Path) -> None:
    """Remove an environment, its mark of completeness first."""
    (folder / "complete").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _pip_progress(line: str) -> str | None:
    words = line.split()
    match words:
        case ["Collecting", name, *_]:
            return f"finding {name}"
        case ["Downloading", name, *size]:
            return f"downloading {name.rsplit('/', 1)[-1]} {' '.join(size)}".rstrip()
        case ["Building" | "Preparing", *_]:
            return line.strip().lower()
        case ["Installing", "collected", "packages:", *names]:
            return f"installing {len(names)} packages"
    return None


def become_caller() -> None:
    """After `sudo`, go on as the person who called, whose folder it is."""
    user, group = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if os.geteuid() == 0 and user is not None and group is not None:
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))


def prepare(packages: Path, environments: Path, pointer: Path, *, yes: bool) -> None:
    """Have the environment of a lock file, and the pointer to it, on disk."""
    wanted = requirements(packages)
    interpreter = Path(sys.executable).resolve()
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        install_packages([f"python3.{sys.version_info[1]}-venv"], yes=yes)
    become_caller()
    folder = environments / environment_name(wanted, interpreter)
    pointer.parent.mkdir(parents=True, exist_ok=True)
    with locked(environments / f"{folder.name}.lock") as lock:
        if not (folder / "complete").exists():
            make_environment(folder, packages, interpreter, lock)
    temporary = pointer.with_name(f".{pointer.name}.{os.getpid()}")
    temporary.write_text(f"{folder}\n{os.environ.get('CONTINUUM_PYTHON', '')}\n")
    temporary.replace(pointer)


def main(arguments: Sequence[str]) -> int:
    """Run from the launcher; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    packages, environments, pointer, *options = arguments
    try:
        prepare(Path(packages), Path(environments), Path(pointer), yes="--yes" in options)
    except CannotPrepare as error:
        say(error.message)
        for line in error.output.splitlines():
            tell_output(line)
        sys.stderr.write(f"  what to do: {error.hint}\n")
        return 3
    except OSError as error:
        say(f"cannot make Continuum's environment: {error}")
        sys.stderr.write(
            f"  what to do: make room, or set XDG_CACHE_HOME to another folder than "
            f"{Path(environments).parent.parent}\n"
        )
        return 3
    except KeyboardInterrupt:
        say("interrupted; nothing was kept, and the next use begins again")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
