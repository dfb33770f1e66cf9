"""Entries of a host's package sources that are its distribution's own archive.

The judge is what the archive says of itself, in the signed file `Release` that apt keeps in its
lists: `Origin: Debian`. A mirror says the same, a vendor's or a person's archive does not, whatever
its key ring is called. Where apt has no lists yet, the distribution's own keys tell, or that the
address is the distribution's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from continuum.errors import NotPossibleHere
from continuum.images.source import Source

LISTS = Path("/var/lib/apt/lists")

ORIGINS = {"debian": "Debian", "ubuntu": "Ubuntu"}
"""Names that the archives of the distributions that images are made from give themselves."""

_COMPONENTS = frozenset(
    {
        *("main", "contrib", "non-free", "non-free-firmware"),
        *("restricted", "universe", "multiverse"),
    }
)
_KEYS = "/usr/share/keyrings/{}-archive-"
"""Begin of the paths of a distribution's own keys, which its own package brings."""

_OFFICIAL = re.compile(r"(.+\.)?(debian\.org|ubuntu\.com)")
_PERSONAL = re.compile(r"(.+\.)?(launchpad|launchpadcontent)\.net")
_PLACE = r"/{}(-security|-ports)?(\.list|/[0-9]{{8}}T[0-9]{{6}}Z)?/?$"
"""Ending of the path of an archive's address, also that of a snapshot or a list of mirrors."""

_QUOTED = set('\\|{}[]<>"^~_=!@#$%&*')
"""Characters that apt spells out in the names of its lists."""


def own(
    entries: Sequence[Source], distribution: str, suite: str, lists: Path = LISTS
) -> list[Source]:
    """The entries that are the distribution's archive for a release, its updates, its fixes.

    Raises:
        NotPossibleHere: several could be, and nothing tells which.
    """
    suites = {suite, f"{suite}-updates", f"{suite}-security", f"{suite}/updates"}
    fitting = [
        entry
        for entry in dict.fromkeys(entries)
        if entry.suite in suites
        and not entry.address.startswith("cdrom:")
        and _COMPONENTS.intersection(entry.components)
    ]
    origins = {entry: origin(entry, lists) for entry in fitting}
    proven = [entry for entry in fitting if _is_proven(entry, origins[entry], distribution)]
    if any(entry.suite == suite for entry in proven):
        hosts = {_host(entry) for entry in proven}
        beside = [
            entry
            for entry in fitting
            if not origins[entry]
            and not entry.signed_by
            and _host(entry) in hosts
            and _is_place(entry, distribution)
        ]
        return [entry for entry in fitting if entry in proven or entry in beside]
    return _likely(fitting, origins, distribution, suite)


def _is_proven(entry: Source, said: str, distribution: str) -> bool:
    if said:
        return said == ORIGINS[distribution]
    if entry.signed_by:
        keys = entry.signed_by.split(",")
        return all(key.strip().startswith(_KEYS.format(distribution)) for key in keys)
    on_disk = entry.address.startswith("mirror+file:///etc/apt/mirrors/")
    official = on_disk or _OFFICIAL.fullmatch(_host(entry)) is not None
    return official and _is_place(entry, distribution)


def _likely(
    fitting: Sequence[Source], origins: dict[Source, str], distribution: str, suite: str
) -> list[Source]:
    """A site's own mirror, with a key of its own, where apt has not looked at it yet."""
    likely = [
        entry
        for entry in fitting
        if _is_place(entry, distribution) and not _PERSONAL.fullmatch(_host(entry))
    ]
    silent = [entry for entry in likely if not origins[entry]]
    likely = silent if any(entry.suite == suite for entry in silent) else likely
    serving = {_host(entry) for entry in likely if entry.suite == suite}
    if len(serving) > 1:
        raise NotPossibleHere(
            f"nothing here tells which package source is {ORIGINS[distribution]}'s own archive: "
            f"{', '.join(sorted(serving))}",
            hint="apt-get update, after which each says so itself",
        )
    return [entry for entry in likely if _host(entry) in serving]


def origin(entry: Source, lists: Path = LISTS) -> str:
    """Name that the archive of an entry gives itself; "" where apt has no lists of it."""
    begin = list_name(entry)
    for name in (f"{begin}_InRelease", f"{begin}_Release"):
        try:
            text = (lists / name).read_text(errors="replace")
        except OSError:
            continue
        found = re.search(r"^Origin:[ \t]*(.*?)[ \t]*$", text, re.MULTILINE)
        return found[1] if found and found[1] else "unknown"
    return ""


def list_name(entry: Source) -> str:
    """Start of the names of apt's lists of an entry, up to what they list."""
    place = re.sub(r"^[a-z+.-]+:(//)?([^/@]*@)?", "", entry.address).rstrip("/")
    named = f"{place}/dists/{entry.suite}"
    quoted = "".join(f"%{ord(each):02x}" if each in _QUOTED else each for each in named)
    return quoted.replace("/", "_")


def _host(entry: Source) -> str:
    return urlsplit(entry.address).hostname or ""


def _is_place(entry: Source, distribution: str) -> bool:
    return re.search(_PLACE.format(distribution), urlsplit(entry.address).path) is not None
