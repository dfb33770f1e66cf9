"""Where artifacts come from when the cache has none: who looks up, who fetches.

Slow to import, and not needed by a command that finds all in the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuum.artifacts import go, packages, release

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from continuum.artifacts.catalogue import Project, SourceName, Wanted
    from continuum.artifacts.web import Progress, Web


def _from_release(wanted: Wanted, web: Web, work: Path, progress: Progress) -> tuple[Path, str]:
    return release.fetch(wanted, web, work, progress), ""


def _from_debian(wanted: Wanted, web: Web, work: Path, progress: Progress) -> tuple[Path, str]:
    del web
    return packages.from_debian(wanted, work, progress)


def _from_pypi(wanted: Wanted, web: Web, work: Path, progress: Progress) -> tuple[Path, str]:
    del web
    return packages.from_pypi(wanted, work, progress)


def _newest_release(project: Project, minor: str, web: Web, progress: Progress) -> str:
    del progress
    return release.newest(project, minor, web)


NEWEST: dict[SourceName, Callable[[Project, str, Web, Progress], str]] = {
    "release": _newest_release,
    "go": go.newest,
}
"""Who knows the newest version of a minor release."""

FETCHERS: dict[SourceName, Callable[[Wanted, Web, Path, Progress], tuple[Path, str]]] = {
    "release": _from_release,
    "debian": _from_debian,
    "pypi": _from_pypi,
}
"""Who fetches one artifact; the file, and what is to be told of where it came from."""
