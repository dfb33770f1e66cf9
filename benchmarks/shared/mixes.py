"""Ten commands of one name at once, in any mix, with readers beside them."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.shared.paper import Ending, Paper

COMMANDS = 10
READERS = 2
DEFECTS = ("tracebacks", "wrong exit codes", "half deleted", "leaks", "hangs")
_CODES = {"up": {0, 1}, "run": {0, 1}, "down": {0, 1, 5}, "status": {0, 1, 5}}
"""1: another command works on it. 5: it is gone."""


def mixes(rounds: int, seed: int) -> dict[str, int]:
    """Number of defects of each kind in so many rounds; all 0 when all is as it should be."""
    found = Counter(dict.fromkeys(DEFECTS, 0))
    with tempfile.TemporaryDirectory(prefix="continuum-mix-") as folder:
        for number in range(rounds):
            place = Path(folder, str(number))
            place.mkdir()
            for kind, told in _round(Paper(place), random.Random(f"{seed}-{number}")):
                found[kind] += 1
                print(f"round {number} of seed {seed}: {kind}: {told}", flush=True)
    return dict(found)


def _round(paper: Paper, chance: random.Random) -> list[tuple[str, str]]:
    """Kinds of defects, and what was seen."""
    if chance.random() < 0.5:
        paper.call("up", paper.file)
    commands = [_command(paper, chance, number) for number in range(COMMANDS)]
    for _ in range(READERS):
        place = chance.randrange(len(commands) + 1)
        commands.insert(place, ("status", *chance.choice(((), ("paper",)))))
    calls = [paper.fork(*command) for command in commands]
    endings = [call.end() for call in calls]
    found = []
    for command, ending in zip(commands, endings, strict=True):
        found += _of_ending(ending, str(command[0]))
    there = paper.call("status", "--json").json
    # Every command has come to its end: what is there now is whole, or nothing is.
    if there != [] and not paper.is_right():
        found.append(("half deleted", paper.call("status").stdout))
    if paper.call("up", paper.file).code != 0 or not paper.is_right():
        found.append(("half deleted", f"up after it: {paper.call('status').stdout}"))
    found += _of_ending(paper.call("down", "--all"), "down")
    if not paper.is_empty():
        left = sorted(each.name for each in paper.deployments.iterdir())
        found.append(("leaks", ", ".join(left) or "a process"))
    return found


def _command(paper: Paper, chance: random.Random, number: int) -> tuple[object, ...]:
    match chance.choice(("up", "up", "recreate", "run", "run down", "down", "down", "down all")):
        case "up":
            return ("up", paper.file)
        case "recreate":
            return ("up", paper.file, "--recreate")
        case "run":
            return ("run", paper.file, "--results", paper.folder / f"results-{number}")
        case "run down":
            return ("run", paper.file, "--results", paper.folder / f"results-{number}", "--down")
        case "down":
            return ("down", "paper")
        case _:
            return ("down", "--all")


def _of_ending(ending: Ending, verb: str) -> list[tuple[str, str]]:
    if ending.code is None:
        return [("hangs", verb)]
    found = [("tracebacks", f"{verb}: {ending.stderr}")] if ending.traceback else []
    if ending.code not in _CODES[verb]:
        found.append(("wrong exit codes", f"{verb}: {ending.code} {ending.stderr}"))
    return found
