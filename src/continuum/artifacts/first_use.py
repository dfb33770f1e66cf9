"""SHA-256 of downloads that nothing pins: what came first has to come ever after.

state/first-use/NAME    the sum and the day of the first use of one file

They lie beside the deployments and not in the cache: a cache may be deleted at any time, and what is
fetched anew is compared with what was there before.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from continuum import folders, state_file
from continuum.artifacts.attempt import Unavailable

_LINE = re.compile(r"([0-9a-f]{64}) (\d{4}-\d\d-\d\d)\n?")


@dataclass(frozen=True)
class FirstUse:
    """A file's SHA-256 on the day when it first came, as `2026-11-30`."""

    sha256: str
    day: str


def path_of(name: str) -> Path:
    """Place where the first use of a file is written down."""
    return folders.first_use_folder() / name.replace("/", "_")


def recall(name: str) -> FirstUse | None:
    """The first use of a file; None when it has never come, or what was written is damaged."""
    match = _LINE.fullmatch(state_file.undamaged(state_file.read_text(path_of(name))) or "")
    return FirstUse(match[1], match[2]) if match is not None else None


def compare(file: Path, called: str, name: str, pinned: str | None) -> None:
    """Compare a download with its pinned SHA-256, or with that of its first use when None.

    `called` is what it is in messages, `name` what its first use is written down as.

    Raises:
        Unavailable: it is another file; it has been removed.
    """
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    try:
        if pinned is None:
            check(name, found)
        else:
            _check_pinned(called, found, pinned)
    except Unavailable:
        file.unlink()
        raise


def _check_pinned(called: str, found: str, pinned: str) -> None:
    if found != pinned:
        raise Unavailable(
            f"{called}: refused, its SHA-256 is {found[:16]}… where Continuum knows it as "
            f"{pinned[:16]}…, whatever is published beside it"
        )


def check(name: str, sha256: str) -> None:
    """Compare a file's sum with that of its first use; write it down when this is the first.

    Raises:
        Unavailable: it is another file now, or nobody can tell.
    """
    first, path = recall(name), path_of(name)
    if first is None and path.exists():
        raise Unavailable(f"{name}: refused, the sum of its first use cannot be read from {path}")
    if first is None:
        today = datetime.now(UTC).date().isoformat()
        folders.write_file(path, f"{sha256} {today}\n")
    elif first.sha256 != sha256:
        raise Unavailable(
            f"{name}: refused, its SHA-256 is {sha256[:16]}… and was {first.sha256[:16]}… at its "
            f"first use on {first.day}; where its project says that it published it anew, remove {path}"
        )
