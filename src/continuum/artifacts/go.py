"""The source `go`: programs built from Go modules.

The tested version is built with the go.mod and go.sum that lie beside the catalogue: they pin every
module. Any other version gets a go.mod made from the project's own, and its sums are those that
Go's checksum database vouches for.

Modules and compiled packages are kept in Go's own caches, from which a build that was interrupted
goes on: those of the caller where the host has a Go, and else in ours.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from continuum import folders
from continuum.artifacts import toolchain
from continuum.artifacts.attempt import Unavailable
from continuum.artifacts.catalogue import (
    Extended,
    GoModules,
    Project,
    Wanted,
    fill,
    numbers,
    pinned_files,
)
from continuum.artifacts.toolchain import QUERY_LIMIT, Toolchain
from continuum.artifacts.web import Progress, Web
from continuum.errors import StepFailed, TimedOut
from continuum.images.store import free, telling_disk_full
from continuum.machine import Command, run_on_host, stream_on_host

MODULES_LIMIT = 900.0
BUILD_LIMIT = 2400.0

_GO_LINE = re.compile(r"^go (\d+\.\d+(?:\.\d+)?)$", re.MULTILINE)
_PART = re.compile(r"^\s*(\S+) => \./staging/", re.MULTILINE)
_OLDEST = "1.21"
"""What is asked of Go before it is known what a build asks for."""

COMPILER = {"gcc": "gcc", "gencat": "libc6-dev"}
"""The Debian package by a program that comes with it: what C code is compiled with."""

_TEMPORARY = "tmp"
_NO_ROOM = "no space left on device"
_TRIAL = b"#include <stdlib.h>\n"


def build(
    wanted: Sequence[Wanted], web: Web, folder: Path, progress: Progress
) -> tuple[dict[Wanted, Path], str]:
    """Build programs of one project and version in one go.

    Returns:
        The programs' files, in `folder`, and what they were made by.

    Raises:
        Unavailable: there is no Go or no C compiler, or modules cannot be had.
        StepFailed: the build failed, or a disk is full; with the last output.
    """
    builder = _Builder(wanted[0], folder, web, progress)
    with telling_disk_full(builder.fullest_disk):
        builder.prepare()
        packages = [builder.package(each) for each in wanted]
        builder.compile(packages, builder.load(packages))
    return {each: folder / "out" / each.name for each in wanted}, builder.made_by


def newest(project: Project, minor: str, web: Web, progress: Progress) -> str:
    """The newest version of a minor release among the module's, as `v1.33.5`.

    Raises:
        Unavailable: there is none, or the modules' server cannot be reached.
    """
    if project.go is None or project.go.only_tested:
        raise Unavailable("only the tested version can be built from Go modules")
    go = toolchain.find(_OLDEST, progress)
    _reach(go, web)
    arguments = ("list", "-m", "-versions", "-json", f"{project.go.module}@latest")
    try:
        shown = run_on_host(go.command(arguments, {"GOFLAGS": "-mod=mod"}, QUERY_LIMIT)).check()
    except StepFailed as error:
        raise Unavailable(f"Go modules: {_reason(error.output)}") from error
    versions: list[str] = json.loads(shown.stdout).get("Versions", [])
    fitting = [(found, text) for text in versions if (found := numbers(text)) is not None]
    fitting = [each for each in fitting if each[0][:2] == numbers(minor)]
    if not fitting:
        raise Unavailable(f"there is no version of {minor} among the Go modules")
    return max(fitting)[1]


def generated(project: str, rules: GoModules, version: str, module_file: str) -> str:
    """A go.mod for a version that is not pinned; `module_file` is the module's own go.mod."""
    lines = [
        f"module continuum/{project}",
        "",
        f"go {_go_line(module_file)}",
        "",
        f"require {rules.module} {version}",
    ]
    parts = _PART.findall(module_file) if rules.parts else []
    if parts:
        own = f"{rules.parts}.{version.partition('.')[2]}"
        lines += ["", "replace (", *(f"\t{part} => {part} {own}" for part in parts), ")"]
    return "\n".join(lines) + "\n"


