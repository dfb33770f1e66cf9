"""Measures the limits of the machine that it runs in.

    python3 -m continuum_runtime.limit_probe < task.json

The task is a JSON object; what it does not name is not measured:

    cores        {asked, seconds, own_kernel}: cores that the machine may use at once, as a sum;
                 `own_kernel` where the machine's kernel is its own
    memory       {own_kernel}
    disk_read    {rate, seconds}: in bytes per second
    disk_write   the same

So is the answer, in one line:

    available    processors that this program may run on
    cores        {used, spare}: cores that the machine used while more than enough was asked of it,
                 and cores of its processors that nobody used meanwhile; absent where `asked` is
                 no less than what is available, since that bounds it
    memory       {bytes, enforced}: the limit in force, null where there is none to be read; and
                 whether the kernel ends a program that goes beyond such a limit, null where that
                 cannot be tried. With a kernel of its own: its memory
    disk_read    {rate, busy, spare}: direct transfers; `busy`: the share of the time in which the
                 busiest disk was at work; `spare` as above
    disk_write   the same
    failed       by name of what was not measured: why

What the machine's first process uses is the machine's too: the processor time counted is that of its
control group. With a kernel of its own a machine does not see how long it was stopped, other than by
the gaps in which nothing ran.
"""

from __future__ import annotations

import itertools
import json
import math
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

GROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")
FILE = Path("/var/tmp/continuum-limit-probe")  # noqa: S108  of a machine of ours

LEAD = 0.06
"""Seconds of work before it is measured: by then a quota has used up what it had saved."""
GAP = 0.001
"""Seconds without running from which a busy program counts as stopped."""
LOOKS = 10
TRIAL_LIMIT = 16 * 2**20
TRIAL_SIZE = 48 * 2**20
"""Bytes of memory that a child may have, and that it takes."""
BLOCK = 4096
SHARE = 0.005
"""Seconds that one transfer takes at the rate that is asked."""
LARGEST_TRANSFER = 2**20
SAVED = 0.1
"""Seconds whose transfers a limit lets through at once: the kernel's, and QEMU's."""
SLOW = 1.04
EXCESS = 4
"""The greatest multiple of the asked bytes that is transferred, where nothing limits them."""


# -- cores ---------------------------------------------------------------------------------------


def available() -> int:
    """Processors that this program may run on."""
    return len(os.sched_getaffinity(0))


def cores(asked: float, seconds: float, *, own_kernel: bool) -> dict[str, float] | None:
    """Cores that the machine uses when it is asked for more; None where it has no more."""
    if available() <= asked:
        return None
    begin = time.monotonic() + LEAD
    count = available() if own_kernel else min(available(), math.floor(asked) + 1)
    children = [_spinner(begin, begin + seconds) for _ in range(count)]
    usage = None if own_kernel else _usage_of_group()
    time.sleep(max(0.0, begin - time.monotonic()))
    before = _moment(usage)
    time.sleep(max(0.0, begin + seconds - time.monotonic()))
    after = _moment(usage)
    ran = sum(_answer_of(*child) for child in children)
    wall = after[0] - before[0]
    used = ran if usage is None else (after[1] - before[1]) / wall
    return {"used": used, "spare": (after[2] - before[2]) / wall}


def _spinner(begin: float, end: float) -> tuple[int, int]:
    """Start a child that is busy until a little after `end`; its number, and where it tells its
    share of one core from `begin` to `end`.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    # It must never return into what its parent does.
    try:
        stopped = 0.0
        last = time.monotonic()
        while last < end + GAP:
            now = time.monotonic()
            if now - last > GAP:
                stopped += max(0.0, min(now, end) - max(last, begin))
            last = now
        os.write(writing, b"%r" % (1 - stopped / (end - begin)))
    finally:
        os._exit(0)


def _answer_of(child: int, reading: int) -> float:
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return float(said)


def _usage_of_group() -> Callable[[], float] | None:
    """The reader of the processor time of the machine's own root group, in seconds."""
    first = GROUPS / "cpuacct/cpuacct.usage"
    if first.is_file():
        return lambda: int(first.read_text()) / 1e9
    second = GROUPS / "cpu.stat"
    if second.is_file():
        return lambda: _named(second)["usage_usec"] / 1e6
    return None


