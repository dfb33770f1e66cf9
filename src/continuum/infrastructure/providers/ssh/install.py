"""Carries a recipe's steps out on machines that run: what is baked into images elsewhere."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from continuum import folders
from continuum.errors import NotPossibleHere, StepFailed
from continuum.events import Events
from continuum.images import build, sources, store
from continuum.images.recipe import PYTHON_FOLDER, Recipe, Tree, fingerprint
from continuum.images.store import Layer
from continuum.infrastructure import tcp
from continuum.infrastructure.providers.ssh import remote
from continuum.infrastructure.providers.ssh.look import Seen
from continuum.machine import Command, Machine, run_on_host

LAYOUT = 1
"""Raise when machines that are whole must be gone over again."""

PACKAGES = ("iproute2", "iptables", "procps", "python3")
"""What links and our own programs need, beside the recipe's."""

APT_LIMIT = 900.0
COPY_LIMIT = 900.0
_WHEELS = "python-packages"
_DEBS = "/var/lib/continuum/packages"

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_OLDEST_GLIBC = 17


def fingerprint_of(recipe: Recipe) -> str:
    """What a whole machine has."""
    return fingerprint(LAYOUT, PACKAGES, recipe.fingerprint)


@dataclass
class Installer:
    """Brings one recipe to many machines. What several need is made once.

    `install` is called from several threads, for one machine each.
    """

    recipe: Recipe
    deployment: str
    identity: str
    events: Events
    names: str
    _made: dict[str, bytes] = field(default_factory=dict)
    _making: threading.Lock = field(default_factory=threading.Lock)

    def prepare(self) -> None:
        """Fetch what takes long, before any machine is touched."""
        for tree in self.recipe.trees:
            if tree.prepare is not None and not store.is_built(_tree_key(tree)):
                tree.prepare(self.events)

    def install(self, machine: Machine, seen: Seen, progress: Callable[[str], None]) -> bool:
        """Bring a machine to what the recipe says; True when anything was changed."""
        wanted = self._trees(seen)
        traces = {tree.name: tree.traces for tree in self.recipe.trees}
        units = self.recipe.units
        claimed = remote.tell(
            machine,
            "claim",
            {
                "deployment": self.deployment,
                "identity": self.identity,
                "name": machine.name,
                "device": seen.device,
                "fingerprint": fingerprint_of(self.recipe),
                "units": [*units.enabled, *units.disabled],
                "sysctl": list(tcp.NAMES),
            },
        )
        if not claimed["whole"]:
            # Drop-ins of units first: what a package would start at once then waits.
            for name, (key, make) in wanted.items():
                if claimed["trees"].get(name) != key:
                    content = self._once(key, make, progress)
                    progress(f"{machine.name}: {name}")
                    remote.tell(
                        machine,
                        "place",
                        {
                            "identity": self.identity,
                            "name": name,
                            "key": key,
                            "traces": traces.get(name, ()),
                        },
                        content=content,
                        timeout=COPY_LIMIT,
                    )
            self._packages(machine, seen, progress)
        settled = remote.tell(
            machine,
            "settle",
            {
                "identity": self.identity,
                "fingerprint": fingerprint_of(self.recipe),
                "trees": list(wanted),
                "enable": list(units.enabled),
                "disable": list(units.disabled),
                "names": self.names,
            },
            timeout=COPY_LIMIT,
        )
        return bool(settled["changed"])

    def is_whole(self, seen: Seen) -> bool:
        """Whether nothing needs to be done on a machine, by what was seen of it."""
        record = seen.record
        return (
            record is not None
            and record["identity"] == self.identity
            and record.get("fingerprint") == fingerprint_of(self.recipe)
            and record.get("device") == seen.device
            and seen.names == self.names
        )

    # -- trees and Python packages ----------------------------------------------------------------

    def _trees(self, seen: Seen) -> dict[str, tuple[str, Callable[[Path, build.Progress], Any]]]:
        """Key and maker of everything that is put in place on such a machine, by name."""
        found: dict[str, tuple[str, Callable[[Path, build.Progress], Any]]] = {
            tree.name: (_tree_key(tree), _tree_maker(tree)) for tree in self.recipe.trees
        }
        if self.recipe.python:
            python = fingerprint(
                LAYOUT, seen.python, seen.architecture, seen.libc, self.recipe.python
            )
            found[_WHEELS] = (f"wheels-{python}", _wheels_maker(self.recipe.python, seen))
        return found

    def _once(
        self,
        key: str,
        make: Callable[[Path, build.Progress], dict[str, Any]],
        progress: Callable[[str], None],
    ) -> bytes:
        """An archive of what `make` makes: from the cache, else made here and kept there."""
        with self._making:
            if key not in self._made:
                folders.make_folder(store.images_folder(), folders.PRIVATE_FOLDER)
                store.ensure(Layer(key, key, make), lambda detail, _: progress(detail))
                self._made[key] = archive(store.images_folder() / key / "root")
            return self._made[key]

    # -- Debian packages --------------------------------------------------------------------------

    def _packages(self, machine: Machine, seen: Seen, progress: Callable[[str], None]) -> None:
        """Install the packages that are missing, by the machine's own apt.

        What it cannot fetch, for want of a way out, this host fetches for it.
        """
        wanted = sorted({*PACKAGES, *self.recipe.packages})
        missing = remote.tell(machine, "missing", {"packages": wanted})["missing"]
        if not missing:
            return
        progress(f"{machine.name}: installing {', '.join(missing)}")
        done = _apt(machine, "install", *missing)
        if done is not None:
            _apt(machine, "update")
            done = _apt(machine, "install", *missing)
        if done is None:
            return
        host = _own_sources()
        if host is None or (host.distribution, host.suite) != seen.release:
            raise StepFailed(
                f"packages could not be installed on {machine.name}: {', '.join(missing)}",
                where=f"{machine.name}: apt-get install {' '.join(missing)}",
                output=done,
                hint="install them there, or give the machine a way to its package sources",
            )
        progress(f"{machine.name}: fetching {', '.join(missing)} for it")
        with self._making:
            files = _fetch(host, seen.architecture, machine.get("/var/lib/dpkg/status"), missing)
        for file in files:
            machine.put(file.read_bytes(), f"{_DEBS}/{file.name}")
        told = _apt(machine, "install", *(f"{_DEBS}/{file.name}" for file in files))
        machine.run(Command(("rm", "-rf", _DEBS)))
        if told is not None:
            raise StepFailed(
                f"packages could not be installed on {machine.name}: {', '.join(missing)}",
                where=f"{machine.name}: apt-get install",
                output=told,
            )


