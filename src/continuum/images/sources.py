"""The Debian or Ubuntu package sources of this host, for images of the same release."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from continuum.errors import NotPossibleHere
from continuum.images import archives
from continuum.images.source import Source

APT_FOLDER = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")

HOW_TO_BRING = (
    "on a host of the same release with a network `continuum artifacts export FILE --for EXPERIMENT`,"
    " here `continuum artifacts import FILE`"
)
"""What helps where nothing can be fetched."""

_SILENCE = (
    *("temporary failure resolving", "could not resolve", "name resolution"),
    *("unable to connect to", "could not connect to", "cannot initiate the connection"),
    *("network is unreachable", "no route to host", "connection timed out", "connection refused"),
    *("failed to establish a new connection", "(from versions: none)"),
)

# What apt takes for a no.
_NO = {"no", "false", "without", "off", "disable", "0"}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf", "i686": "i386"}


@dataclass(frozen=True)
class HostSources:
    """The host's release and the sources that serve it."""

    distribution: str
    suite: str
    architecture: str
    entries: tuple[Source, ...]
    made_into: str = ""
    """Name of this host's system, where it is not that distribution itself but made from it."""

    def inputs(self) -> list[object]:
        """What decides which packages an image can get: never a mirror's address or index."""
        offered = {(entry.suite, entry.components) for entry in self.entries}
        return [self.distribution, self.suite, self.architecture, sorted(offered)]

    def lines(self) -> str:
        """All entries in apt's one-line style."""
        return "".join(entry.line() + "\n" for entry in self.entries)


def read(
    apt: Path = APT_FOLDER, os_release: Path = OS_RELEASE, lists: Path = archives.LISTS
) -> HostSources:
    """The sources of this host's own release, read from whichever format they are in.

    Raises:
        NotPossibleHere: this is not Debian or Ubuntu, nor made from one of them, or no source
            serves its release.
    """
    release = _assignments(os_release)
    called = release.get("PRETTY_NAME", "unknown")
    distribution, suite = _base(release)
    if not suite or not apt.is_dir():
        raise NotPossibleHere(
            "machine images are made from Debian or Ubuntu packages; this host is "
            f'"{called}"' + _why_not(release),
            where=str(os_release),
            hint="use a Debian or Ubuntu host, or another provider",
        )
    entries = tuple(archives.own(list(_all(apt)), distribution, suite, lists))
    if not any(entry.suite == suite for entry in entries):
        raise NotPossibleHere(
            f"no package source of this host is the archive of its release, {distribution} {suite}",
            where=str(apt),
            hint=f"add a source with suite {suite} and component main to {apt}/sources.list.d, and "
            "apt-get update",
        )
    made_into = "" if release.get("ID") == distribution else called
    return HostSources(distribution, suite, architecture(), entries, made_into)


def _base(release: Mapping[str, str]) -> tuple[str, str]:
    """The distribution and the release that a host's packages come from; "" where they are its own.

    Derivatives with packages of their own name the release that they are made from.
    """
    if release.get("ID") in archives.ORIGINS:
        return release["ID"], release.get("VERSION_CODENAME", "")
    for distribution in reversed(archives.ORIGINS):
        codename = release.get(f"{distribution.upper()}_CODENAME", "")
        if codename:
            return distribution, codename
    return "", ""


def _why_not(release: Mapping[str, str]) -> str:
    if not {"debian", "ubuntu"}.intersection(release.get("ID_LIKE", "").split()):
        return ""
    return ", whose packages are its own: it does not say which release of them it is made from"


def of_release(host: HostSources, suite: str) -> HostSources:
    """The sources of another release of the host's distribution, from the same mirrors."""
    entries = tuple(
        replace(each, suite=each.suite.replace(host.suite, suite, 1)) for each in host.entries
    )
    return replace(host, suite=suite, entries=entries)


def is_unreachable(output: str) -> bool:
    """Whether that is what apt or pip says where nobody answers."""
    said = output.lower()
    return any(words in said for words in _SILENCE)


def architecture() -> str:
    """This host's architecture by Debian's name."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def _all(apt: Path) -> Iterator[Source]:
    for path in (apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))):
        if path.suffix in (".list", ".sources") and path.is_file():
            text = path.read_text(errors="replace")
            yield from _paragraphs(text) if path.suffix == ".sources" else _lines(text)


def _lines(text: str) -> Iterator[Source]:
    """Entries in the one-line style."""
    for raw in text.splitlines():
        words = raw.partition("#")[0].split(maxsplit=1)
        if len(words) < 2 or words[0] != "deb":
            continue
        options: list[tuple[str, str]] = []
        rest = words[1].strip()
        if rest.startswith("["):
            inside, _, rest = rest[1:].partition("]")
            for option in inside.split():
                key, _, value = option.partition("=")
                options.append((key.rstrip("+-").lower(), value))
        words = rest.split()
        if len(words) >= 2:
            yield Source(words[0], words[1], tuple(words[2:]), tuple(options))


def _paragraphs(text: str) -> Iterator[Source]:
    """Entries in the style of key: value paragraphs."""
    for paragraph in text.replace("\r", "").split("\n\n"):
        fields: dict[str, str] = {}
        last = ""
        for line in paragraph.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0] in " \t":
                fields[last] = f"{fields.get(last, '')}\n{line.strip()}"
            else:
                last, _, value = line.partition(":")
                last = last.strip().lower()
                fields[last] = value.strip()
        enabled = fields.get("enabled", "yes").lower() not in _NO
        if "deb" not in fields.get("types", "").split() or not enabled:
            continue
        options = tuple(
            (key, " ".join(fields[key].split()))
            for key in ("signed-by", "trusted", "check-valid-until")
            # A key that stands in the file itself has no place in a one-line entry; apt's common
            # key rings hold the distribution's own.
            if fields.get(key) and "\n" not in fields[key]
        )
        for address in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(address, suite, tuple(fields.get("components", "").split()), options)


def _assignments(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    found = {}
    for line in path.read_text(errors="replace").splitlines():
        key, separator, value = line.partition("=")
        if separator and not key.startswith("#"):
            found[key.strip()] = " ".join(shlex.split(value))
    return found