def _moment(usage: Callable[[], float] | None) -> tuple[float, float, float]:
    """Time, processor time of the group, and idle time of our processors, of one moment."""
    for _ in range(LOOKS):
        began = time.monotonic()
        used = 0.0 if usage is None else usage()
        idle = _idle()
        now = time.monotonic()
        # Else we were stopped in between.
        if now - began < 2 * GAP:
            break
    return now, used, idle


def _idle() -> float:
    """Seconds for which the processors that we may run on had nothing to do."""
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = (line.split() for line in (PROC / "stat").read_text().splitlines())
    ticks = sum(int(words[4]) for words in lines if words and words[0] in ours)
    return ticks / os.sysconf("SC_CLK_TCK")


# -- memory --------------------------------------------------------------------------------------


def memory(*, own_kernel: bool) -> dict[str, int | bool | None]:
    """The machine's memory, and whether it is all that a program gets."""
    if own_kernel:
        return {"bytes": _named(PROC / "meminfo")["MemTotal"] * 1024, "enforced": True}
    return {"bytes": limit_in_force(), "enforced": _is_enforced()}


def limit_in_force() -> int | None:
    """Bytes that this program's control group may have, by itself and all those above it that can
    be seen; None without a limit.
    """
    version, folders = _own_groups()
    limits = []
    for folder in folders:
        with suppress(OSError, ValueError):
            if version == 1:
                limits.append(int((folder / "memory.limit_in_bytes").read_text()))
                limits.append(_named(folder / "memory.stat")["hierarchical_memory_limit"])
            else:
                limits.append(int((folder / "memory.max").read_text()))
    # Version 1 has a number for no limit, too.
    return min((each for each in limits if each < 2**62), default=None)


def _own_groups() -> tuple[int, list[Path]]:
    """Version of the control groups of memory, and our own group with all above it."""
    version, root = _memory_groups()
    lines = (line.split(":", 2) for line in (PROC / "self/cgroup").read_text().splitlines())
    wanted = "memory" if version == 1 else ""
    own = next((path for _, names, path in lines if wanted in names.split(",")), "/")
    inner = Path(own.lstrip("/"))
    return version, [root / each for each in (inner, *inner.parents)]


def _memory_groups() -> tuple[int, Path]:
    first = GROUPS / "memory"
    return (1, first) if (first / "memory.limit_in_bytes").is_file() else (2, GROUPS)


def _is_enforced() -> bool | None:
    """Tell whether a child that goes beyond a limit of its own, in a group of its own, is ended."""
    version, root = _memory_groups()
    group = root / f"continuum-limit-probe-{os.getpid()}"
    names = (
        ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        if version == 1
        else ("memory.max", "memory.swap.max")
    )
    swap = TRIAL_LIMIT if version == 1 else 0
    try:
        group.mkdir()
    except OSError:
        return None
    try:
        (group / names[0]).write_text(str(TRIAL_LIMIT))
        if (group / names[1]).is_file():
            (group / names[1]).write_text(str(swap))
        return _is_ended_in(group)
    except OSError:
        return None
    finally:
        _remove(group)


def _is_ended_in(group: Path) -> bool | None:
    child = os.fork()
    if not child:
        code = 2
        with suppress(BaseException):
            (group / "cgroup.procs").write_text("0")
            code = 0
            taken = mmap.mmap(-1, TRIAL_SIZE)
            for offset in range(0, TRIAL_SIZE, BLOCK):
                taken[offset] = 1
        os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status) == signal.SIGKILL
    return None if os.WEXITSTATUS(status) else False


def _remove(group: Path) -> None:
    """Remove the group; its last process may take a moment to leave it."""
    for _ in range(100):
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.01)
        else:
            return