def _tree_key(tree: Tree) -> str:
    return f"files-{tree.name}-{fingerprint(LAYOUT, tree.name, tree.inputs)}"


def _tree_maker(tree: Tree) -> Callable[[Path, build.Progress], dict[str, Any]]:
    def make(root: Path, progress: build.Progress) -> dict[str, Any]:
        tree.write(root, lambda detail: progress(detail, None))
        return {"inputs": tree.inputs}

    return make


def _wheels_maker(
    requirements: tuple[str, ...], seen: Seen
) -> Callable[[Path, build.Progress], dict[str, Any]]:
    def make(root: Path, progress: build.Progress) -> dict[str, Any]:
        target = root / PYTHON_FOLDER.lstrip("/")
        target.mkdir(parents=True)
        progress(f"Python packages for Python {seen.python} on {seen.architecture}", None)
        build.install_python(
            requirements,
            target,
            seen.python,
            store.temporary_files(root),
            progress,
            platforms=platforms(seen.architecture, seen.libc),
        )
        return {"python": seen.python, "architecture": seen.architecture}

    return make


def platforms(architecture: str, libc: tuple[int, int]) -> tuple[str, ...]:
    """What a wheel's file name may say of where it runs, for a machine with that glibc."""
    machine = _MACHINES[architecture]
    newest = libc[1] if libc[0] == 2 else 0
    return (
        *(f"manylinux_2_{minor}_{machine}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)),
        f"manylinux2014_{machine}",
        f"linux_{machine}",
    )


def archive(root: Path) -> bytes:
    """All that lies below a folder, as root's, readable for everybody."""

    def of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        return member

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive_:
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            archive_.add(path, arcname=name, recursive=False, filter=of_root)
    return packed.getvalue()


# -- apt -----------------------------------------------------------------------------------------


def _apt(machine: Machine, verb: str, *arguments: str) -> str | None:
    """Run apt on a machine; its last output when it failed."""
    result = machine.run(
        Command(
            (
                *("apt-get", verb, "--yes", "--quiet"),
                *("-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confold"),
                *("-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=15"),
                *(("--no-install-recommends",) if verb == "install" else ()),
                *arguments,
            ),
            environment={"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"},
            timeout=APT_LIMIT,
        )
    )
    return None if result.exit_code == 0 else result.last_output


def _own_sources() -> sources.HostSources | None:
    try:
        return sources.read()
    except NotPossibleHere:
        return None


def _fetch(
    host: sources.HostSources, architecture: str, status: bytes, packages: Sequence[str]
) -> list[Path]:
    """Fetch packages, and what they need that a machine does not have by its `status`.

    This host's apt does it, from the host's own sources, as if it were the machine's.

    Raises:
        StepFailed: they cannot be had; with apt's last output.
    """
    folder = folders.cache_folder() / "apt" / f"{host.suite}-{architecture}"
    for part in ("lists/partial", "archives/partial"):
        folders.make_folder(folder / part)
    kept = folder / "status"
    if not kept.exists() or kept.read_bytes() != status:
        folders.write_file(kept, status)  # Where it is the same, apt's own cache holds.
    folders.write_file(folder / "sources.list", host.lines())
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "true",
        "Dir::Cache": f"{folder}",
        "Dir::Etc::SourceList": f"{folder}/sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::lists": f"{folder}/lists",
        "Dir::State::status": f"{kept}",
    }
    own = ("apt-get", *(word for key in options for word in ("-o", f"{key}={options[key]}")))
    message = f"packages cannot be fetched for a machine: {', '.join(packages)}"
    wanted = ("install", "--yes", "--no-install-recommends", *packages)
    show = Command((*own, "-o", "Dir::Cache::archives=/dev/null/", "--print-uris", *wanted))
    fetch = Command((*own, "--download-only", *wanted), timeout=APT_LIMIT)
    shown = run_on_host(show)
    if shown.exit_code != 0 or run_on_host(fetch).exit_code != 0:
        # There are no lists yet, or ones that name files which the archive does not have any more.
        run_on_host(Command((*own, "update"), timeout=APT_LIMIT)).check(
            "this host's package sources cannot be reached", hint="try `apt-get update` on it"
        )
        shown = run_on_host(show).check(message)
        run_on_host(fetch).check(message)
    names = [line.split(" ")[1] for line in shown.text.splitlines() if line.startswith("'")]
    return [folder / "archives" / name for name in names]
