"""The store of artifacts: fetched once, kept by SHA-256, verified on every use.

artifacts/files/SHA256             content
artifacts/records/KEY.json         which content an artifact is, and where it came from
artifacts/versions/PROJECT-1.33    the version that a minor release was found to mean
artifacts/work/                    downloads and builds under way; what was cut goes on from there
artifacts/.NAME.lock               held while a project's programs are fetched, or Go builds

Two processes may share it: one fetches, the other waits and finds it done.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from continuum import folders, state_file
from continuum.artifacts import catalogue, first_use
from continuum.artifacts.attempt import NotToBeHad, Unavailable
from continuum.artifacts.catalogue import Project, SourceName, Wanted, numbers, project_of
from continuum.errors import NotPossibleHere, StepFailed, UsageError
from continuum.images.sources import HOW_TO_BRING
from continuum.images.store import DiskFull, locked, telling_disk_full
from continuum.parallel import for_each
from continuum.secret import without_logins

if TYPE_CHECKING:
    from continuum.artifacts.web import Progress, Web
    from continuum.events import Events

LOCK_LIMIT = 3600.0
"""Seconds to wait for another process that fetches or builds."""

DOWNLOADS = 4
"""Files that are loaded at once, of one project."""

SOURCES: dict[SourceName, str] = {
    "release": "official release",
    "go": "build from Go modules",
    "debian": "Debian package",
    "pypi": "Python package",
}

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Artifact:
    """A file in the store.

    Attributes:
        name: of the program.
        version: as `v1.34.4`.
        architecture: by Debian's name.
        sha256: of the content, 64 hexadecimal digits.
        size: bytes.
        source: where it came from, in words.
        seconds: that fetching it took; all programs of one build share theirs.
    """

    name: str
    version: str
    architecture: str
    sha256: str
    size: int
    source: str
    seconds: float = 0.0
    folder: Path = field(default_factory=Path, compare=False, repr=False)

    @property
    def path(self) -> Path:
        """The file itself; not to be changed."""
        return self.folder / "files" / self.sha256

    @property
    def wanted(self) -> Wanted:
        """What it is the answer to."""
        return Wanted(self.name, self.version, self.architecture)


@dataclass(frozen=True)
class _Failure:
    wanted: Wanted
    source: str
    reason: str
    output: str = ""
    broken: bool = False
    programs: Mapping[str, str] = field(default_factory=dict)


class _NotAll(Exception):
    """Some of a project's programs cannot be had: the step failed, and others are still tried."""

    def __init__(self, done: dict[Wanted, Artifact], failures: list[_Failure]) -> None:
        super().__init__()
        self.done = done
        self.failures = failures


