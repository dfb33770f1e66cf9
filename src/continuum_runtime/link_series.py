"""The counts of the user-space emulator: one record per link and machine, each 100 ms with traffic.

    python -m continuum_runtime.link_series FOLDER SINCE UNTIL

prints those of a folder as lines of JSON: [machine, queue, start, packets, …], see `Record`. Times
in nanoseconds of the wall clock.

The folder holds files of at most 32 MiB, named by when they were begun; the oldest go when all
together would exceed 256 MiB. That is 5.1 million records: twenty machines with three links each,
all in use all the time, fill it in two hours and twenty minutes. Each file begins with a line
`continuum-links 1 NAME…`, the machines' names; records follow, the smallest byte first, as `_RECORD`
has them, with the machine as its place among the names.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HEAD = "continuum-links 1"
WINDOW_NS = 100_000_000
PART_BYTES = 32 * 2**20
SERIES_BYTES = 256 * 2**20
MOST_PARTS = 1000

_RECORD = struct.Struct("<QHHIQIII4f")


class Record(NamedTuple):
    """One window of one queue.

    Attributes:
        machine: where the packets arrive.
        queue: its number.
        start_ns: when the window of 100 ms began.
        packets: that arrived, with those that are lost: frames where the link loses or has
            jitter, else packets of up to 64 kB.
        bytes: of them, Ethernet headers included.
        lost: as the link asks for.
        overflow: that neither the emulator nor the kernel could hold.
        backlog: the most that waited at one time.
        delay_us: mean of what the packets that arrived were to wait.
        late_p50_us, late_p99_us, late_max_us: how long after their time packets were let go,
            of those that were let go in this window; the percentiles to 12 %, upwards.
    """

    machine: str
    queue: int
    start_ns: int
    packets: int
    bytes: int
    lost: int
    overflow: int
    backlog: int
    delay_us: float
    late_p50_us: float
    late_p99_us: float
    late_max_us: float


def pack(record: Record, machine: int) -> bytes:
    """A record as it is written, with its machine as a place among the names."""
    start, *rest = record[2:]
    return _RECORD.pack(start, machine, record.queue, *rest)


def read(folder: Path, since_ns: int = 0, until_ns: int = 2**63) -> Iterator[Record]:
    """The records whose windows touch a time, in the order in which they were written.

    A file that is being written may end within a record, which is left out; so is what is damaged.
    """
    named = (part for part in folder.glob("*.part") if part.stem.isdecimal())
    parts = sorted(part for part in named if part.is_file() and not part.is_symlink())
    for part, after in zip(parts, [*parts[1:], None], strict=False):
        # The next one begins with what is written after it was made.
        if after is not None and int(after.stem) + 2 * WINDOW_NS < since_ns:
            continue
        head, _, content = part.read_bytes().partition(b"\n")
        if not head.startswith(HEAD.encode()):
            continue
        names = head.decode(errors="replace").removeprefix(HEAD).split()
        whole = len(content) - len(content) % _RECORD.size
        for start, machine, queue, *rest in _RECORD.iter_unpack(content[:whole]):
            if since_ns - WINDOW_NS < start < until_ns and machine < len(names):
                yield Record(names[machine], queue, start, *rest)


class Writer:
    """Writes records into a folder."""

    def __init__(self, folder: Path, machines: Sequence[str]) -> None:
        self._folder = folder
        self._head = " ".join((HEAD, *machines)).encode() + b"\n"
        self._part: Path | None = None
        self._bytes = 0

    def write(self, records: bytes) -> None:
        """Append packed records.

        Raises:
            OSError: they cannot be written.
        """
        if self._part is None or self._bytes + len(records) > PART_BYTES:
            self._folder.mkdir(exist_ok=True)
            self._make_room()
            self._part = self._folder / f"{time.time_ns():020}.part"
            self._part.write_bytes(self._head)
            self._bytes = 0
        with self._part.open("ab") as part:
            part.write(records)
        self._bytes += len(records)

    def _make_room(self) -> None:
        size = PART_BYTES
        for kept, part in enumerate(sorted(self._folder.glob("*.part"), reverse=True), start=1):
            size += part.stat().st_size
            if size > SERIES_BYTES or kept >= MOST_PARTS:
                part.unlink()


class Lateness:
    """The lateness of packets at their release: a histogram, eight buckets for each doubling."""

    def __init__(self) -> None:
        self._buckets = [0] * (8 * 40)
        self._count = 0
        self._largest = 0

    def add(self, nanoseconds: int) -> None:
        """Count one packet."""
        late = max(nanoseconds, 0)
        doublings = (late | 8).bit_length() - 4
        bucket = doublings * 8 + ((late | 8) >> doublings & 7)
        self._buckets[min(bucket, len(self._buckets) - 1)] += 1
        self._count += 1
        self._largest = max(self._largest, late)

    def quantile(self, percent: int) -> float:
        """Microseconds: the upper end of the bucket that holds it, at most the largest."""
        if not self._count:
            return 0.0
        rank = (self._count * percent + 99) // 100
        seen = 0
        for bucket, count in enumerate(self._buckets):
            seen += count
            if seen >= rank:
                return min((9 + bucket % 8) << bucket // 8, self._largest) / 1000
        raise AssertionError("the buckets hold all that was counted")

    @property
    def largest(self) -> float:
        """Microseconds."""
        return self._largest / 1000


def main(arguments: list[str]) -> int:
    """Run as a program; the exit status."""
    if len(arguments) != 3:
        print("usage: link_series FOLDER SINCE UNTIL", file=sys.stderr)
        return 2
    for record in read(Path(arguments[0]), int(arguments[1]), int(arguments[2])):
        print(json.dumps(record))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
