"""The host's user and group ids that a machine's own stand for, in a user namespace.

On disk a machine's files keep the numbers that they have inside, so nothing depends on the range
that it had last: it is worked out anew for each start, and nothing on the host is changed for it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from pathlib import Path

SIZE = 65536
"""Ids of one machine, as many as a Linux system of its own uses."""

FIRST = 0x7800_0000
SLOTS = 2039
"""Above the ids that directory services hand out (SSSD: up to 2,000,200,000) and below systemd's
foreign ones (0x7FFE0000): https://systemd.io/UIDS-GIDS. A prime, so that tiers whose blocks lie a
power of two apart do not meet."""

_SUBORDINATE = (Path("/etc/subuid"), Path("/etc/subgid"))
_USERS = (Path("/etc/passwd"), Path("/etc/group"))


def first_of(address: str, taken: Iterable[range] = ()) -> int:
    """The first id of the machine with that address, clear of the ranges that are taken.

    Machines of one host have different addresses, and so different ids: what the kernel counts for
    each user, as keys and pipes, is not shared between them.

    Args:
        address: of the machine, IPv4.
        taken: ids of the host's own users.
    """
    own = int(ipaddress.IPv4Address(address)) % SLOTS
    others = [each for each in taken if each.stop > FIRST]
    for step in range(SLOTS):
        first = FIRST + (own + step) % SLOTS * SIZE
        if all(first >= each.stop or each.start >= first + SIZE for each in others):
            return first
    return FIRST + own * SIZE


def taken(
    subordinate: Iterable[Path] = _SUBORDINATE, users: Iterable[Path] = _USERS
) -> list[range]:
    """Ids that this host has given to somebody, as far as its own files tell."""
    return [*_ranges(subordinate, first=1, count=2), *_ranges(users, first=2, count=None)]


def _ranges(paths: Iterable[Path], *, first: int, count: int | None) -> Iterator[range]:
    for path in paths:
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            fields = line.split(":")
            try:
                begin = int(fields[first])
                yield range(begin, begin + (1 if count is None else int(fields[count])))
            except (IndexError, ValueError):
                continue