class _Builder:
    """Runs Go in the folder of one build. `example` is one of the programs."""

    def __init__(self, example: Wanted, folder: Path, web: Web, progress: Progress) -> None:
        rules = example.project.go
        assert rules is not None
        self._example = example
        self._rules = rules
        self._folder = folder
        self._web = web
        self._progress = progress
        self._pinned = example.version == example.project.version
        self._files = pinned_files(example.project.name)
        self._go = toolchain.find(
            _go_line(self._files["go.mod"]) if self._pinned else _OLDEST, progress
        )

    @property
    def made_by(self) -> str:
        """What its programs are made by."""
        modules = "pinned" if self._pinned else "unpinned"
        return f"{self._go.name}, {modules} modules"

    @property
    def fullest_disk(self) -> Path:
        """Of the folders that a build writes to, the one with the least room."""
        caches = (Path(self._go.settings[name]) for name in ("GOCACHE", "GOMODCACHE"))
        return min((self._folder, *caches), key=free)

    def package(self, wanted: Wanted) -> str:
        """The package of a program."""
        return wanted.fill(self._rules.packages.get(wanted.name, self._rules.package))

    def prepare(self) -> None:
        """Put the files of the build into its folder, which is made anew."""
        if self._rules.cgo:
            _try_compiler(self._go)
        folders.remove_tree(self._folder)
        folders.make_folder(self._folder)
        files = self._files
        if not self._pinned:
            own = self._module(self._rules.module, self._example.version)["GoMod"]
            files = {path: text for path, text in files.items() if path.endswith(".go")}
            files["go.mod"] = generated(
                self._example.project.name,
                self._rules,
                self._example.version,
                Path(own).read_text(),
            )
            self._go = toolchain.find(_go_line(files["go.mod"]), self._progress)
        for name, extended in self._rules.extended.items():
            self._progress(f"copying module {extended.module}", None)
            source = self._extended(extended)
            shutil.copytree(source, self._folder / name, copy_function=shutil.copyfile)
        for path in (self._folder, *self._folder.rglob("*")):
            # Files in Go's module cache, and so their copies, cannot be written to.
            path.chmod(0o755 if path.is_dir() else 0o644)
            folders.give_to_caller(path)
        for name, text in files.items():
            folders.write_file(self._folder / name, text)
        for name in ("out", _TEMPORARY):
            folders.make_folder(self._folder / name)

    def load(self, packages: list[str]) -> int:
        """Have all modules in the module cache; returns how many packages are to be compiled."""
        self._progress("looking for Go modules", None)
        stale = "{{if .Stale}}{{.ImportPath}}{{end}}"
        arguments = ("list", self._modules, "-deps", "-f", stale, *packages)
        try:
            return len(list(self._run(arguments, QUERY_LIMIT, {"GOPROXY": "off"})))
        except StepFailed:
            _reach(self._go, self._web)
        count = 0
        try:
            for line in self._run(arguments, MODULES_LIMIT, {}):
                if line.startswith("go: downloading "):
                    self._progress(f"downloading Go module {line.split()[2]}", None)
                else:
                    count += 1
        except StepFailed as error:
            if _NO_ROOM in error.output:
                raise
            raise Unavailable(f"Go modules: {_reason(error.output)}") from error
        return count

    def compile(self, packages: list[str], todo: int) -> None:
        """Compile and link into the folder `out`; `todo` packages are to be compiled.

        Raises:
            StepFailed: it failed; with the last output.
        """
        project, version = self._example.project, self._example.version
        linked = " ".join(
            f"-X {name}={fill(text, project, version)}"
            for name, text in self._rules.variables.items()
        )
        arguments = (
            *("build", self._modules, "-v", "-trimpath", "-buildvcs=false"),
            # What debuggers want is not kept, so it need not be made: a tenth of the time.
            *("-gcflags", "all=-dwarf=false", "-ldflags", f"-s -w {linked}".rstrip()),
            *("-o", "out/", *packages),
        )
        compiled = 0
        self._progress("compiling" if todo else "linking", 0.0 if todo else None)
        for line in self._run(arguments, BUILD_LIMIT, {}):
            if " " not in line:
                compiled += 1
                # Linking comes last and takes as long as many packages.
                share = min(compiled / todo, 1.0) * 0.9 if todo else None
                last = ", then linking" if compiled >= todo else ""
                self._progress(f"compiling package {compiled} of {todo}: {line}{last}", share)

    @property
    def _modules(self) -> str:
        return "-mod=readonly" if self._pinned else "-mod=mod"

    def _run(
        self, arguments: Sequence[str], limit: float, more: Mapping[str, str]
    ) -> Iterator[str]:
        environment = {
            "GOOS": "linux",
            "GOARCH": self._example.architecture,
            "CGO_ENABLED": "1" if self._rules.cgo else "0",
            # What is killed leaves its temporary files: here the next build removes them.
            "TMPDIR": str(self._folder / _TEMPORARY),
            **more,
        }
        return stream_on_host(self._go.command(arguments, environment, limit, self._folder))

    def _extended(self, extended: Extended) -> Path:
        found = self._module(extended.module, extended.version)
        if found["Sum"] != extended.sum:
            raise Unavailable(
                f"module {extended.module} {extended.version}: refused, its sum is {found['Sum']}"
            )
        return Path(found["Dir"])

    def _module(self, module: str, version: str) -> dict[str, Any]:
        """What `go mod download` tells of a module: its folder, its sum."""
        arguments = ("mod", "download", "-json", f"{module}@{version}")
        result = run_on_host(self._go.command(arguments, {"GOPROXY": "off"}, QUERY_LIMIT))
        if result.exit_code != 0:
            _reach(self._go, self._web)
            self._progress(f"downloading Go module {module}", None)
            try:
                result = run_on_host(self._go.command(arguments, {}, MODULES_LIMIT))
            except TimedOut as error:
                raise Unavailable(f"Go modules: {error.message}") from error
            if _NO_ROOM in result.last_output:
                result.check()
        try:
            told: dict[str, Any] = json.loads(result.stdout)
        except ValueError:
            told = {"Error": _reason(result.last_output)}
        if "Error" in told:
            raise Unavailable(f"Go modules: {told['Error']}")
        return told


