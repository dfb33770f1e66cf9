"""The source `go`: programs built from Go modules with the host's Go.

The tested version is built with the go.mod and go.sum that lie beside the catalogue: they pin every
module. Any other version gets a go.mod made from the project's own, and its sums are those that
Go's checksum database vouches for.

Modules and compiled packages are kept in the caller's own Go caches, which other builds share, and
from which a build that was interrupted goes on.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from continuum import folders
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
from continuum.artifacts.web import Progress, Web
from continuum.errors import StepFailed, TimedOut
from continuum.images import isolated
from continuum.machine import Command, run_on_host, stream_on_host

QUERY_LIMIT = 60.0
MODULES_LIMIT = 900.0
BUILD_LIMIT = 2400.0

_PLACES = ("/usr/local/go/bin", "/usr/lib/go/bin", "/snap/bin")
_GO_LINE = re.compile(r"^go (\d+\.\d+(?:\.\d+)?)$", re.MULTILINE)
_PART = re.compile(r"^\s*(\S+) => \./staging/", re.MULTILINE)
_LAST_LINES = 20

HOW_TO_GET_GO = (
    "install Go (Debian's package golang where it is new enough, or the project's own archive "
    "unpacked to /usr/local/go)"
)


@dataclass(frozen=True)
class Toolchain:
    """The host's Go. `version` is as (1, 24, 4); `settings` are those of `go env`."""

    program: str
    version: tuple[int, ...]
    settings: Mapping[str, str]

    @property
    def may_switch(self) -> bool:
        """Whether it loads a newer toolchain by itself where a module asks for one."""
        return self.version >= (1, 21) and self.settings["GOTOOLCHAIN"] != "local"


def toolchain() -> Toolchain:
    """The Go on this host.

    Raises:
        Unavailable: there is none that works.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_PLACES))
    program = shutil.which("go", path=path)
    if program is None:
        raise Unavailable(f"there is no Go on this host; {HOW_TO_GET_GO}")
    wanted = ("GOVERSION", "GOTOOLCHAIN", "GOPROXY")
    try:
        shown = run_on_host(_command((program, "env", "-json", *wanted), {}, QUERY_LIMIT)).check()
        settings: dict[str, str] = json.loads(shown.stdout)
    except (StepFailed, ValueError) as error:
        raise Unavailable(f"{program} does not work: {error}") from error
    version = numbers(settings["GOVERSION"].removeprefix("go").partition(" ")[0])
    return Toolchain(program, version or (0,), settings)


def build(
    wanted: Sequence[Wanted], web: Web, folder: Path, progress: Progress
) -> tuple[dict[Wanted, Path], str]:
    """Build programs of one project and version in one go.

    Returns:
        The programs' files, in `folder`, and what they were made by.

    Raises:
        Unavailable: there is no Go, or modules cannot be had.
        StepFailed: the build failed; with its last output.
    """
    builder = _Builder(toolchain(), wanted[0], folder, web, progress)
    builder.prepare()
    packages = [builder.package(each) for each in wanted]
    builder.compile(packages, builder.load(packages))
    return {each: folder / "out" / each.name for each in wanted}, builder.made_by


def newest(project: Project, minor: str, web: Web) -> str:
    """The newest version of a minor release among the module's, as `v1.33.5`.

    Raises:
        Unavailable: there is none, or the modules' server cannot be reached.
    """
    if project.go is None or project.go.only_tested:
        raise Unavailable("only the tested version can be built from Go modules")
    go = toolchain()
    _reach(go, web)
    arguments = (go.program, "list", "-m", "-versions", "-json", f"{project.go.module}@latest")
    try:
        shown = run_on_host(_command(arguments, {"GOFLAGS": "-mod=mod"}, QUERY_LIMIT)).check()
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

    def __init__(
        self, go: Toolchain, example: Wanted, folder: Path, web: Web, progress: Progress
    ) -> None:
        rules = example.project.go
        assert rules is not None
        self._go = go
        self._example = example
        self._rules = rules
        self._folder = folder
        self._web = web
        self._progress = progress
        self._pinned = example.version == example.project.version

    @property
    def made_by(self) -> str:
        """What its programs are made by."""
        modules = "pinned" if self._pinned else "unpinned"
        return f"go{'.'.join(map(str, self._go.version))}, {modules} modules"

    def package(self, wanted: Wanted) -> str:
        """The package of a program."""
        return wanted.fill(self._rules.packages.get(wanted.name, self._rules.package))

    def prepare(self) -> None:
        """Put the files of the build into its folder, which is made anew."""
        folders.remove_tree(self._folder)
        folders.make_folder(self._folder)
        files = pinned_files(self._example.project.name)
        if not self._pinned:
            own = self._module(self._rules.module, self._example.version)["GoMod"]
            files = {path: text for path, text in files.items() if path.endswith(".go")}
            files["go.mod"] = generated(
                self._example.project.name,
                self._rules,
                self._example.version,
                Path(own).read_text(),
            )
        self._check_version(_go_line(files["go.mod"]))
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
        folders.make_folder(self._folder / "out")

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
            *("-ldflags", f"-s -w {linked}".rstrip(), "-o", "out/", *packages),
        )
        compiled = 0
        for line in self._run(arguments, BUILD_LIMIT, {}):
            if " " not in line:
                compiled += 1
                # Linking comes last and takes as long as many packages.
                share = min(compiled / todo, 1.0) * 0.9 if todo else None
                self._progress(f"compiling package {compiled} of {todo}: {line}", share)

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
            **more,
        }
        return stream_on_host(
            _command((self._go.program, *arguments), environment, limit, self._folder)
        )

    def _check_version(self, version: str) -> None:
        wanted = numbers(version)
        assert wanted is not None
        if self._go.version < wanted and not self._go.may_switch:
            have = ".".join(map(str, self._go.version))
            raise Unavailable(
                f"it takes Go {version}, and {self._go.program} is {have}; {HOW_TO_GET_GO}"
            )

    def _extended(self, extended: Extended) -> Path:
        found = self._module(extended.module, extended.version)
        if found["Sum"] != extended.sum:
            raise Unavailable(
                f"module {extended.module} {extended.version}: refused, its sum is {found['Sum']}"
            )
        return Path(found["Dir"])

    def _module(self, module: str, version: str) -> dict[str, Any]:
        """What `go mod download` tells of a module: its folder, its sum."""
        arguments = (self._go.program, "mod", "download", "-json", f"{module}@{version}")
        result = run_on_host(_command(arguments, {"GOPROXY": "off"}, QUERY_LIMIT))
        if result.exit_code != 0:
            _reach(self._go, self._web)
            self._progress(f"downloading Go module {module}", None)
            try:
                result = run_on_host(_command(arguments, {}, MODULES_LIMIT))
            except TimedOut as error:
                raise Unavailable(f"Go modules: {error.message}") from error
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
    if urlsplit(first).scheme in ("http", "https"):
        web.reach(first)


def _go_line(module_file: str) -> str:
    found = _GO_LINE.search(module_file)
    return found[1] if found else "1.21"


def _command(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    limit: float,
    folder: Path | None = None,
) -> Command:
    """Go, run as the person whose caches it fills, heeding no workspace around it."""
    plain = isolated.dying_with_us(tuple(arguments), limit, user=folders.caller())
    return Command(
        plain.arguments,
        timeout=plain.timeout,
        environment={"GO111MODULE": "on", "GOWORK": "off", **environment},
        directory=folder or Path("/"),
    )


def _reason(output: str) -> str:
    """The first line of Go's output that says something: what follows explains it."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith("go: downloading")]
    return (telling or lines or ["no reason given"])[0]
