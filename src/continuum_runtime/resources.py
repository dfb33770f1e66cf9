"""Notes what a machine, and named programs on it, take of processor and memory, over time.

    python3 -m continuum_runtime.resources config.json

The configuration holds `output` (a file, made new), `interval` and `limit` (seconds) and `programs`
(names of programs). Each line of the file is

    time_ns,part,cpu_ns,memory_bytes

where `part` is `machine` or a program's name, `cpu_ns` is processor time since some moment in the
past, and memory counts no files that could be dropped. All processes of a program count together.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MACHINE = "machine"
_COMM_LIMIT = 15
_SEARCH_INTERVAL = 1.0
_LOOKS = 2


class Usage(NamedTuple):
    """Processor time in ns, and memory in bytes."""

    cpu_ns: int
    memory_bytes: int


def machine_reader(root: Path = Path("/")) -> Callable[[], Usage]:
    """How the whole machine's use is read: from its control group, else from the kernel.

    A machine that is a container sees the host's figures in `/proc`, but its own control group as
    the root of all.
    """
    groups = root / "sys/fs/cgroup"
    if (groups / "memory.current").is_file():
        return lambda: Usage(
            _named(groups / "cpu.stat")["usage_usec"] * 1000,
            _without_files(groups, _number(groups / "memory.current"), "inactive_file"),
        )
    memory = groups / "memory"
    usage = groups / "cpuacct/cpuacct.usage"
    if usage.is_file() and (memory / "memory.usage_in_bytes").is_file():
        return lambda: Usage(
            _number(usage),
            _without_files(
                memory, _number(memory / "memory.usage_in_bytes"), "total_inactive_file"
            ),
        )
    return lambda: _of_kernel(root / "proc")


class Programs:
    """Finds the processes of named programs, and adds up what they took.

    Those that have ended keep their share of the processor time, so that it never falls.
    """

    def __init__(self, names: Sequence[str], proc: Path = Path("/proc")) -> None:
        # The kernel cuts the names of programs.
        self._names = {name[:_COMM_LIMIT]: name for name in names}
        self._proc = proc
        self._tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._alive: dict[int, str] = {}
        self._cpu: dict[tuple[str, int], int] = {}
        self._others: dict[int, int] = {}

    def search(self) -> None:
        """Look for processes that have begun.

        One of another name is looked at twice: it may be about to become another program.
        """
        there = {int(each.name) for each in self._proc.iterdir() if each.name.isdecimal()}
        self._others = {pid: times for pid, times in self._others.items() if pid in there}
        for pid in there - self._alive.keys():
            times = self._others.get(pid, 0)
            if times < _LOOKS:
                comm = ""
                with suppress(OSError):
                    comm = (self._proc / str(pid) / "comm").read_text().rstrip("\n")
                if comm in self._names:
                    self._alive[pid] = self._names[comm]
                else:
                    self._others[pid] = times + 1

    def read(self) -> dict[str, Usage]:
        """What each program that was ever there has taken."""
        memory = dict.fromkeys(self._names.values(), 0)
        for pid, name in list(self._alive.items()):
            try:
                cpu, pages = _of_process(self._proc / str(pid))
            except (OSError, ValueError, IndexError):
                del self._alive[pid]
                continue
            self._cpu[name, pid] = cpu * self._tick
            memory[name] += pages * self._page
        total: dict[str, int] = {}
        for (name, _), taken in self._cpu.items():
            total[name] = total.get(name, 0) + taken
        return {name: Usage(taken, memory[name]) for name, taken in total.items()}


def lines(at: int, usage: Mapping[str, Usage]) -> Iterator[str]:
    """The lines of one moment."""
    for part, (cpu, memory) in usage.items():
        yield f"{at},{part},{cpu},{memory}\n"


def _number(path: Path) -> int:
    return int(path.read_text())


def _named(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in path.read_text().splitlines())
    return {name: int(value) for name, value in (pair for pair in pairs if len(pair) == 2)}


def _without_files(group: Path, used: int, key: str) -> int:
    return max(0, used - _named(group / "memory.stat").get(key, 0))


def _of_kernel(proc: Path) -> Usage:
    first = (proc / "stat").read_text().split("\n", 1)[0].split()
    # user, nice, system, idle, iowait, irq, softirq, steal: of which two are no work.
    work = sum(int(value) for index, value in enumerate(first[1:9]) if index not in (3, 4))
    found = (line.split() for line in (proc / "meminfo").read_text().splitlines())
    memory = {words[0].rstrip(":"): int(words[1]) * 1024 for words in found if len(words) >= 2}
    return Usage(
        work * (1_000_000_000 // os.sysconf("SC_CLK_TCK")),
        memory["MemTotal"] - memory["MemAvailable"],
    )


def _of_process(folder: Path) -> tuple[int, int]:
    """Ticks of the processor, and pages of memory that are its own."""
    # A program's name may hold anything, also a parenthesis.
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12]), int(fields[21])


def main(path: str) -> None:
    """Note until the limit, or until stopped."""
    config = json.loads(Path(path).read_text())
    interval = float(config["interval"])
    read_machine = machine_reader()
    programs = Programs(config["programs"])
    began = time.monotonic()
    search_at = began
    wait = threading.Event()
    with Path(config["output"]).open("w") as output:
        due = began
        while due < began + config["limit"]:
            if time.monotonic() >= search_at:
                programs.search()
                search_at = time.monotonic() + _SEARCH_INTERVAL
            output.writelines(lines(time.time_ns(), {MACHINE: read_machine(), **programs.read()}))
            output.flush()
            due = max(due + interval, time.monotonic())
            wait.wait(due - time.monotonic())


if __name__ == "__main__":
    main(sys.argv[1])