# -- disk ----------------------------------------------------------------------------------------


def disk(rate: float, seconds: float, *, write: bool) -> dict[str, float]:
    """Bytes per second of direct transfers, one after the other, of the same place of one file."""
    # Reading must not wait for long until there is something to be read.
    size = max(BLOCK, min(LARGEST_TRANSFER, int(rate * SHARE)) // BLOCK * BLOCK)
    buffer = mmap.mmap(-1, size)
    buffer.write(os.urandom(size))
    with _direct(FILE) as file:
        os.pwrite(file, buffer, 0)
        busy, idle = _busy_seconds(), _idle()
        times = [time.monotonic()]
        begin = None
        while not is_enough(times, begin, size, rate, seconds):
            if write:
                os.pwrite(file, buffer, 0)
            else:
                os.preadv(file, [buffer], 0)
            times.append(time.monotonic())
            if begin is None and is_used_up(times, size, rate):
                begin = len(times) - 1
        worked, idled = _busy_seconds() - busy, _idle() - idle
    passed = times[-1] - times[0]
    return {
        "rate": steady_rate(times[begin or 0 :], size),
        "busy": min(1.0, worked / passed),
        "spare": idled / passed,
    }


def is_used_up(times: Sequence[float], size: int, rate: float) -> bool:
    """Judge if transfers have had all that a limit lets through at once: from here on it acts."""
    allowed = rate * (times[-1] - times[0] + SAVED)
    return size * len(times) > allowed


def is_enough(
    times: Sequence[float], begin: int | None, size: int, rate: float, seconds: float
) -> bool:
    """Judge if the transfers are enough to tell the rate. A limit acts from `begin` on; where they
    are too slow for one to act, they are enough when they have been slow for long.
    """
    if begin is not None:
        most = max(3.0, EXCESS * rate * seconds / size)
        return times[-1] - times[begin] >= seconds or len(times) - begin > most
    passed = times[-1] - times[0]
    return passed >= seconds and size * (len(times) - 1) <= rate * passed * SLOW


@contextmanager
def _direct(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_DIRECT, 0o600)
    try:
        yield file
    finally:
        os.close(file)
        path.unlink()


def steady_rate(times: Sequence[float], size: int) -> float:
    """Bytes per second of transfers of `size` bytes that ended at `times`.

    A limit lets a share of a second through at once, and then none until that time has passed. So
    the transfers count from one that had to wait to the last one that had to; all of them where not
    two had to, since then nothing held them up.
    """
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    longest = max(gaps)
    waited = [number for number, gap in enumerate(gaps, start=1) if gap >= longest / 2]
    first, last = (waited[0], waited[-1]) if len(waited) > 1 else (0, len(times) - 1)
    return size * (last - first) / (times[last] - times[first])


def _busy_seconds() -> float:
    """Seconds for which the busiest disk has had something to do."""
    lines = (line.split() for line in (PROC / "diskstats").read_text().splitlines())
    return max((int(words[12]) / 1000 for words in lines if len(words) > 12), default=0.0)


# -- all of it -----------------------------------------------------------------------------------


def _named(path: Path) -> dict[str, int]:
    lines = (line.replace(":", " ").split() for line in path.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}


def run(task: Mapping[str, Any]) -> dict[str, Any]:
    """Measure what the task names; the answer, ready for JSON."""
    measures: dict[str, Callable[..., object]] = {
        "cores": cores,
        "memory": memory,
        "disk_read": lambda **said: disk(write=False, **said),
        "disk_write": lambda **said: disk(write=True, **said),
    }
    answer: dict[str, Any] = {"available": available(), "failed": {}}
    for name, measure in measures.items():
        if name not in task:
            continue
        try:
            measured = measure(**task[name])
        except (OSError, KeyError, ValueError) as error:
            answer["failed"][name] = f"{type(error).__name__}: {error}"
            continue
        if measured is not None:
            answer[name] = measured
    return answer


if __name__ == "__main__":
    json.dump(run(json.load(sys.stdin)), sys.stdout)
    print()