def _reach(go: Toolchain, web: Web) -> None:
    """Find out within seconds whether the modules' server answers; Go itself takes its time.

    Raises:
        Unavailable: it does not.
    """
    first = re.split(r"[,|]", go.settings["GOPROXY"])[0]
    if first == "off":
        raise Unavailable("Go modules: the host's settings forbid downloads (GOPROXY=off)")
    parts = urlsplit(first)
    if parts.scheme in ("http", "https"):
        # Go sends a login itself, and here it is neither needed nor to be shown.
        web.reach(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())


def _go_line(module_file: str) -> str:
    found = _GO_LINE.search(module_file)
    return found[1] if found else "1.21"


def _try_compiler(go: Toolchain) -> None:
    """Find out before a long build whether C code can be compiled.

    Raises:
        Unavailable: it cannot.
    """
    compiler = shlex.split(go.settings["CC"]) or ["gcc"]
    trial = (*compiler, "-fsyntax-only", "-x", "c", "-")
    try:
        run_on_host(Command(trial, input=_TRIAL, timeout=QUERY_LIMIT)).check()
    except StepFailed as error:
        raise Unavailable(
            f"it takes a C compiler, and `{shlex.join(compiler)}` does not work: "
            f"apt-get install {' '.join(COMPILER.values())}",
            programs=COMPILER,
        ) from error


def _reason(output: str) -> str:
    """The first line of Go's output that says something: what follows explains it."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith("go: downloading")]
    return (telling or lines or ["no reason given"])[0]