def artifacts_folder() -> Path:
    """The store's folder in the cache."""
    return folders.cache_folder() / "artifacts"


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ArtifactStore:
    """The store as one command sees it."""

    def __init__(
        self, events: Events, *, folder: Path | None = None, web: Web | None = None
    ) -> None:
        self._events = events
        self.folder = folder or artifacts_folder()
        self._given_web = web

    @cached_property
    def _web(self) -> Web:
        from continuum.artifacts.web import Web  # noqa: PLC0415  slow to import

        return self._given_web or Web()

    # -- versions --------------------------------------------------------------------------------

    def version(self, project_name: str, asked: str | None = None) -> str:
        """The version that is meant: `1.34` or `v1.34.4`; the tested one when None.

        A minor release other than the tested one is looked up, and stays what it was found to be
        for as long as the cache lives.

        Raises:
            NotPossibleHere: it cannot be looked up here.
            UsageError: there is no such project, or it has no such versions.
        """
        project = catalogue.projects().get(project_name)
        if project is None:
            raise UsageError(f'no project "{project_name[:60]}"')
        tested = numbers(project.version)
        if asked is None or asked in (project.version, project.version.removeprefix("v")):
            return project.version
        wanted = numbers(asked)
        if wanted is None or tested is None:
            raise UsageError(f'"{asked[:60]}" is no version of {project.about}')
        if len(wanted) == 3:
            return f"v{asked.removeprefix('v')}"
        if wanted == tested[:2]:
            return project.version
        return self._look_up(project, ".".join(map(str, wanted)))

    def _look_up(self, project: Project, minor: str) -> str:
        kept = self.versions().get(f"{project.name}-{minor}")
        if kept is not None:
            return kept
        from continuum.artifacts import outside  # noqa: PLC0415  slow to import

        tried = []
        step_name = f"{project.about} {minor}"
        with self._events.step("artifacts", step_name, "its newest version") as step:
            for source, ask in outside.NEWEST.items():
                if source not in project.sources:
                    continue
                try:
                    found = ask(project, minor, self._web, step.progress)
                except Unavailable as error:
                    tried.append(f"{SOURCES[source]}: {error.reason}")
                else:
                    self.remember(f"{project.name}-{minor}", found)
                    return found
        raise NotPossibleHere(
            f"the newest version of {project.about} {minor} cannot be found out here",
            output="\n".join(tried),
            hint=f"name the whole version, as {minor}.0, or use the tested one, {project.version}",
        )

    def versions(self) -> dict[str, str]:
        """The versions that were found out, as `v1.33.9` by `kubernetes-1.33`."""
        kept = (self.folder / "versions").glob("[!.]*")
        read = {
            path.name: state_file.undamaged(state_file.read_text(path)) for path in sorted(kept)
        }
        return {name: text.strip() for name, text in read.items() if text}

    def remember(self, release: str, version: str) -> None:
        """Have a minor release mean a version from now on."""
        folders.write_file(self.folder / "versions" / release, f"{version}\n")

    # -- what is there ---------------------------------------------------------------------------

    def find(self, wanted: Wanted) -> Artifact | None:
        """The artifact in the store, verified; None when it is not there, or damaged."""
        artifact = self.record(wanted)
        if artifact is None:
            return None
        if artifact.path.is_file() and digest(artifact.path) == artifact.sha256:
            return artifact
        if artifact.path.is_file():
            self._events.note(f"{wanted} in the cache is damaged: removed", "warning")
        artifact.path.unlink(missing_ok=True)
        self._record_path(wanted).unlink(missing_ok=True)
        return None

    def record(self, wanted: Wanted) -> Artifact | None:
        """What the store knows of an artifact, without a look at the file."""
        artifact = self._read(self._record_path(wanted))
        return artifact if artifact is not None and artifact.wanted == wanted else None

    def _read(self, path: Path) -> Artifact | None:
        """The artifact of a record; None when that is damaged or not there."""
        fields = state_file.kept(path, state_file.OBJECT)
        try:
            return Artifact(**fields, folder=self.folder) if fields is not None else None
        except TypeError:
            return None

    def all(self) -> list[Artifact]:
        """What the store knows of all artifacts that it has, without a look into the files."""
        found = []
        for path in sorted((self.folder / "records").glob("*.json")):
            artifact = self._read(path)
            if artifact is not None and artifact.path.is_file():
                found.append(artifact)
        return found

    def guard(self, artifact: Artifact) -> str:
        """Sum that an artifact was compared with when it came, in words."""
        source, wanted = artifact.source, artifact.wanted
        if source.startswith("archive "):
            return "the archive's claim"
        if source.startswith(SOURCES["debian"]):
            return "apt's signatures"
        if source.startswith(SOURCES["go"]):
            return "sums of Go modules"
        if wanted.name not in catalogue.names():
            return ""
        if source.startswith(SOURCES["release"]):
            pinned, name = catalogue.pinned_release(wanted), f"release-{wanted.key}"
        else:
            pinned, name = catalogue.pinned_wheel(wanted), source.rpartition(", ")[2]
        first = first_use.recall(name)
        if pinned is not None:
            return "pinned sum"
        return f"first use, {first.day}" if first is not None else "published sum"

    def _record_path(self, wanted: Wanted) -> Path:
        return self.folder / "records" / f"{wanted.key.replace('/', '_')}.json"

    def add(self, wanted: Wanted, file: Path, source: str, seconds: float = 0.0) -> Artifact:
        """Move a verified file into the store."""
        artifact = Artifact(
            name=wanted.name,
            version=wanted.version,
            architecture=wanted.architecture,
            sha256=digest(file),
            size=file.stat().st_size,
            source=without_logins(source),
            seconds=round(seconds, 1),
            folder=self.folder,
        )
        folders.make_folder(artifact.path.parent)
        file.chmod(0o755)
        folders.give_to_caller(file)
        file.replace(artifact.path)
        fields = asdict(artifact)
        del fields["folder"]
        folders.write_file(self._record_path(wanted), json.dumps(fields, indent=2) + "\n")
        return artifact

    # -- fetching --------------------------------------------------------------------------------

    def fetch(self, name: str, version: str | None = None) -> Artifact:
        """One artifact, from the first source that has it; the tested version when None.

        Raises:
            NotPossibleHere: no source can supply it here.
            StepFailed: a build failed.
        """
        return self.fetch_all([Wanted(name, self.version(project_of(name).name, version))])[0]

    def fetch_all(self, wanted: Sequence[Wanted]) -> list[Artifact]:
        """Artifacts in the order in which they are wanted; what is in the cache costs its sum.

        Raises:
            NotPossibleHere: no source can supply some of them here; the message names them all.
            StepFailed: a build failed, or the disk is full.
        """
        here = dict(zip(wanted, for_each(self.find, wanted), strict=True))
        groups: dict[tuple[str, str], list[Wanted]] = {}
        for each, artifact in here.items():
            if artifact is None:
                groups.setdefault((each.project.name, each.version), []).append(each)
        failures: list[_Failure] = []
        for group in groups.values():
            found, failed = self._fetch_group(group)
            here |= found
            failures += failed
        missing = [each for each, artifact in here.items() if artifact is None]
        if missing:
            raise _cannot(missing, failures)
        return [artifact for each in wanted if (artifact := here[each]) is not None]

    def _fetch_group(self, group: list[Wanted]) -> tuple[dict[Wanted, Artifact], list[_Failure]]:
        """Programs of one project and version: what could be had, and why the rest could not."""
        try:
            return self._fetched(group), []
        except _NotAll as error:
            return error.done, error.failures

    def _fetched(self, group: list[Wanted]) -> dict[Wanted, Artifact]:
        """All programs of one project and version.

        Raises:
            _NotAll: some of them cannot be had.
        """
        project, version = group[0].project, group[0].version
        work = folders.make_folder(self.folder / "work")
        lock = self.folder / f".{project.name}.lock"
        step_name = f"{', '.join(each.name for each in group)} {version}"
        with (
            self._events.step("artifacts", step_name, "a source that has them") as step,
            telling_disk_full(self.folder),
            locked(lock, step.progress, LOCK_LIMIT),
        ):
            done = {each: found for each in group if (found := self.find(each)) is not None}
            failures: list[_Failure] = []
            for turn in range(max(len(each.sources()) for each in group)):
                todo: dict[SourceName, list[Wanted]] = {}
                for each in group:
                    if each not in done and turn < len(each.sources()):
                        todo.setdefault(each.sources()[turn], []).append(each)
                for source, some in todo.items():
                    got, failed = self._from(source, some, work, step.progress)
                    done |= got
                    failures += failed
                    for reason in dict.fromkeys(each.reason for each in failed):
                        self._events.note(f"{project.name}: {SOURCES[source]}: {reason}")
            if len(done) < len(set(group)):
                raise _NotAll(done, failures)
            return done

    def _from(
        self, source: SourceName, group: list[Wanted], work: Path, progress: Progress
    ) -> tuple[dict[Wanted, Artifact], list[_Failure]]:
        if source == "go":
            return self._build(group, work, progress)
        from continuum.artifacts import outside  # noqa: PLC0415  slow to import

        web = self._web  # One for all threads: it remembers who does not answer.

        def attempt(wanted: Wanted) -> Artifact | _Failure:
            began = time.monotonic()
            try:
                file, detail = outside.FETCHERS[source](wanted, web, work, progress)
            except Unavailable as error:
                return _Failure(wanted, SOURCES[source], error.reason)
            return self.add(wanted, file, _described(source, detail), time.monotonic() - began)

        results = for_each(attempt, group, threads=DOWNLOADS)
        return (
            {each.wanted: each for each in results if isinstance(each, Artifact)},
            [each for each in results if isinstance(each, _Failure)],
        )

    def _build(
        self, group: list[Wanted], work: Path, progress: Progress
    ) -> tuple[dict[Wanted, Artifact], list[_Failure]]:
        """One build at a time: each takes all cores and much memory."""
        from continuum.artifacts import go  # noqa: PLC0415  slow to import

        with locked(self.folder / ".go.lock", progress, LOCK_LIMIT):
            began = time.monotonic()
            folder = work / f"{group[0].project.name}-{group[0].version}"
            try:
                files, made_by = go.build(group, self._web, folder, progress)
            except Unavailable as error:
                return {}, [
                    _Failure(each, SOURCES["go"], error.reason, programs=error.programs)
                    for each in group
                ]
            except DiskFull:
                raise
            except StepFailed as error:
                reason = error.message.splitlines()[0]
                return {}, [
                    _Failure(each, SOURCES["go"], reason, error.output, broken=True)
                    for each in group
                ]
            seconds = time.monotonic() - began
            done = {
                each: self.add(each, file, _described("go", made_by), seconds)
                for each, file in files.items()
            }
            folders.remove_tree(folder)
            return done, []


def _described(source: SourceName, detail: str) -> str:
    return f"{SOURCES[source]}, {detail}" if detail else SOURCES[source]


def _cannot(missing: list[Wanted], failures: list[_Failure]) -> NotPossibleHere | StepFailed:
    """One error for all that is missing, with what was tried for whom."""
    names = ", ".join(str(each) for each in missing)
    reasons: dict[str, list[str]] = {}
    for each in failures:
        reasons.setdefault(f"{each.source}: {each.reason}", []).append(each.wanted.name)
    tried = [f"{', '.join(dict.fromkeys(who))}: {why}" for why, who in reasons.items()]
    broken = next((each for each in failures if each.broken and each.wanted in missing), None)
    if broken is not None:
        return StepFailed(
            f"cannot be built: {names}",
            where=f"{broken.source} of {broken.wanted}: {broken.reason}",
            output=broken.output,
            hint="the same command goes on where it ended; "
            "or bring what another host has: continuum artifacts export / import",
        )
    error = NotToBeHad(
        f"not in the cache, and not to be had here: {names}",
        where="every source of each, in order",
        output="\n".join(tried),
        hint=HOW_TO_BRING,
    )
    error.programs = {name: each for one in failures for name, each in one.programs.items()}
    return error
