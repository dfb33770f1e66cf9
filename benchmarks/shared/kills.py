"""Signals at random moments of `up`, `run` and `down`; then the same command goes on, or `down` cleans."""

from __future__ import annotations

import json
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.shared.paper import Call, Ending, Paper

VERBS = ("up", "run", "down")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
INTERRUPTED = 130
DEFECTS = ("leaks", "wrong states", "tracebacks", "wrong exit codes", "hangs")
_OWN = 0.25
"""Share of the commands that begin with a start of Python, and all imports."""
_OVER = 1.1
"""Of a verb's usual time: the signal may also come when it has just ended."""


def kills(count: int, seed: int) -> dict[str, int]:
    """Number of defects of each kind in `count` kills; all 0 when all is as it should be."""
    found = Counter(dict.fromkeys(DEFECTS, 0))
    usual = _usual_seconds()
    for number in range(count):
        with tempfile.TemporaryDirectory(prefix="continuum-kill-") as folder:
            wrong = _kill(Paper(Path(folder)), random.Random(f"{seed}-{number}"), usual)
        for kind, told in wrong:
            found[kind] += 1
            print(f"kill {number} of seed {seed}: {kind}: {told}", flush=True)
    return dict(found)


def _usual_seconds() -> dict[tuple[str, bool], float]:
    """Seconds that each verb takes when nobody disturbs it, by whether its Python is its own."""
    taken = {}
    for own in (True, False):
        with tempfile.TemporaryDirectory(prefix="continuum-kill-") as folder:
            paper = Paper(Path(folder))
            for verb in ("up", "down", "run"):
                call = _begun(paper, own, *_arguments(paper, verb, "usual"))
                began = time.monotonic()
                call.end()
                taken[verb, own] = time.monotonic() - began
    return taken


def _begun(paper: Paper, own: bool, *arguments: object) -> Call:
    """Begin a command: in a Python of its own, or, which takes less, in a fork of one."""
    if own:
        return paper.start(*arguments)
    call = paper.fork(*arguments)
    call.await_begin()
    return call


def _arguments(paper: Paper, verb: str, results: str) -> tuple[object, ...]:
    if verb == "down":
        return ("down", "paper")
    return (verb, paper.file, *(("--results", paper.folder / results) if verb == "run" else ()))


def _kill(
    paper: Paper, chance: random.Random, usual: dict[tuple[str, bool], float]
) -> list[tuple[str, str]]:
    """Kinds of defects, and what was seen."""
    verb, number = chance.choice(VERBS), chance.choice(SIGNALS)
    again = chance.random() < 0.5
    if verb == "down":
        paper.call("up", paper.file)
    own = chance.random() < _OWN
    after = chance.uniform(0, _OVER * usual[verb, own])
    what = f"{verb}, {number.name} after {after:.3f} s, then {'again' if again else 'down'}"
    call = _begun(paper, own, *_arguments(paper, verb, "stopped"))
    time.sleep(after)
    call.signal(number)
    ending = call.end()
    found = _of_ending(ending, number, what)
    results = paper.folder / "stopped"
    if ending.code == INTERRUPTED and results.is_dir() and not _has_record(results):
        found.append(("wrong states", f"{what}: results without a record"))
    if again:
        last = paper.call(*_arguments(paper, verb, "again"))
        found += _of_last(last, {0, 5} if verb == "down" else {0}, f"{what}: again")
        if verb != "down" and not paper.is_right():
            found.append(("wrong states", f"{what}: {paper.call('status').stdout}"))
        planned = paper.call("plan", paper.file, "--detailed-exitcode")
        if verb != "down" and planned.code != 0:
            found.append(("wrong states", f"{what}: {planned.stdout}"))
    found += _of_last(paper.call("down", "paper"), {0, 5}, f"{what}: down")
    if not paper.is_empty():
        left = sorted(each.name for each in paper.deployments.iterdir())
        found.append(("leaks", f"{what}: {', '.join(left) or 'a process'}"))
    return found


def _of_ending(ending: Ending, number: signal.Signals, what: str) -> list[tuple[str, str]]:
    """Defects in how the command ended that got the signal."""
    if ending.code is None:
        return [("hangs", what)]
    found = []
    # Before our first line Python itself answers signals, and SIGINT with a traceback of its own.
    ours = "continuum" in ending.stderr or number != signal.SIGINT
    if ending.traceback and ours:
        found.append(("tracebacks", f"{what}: {ending.stderr}"))
    if ending.code not in {0, INTERRUPTED, -number} and ours:
        found.append(("wrong exit codes", f"{what}: {ending.code} {ending.stderr}"))
    return found


def _of_last(ending: Ending, codes: set[int], what: str) -> list[tuple[str, str]]:
    """Defects in how a command ended that nobody disturbed."""
    if ending.code is None:
        return [("hangs", what)]
    found = [("tracebacks", f"{what}: {ending.stderr}")] if ending.traceback else []
    if ending.code not in codes:
        found.append(("wrong states", f"{what}: {ending.code} {ending.stderr}"))
    return found


def _has_record(results: Path) -> bool:
    if not any(results.iterdir()):
        return True
    try:
        return json.loads((results / "run.json").read_text())["status"] in {"interrupted", "done"}
    except (OSError, ValueError, KeyError):
        return False
