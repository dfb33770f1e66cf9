"""Debian 13's kernel as a program of this host: it has netem, htb and a packet filter, whatever the
host's own kernel has.

User-mode Linux of Debian's package, with the C library of the same release beside it. It is fetched
once, through apt, which proves its signature, and boots within a second or two with the host's own
file system as its root, which it cannot write to.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from continuum import folders
from continuum.errors import StepFailed
from continuum.images import isolated, sources
from continuum.machine import Command, Result, run_on_host

SUITE = os.environ.get("CONTINUUM_TEST_KERNEL_OF", "trixie")
"""The release of Debian whose kernel it is."""

MEMORY = "4G"
SHARED = "/run/shared"
"""Folder in which the guest finds its job, and puts what the test is to read."""

_FIRST_PROCESS = Path(__file__).with_name("user_mode_init.py")
_LOADER = b"/lib64/ld-linux-x86-64.so.2\0"
_OWN_LOADER = b"./ld.so".ljust(len(_LOADER), b"\0")
_BOOT_LIMIT = 60.0


@dataclass(frozen=True)
class Ended:
    """Ending of a program in that kernel; `output` is the console's."""

    exit_code: int
    output: str


def kernel() -> Path:
    """The folder with the kernel `linux`, its loader `ld.so`, and `lib` and `modules`."""
    if sources.architecture() != "amd64":
        pytest.skip("user-mode Linux is for x86-64")
    folder = folders.cache_folder() / "tests" / f"user-mode-linux-{SUITE}"
    if not folder.exists():
        folders.make_folder(folder.parent)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            _fetch(Path(made))
            (Path(made) / "kernel").rename(folder)
    return folder


def run(
    program: Sequence[str | Path], shared: Path, limit: float, environment: dict[str, str]
) -> Ended:
    """Boot the kernel, run a program in it, and shut it down; `shared` is its folder `SHARED`."""
    folder = kernel()
    job = {
        "program": [str(each) for each in program],
        "environment": {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **environment},
        "folder": str(Path.cwd()),
        "modules": str(folder / "modules"),
        "limit": limit,
    }
    (shared / "job.json").write_text(json.dumps(job))
    first = shared / "init"
    first.write_text(f"#!/bin/sh\nexec {sys.executable} -I {_FIRST_PROCESS} {shared}\n")
    first.chmod(0o755)
    linux = (
        *("./linux", f"mem={MEMORY}", "seccomp=auto", f"uml_dir={shared}/", "panic=-1"),
        *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={first}"),
        *("con0=null,fd:1", "con=null"),
    )
    # Its memory is a file in /dev/shm, unless there is another folder for temporary files.
    variables = ("--unset=TMPDIR", f"--chdir={folder}", f"LD_LIBRARY_PATH={folder / 'lib'}")
    ended = run_on_host(
        isolated.in_own_namespaces(("env", *variables, *linux), limit + _BOOT_LIMIT)
    )
    output = ended.text + ended.stderr.decode(errors="replace")
    status = shared / "status"
    assert status.exists(), f"the kernel did not run the program:\n{output[-5000:]}"
    return Ended(int(status.read_text()), output)


def _fetch(work: Path) -> None:
    """Download and unpack what the kernel consists of."""
    options = _apt(work)
    _apt_get(work, options, "update")
    _apt_get(work, options, "download", "user-mode-linux", "libc6")
    system = work / "system"
    for package in work.glob("*.deb"):
        run_on_host(Command(("dpkg-deb", "-x", str(package), str(system)))).check()
    made = work / "kernel"
    libraries = system / "usr/lib/x86_64-linux-gnu"
    shutil.copytree(libraries, made / "lib", ignore=shutil.ignore_patterns("gconv"))
    shutil.copy(libraries / "ld-linux-x86-64.so.2", made / "ld.so")
    (made / "ld.so").chmod(0o755)
    # It is newer than the host's C library as a rule, and starts itself anew: the loader that it
    # names has to be the one beside it.
    program = (system / "usr/bin/linux.uml").read_bytes()
    assert program.count(_LOADER) == 1
    (made / "linux").write_bytes(program.replace(_LOADER, _OWN_LOADER))
    (made / "linux").chmod(0o755)
    (modules,) = (system / "usr/lib/uml/modules").iterdir()
    shutil.copytree(modules, made / "modules")


def _apt(work: Path) -> list[str]:
    """Options by which apt has lists and files of its own, from the host's mirror."""
    host = sources.read()
    if host.distribution != "debian":
        pytest.skip("this host's package sources have no kernel for user-mode Linux of Debian")
    entry = next(each for each in host.entries if each.suite == host.suite)
    signed = f" [signed-by={entry.signed_by}]" if entry.signed_by else ""
    (work / "sources.list").write_text(f"deb{signed} {entry.address} {SUITE} main\n")
    for name in ("lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True)
    settings = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": work / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": work / "cache",
        # Its folder is ours alone.
        "APT::Sandbox::User": "root",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _apt_get(work: Path, options: Sequence[str], *words: str) -> Result:
    command = ("env", f"--chdir={work}", "apt-get", "-qq", *options, *words)
    result = run_on_host(Command(command, timeout=300))
    try:
        return result.check(f"the kernel of {SUITE} cannot be fetched")
    except StepFailed as error:
        if sources.is_unreachable(error.output):
            pytest.skip("the host's package sources cannot be reached")
        raise
