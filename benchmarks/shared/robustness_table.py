"""The table of broken inputs: what was tried of each kind, and what was wrong."""

from __future__ import annotations

import importlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.shared import bad_archives, bad_folders, bad_texts
from benchmarks.shared.attempt import FINDINGS, LIMIT, Attempt, Ending, Finding, attempt, clear

SEED = 15
COUNT = 20_000

Make = Callable[[Path, random.Random], Attempt]


@dataclass(frozen=True)
class Kind:
    """One kind of broken input: how it is made, and its share of all, in percent."""

    title: str
    make: Make
    share: float


KINDS = {
    "toml": Kind("broken TOML", bad_texts.toml, 25),
    "cfg": Kind("broken 1.x .cfg", bad_texts.legacy, 25),
    "bytes": Kind("broken bytes", bad_texts.octets, 7.5),
    "set": Kind("bad --set", bad_texts.setting, 12.5),
    "environment": Kind("bad CONTINUUM_SET__…", bad_texts.variable, 7.5),
    "near": Kind("near-valid experiments", bad_texts.near, 10),
    "import": Kind("artifacts import", bad_archives.imported, 4),
    "image": Kind("container images", bad_archives.image, 4),
    "results": Kind("results folders", bad_folders.results, 2),
    "state": Kind("state folders", bad_folders.state, 2.5),
}


@dataclass(frozen=True)
class Series:
    """Commands that are disturbed: a function of how many and of the seed counts their defects."""

    title: str
    module: str
    function: str
    count: int
    """Of them for `COUNT` inputs."""


SERIES = {
    "kills": Series("random kills", "benchmarks.shared.kills", "kills", 500),
    "mixes": Series("10 commands at once", "benchmarks.shared.mixes", "mixes", 100),
}


@dataclass
class Row:
    """Findings with one kind.

    Attributes:
        tried: inputs.
        calls: of the command line.
        found: how many inputs have a finding of each kind.
        codes: how many calls ended with each exit code.
        examples: a few findings in words, each with the input's number.
    """

    title: str
    tried: int = 0
    calls: int = 0
    seconds: float = 0.0
    found: Counter[str] = field(default_factory=Counter)
    codes: Counter[int | None] = field(default_factory=Counter)
    examples: list[tuple[str, Finding]] = field(default_factory=list)

    def count(self, name: str, endings: Sequence[Ending], findings: Sequence[Finding]) -> None:
        """Add one input."""
        self.tried += 1
        self.calls += len(endings)
        self.codes.update(ending.code for ending in endings)
        self.found.update({finding.kind for finding in findings})
        self.examples += [(name, finding) for finding in findings]


def rows(  # noqa: PLR0913  what a table is made of
    seed: int,
    count: int,
    kinds: Sequence[str] = (),
    *,
    part: int = 1,
    parts: int = 1,
    limit: float = LIMIT,
) -> Iterator[Row]:
    """Try inputs of each kind; one part of several, so that they can be spread over calls.

    `limit`: seconds after which a call counts as one without an end.
    """
    with tempfile.TemporaryDirectory(prefix="robustness-") as temporary:
        work = Path(temporary)
        for name in [each for each in KINDS if each in (kinds or KINDS)]:
            kind = KINDS[name]
            row = Row(kind.title)
            began = time.monotonic()
            for number in range(part - 1, max(1, round(count * kind.share / 100)), parts):
                row.count(f"{name}:{number}", *_try(name, number, seed, work, limit)[1:])
            row.seconds = time.monotonic() - began
            yield row


def _try(
    name: str, number: int, seed: int, work: Path, limit: float = LIMIT
) -> tuple[Attempt, list[Ending], list[Finding]]:
    """Make one input in a folder of its own, try it, and remove it all."""
    outside = work / "one"
    folder = outside / "inside"
    folder.mkdir(parents=True)
    try:
        made = KINDS[name].make(folder, random.Random(f"{seed}/{name}/{number}"))
        endings, findings = attempt(made, folder, limit)
        return made, endings, findings
    finally:
        clear(outside)


def show(name: str, number: int, seed: int) -> None:
    """Make one input again, and tell it with what became of it."""
    with tempfile.TemporaryDirectory(prefix="robustness-") as temporary:
        made, endings, findings = _try(name, number, seed, Path(temporary))
    print(made.show)
    for call, ending in zip(made.calls, endings, strict=True):
        print(f"--- {call}: {ending.code}\n{ending.output[-2000:]}{ending.errors[-4000:]}")
    for finding in findings:
        print(f"=== {finding.kind}: {finding.words}")


def print_series(seed: int, count: int, names: Sequence[str], *, part: int, parts: int) -> bool:
    """Disturb commands and print what was found; whether nothing was wrong."""
    right = True
    for name in names:
        series = SERIES[name]
        own = max(1, round(series.count * count / COUNT / parts))
        began = time.monotonic()
        disturb = getattr(importlib.import_module(series.module), series.function)
        found: dict[str, int] = disturb(own, seed * parts + part - 1 if parts > 1 else seed)
        words = ", ".join(f"{defects} {what}" for what, defects in found.items())
        print(f"{series.title:24} {own:>6}  {words} ({time.monotonic() - began:.0f} s)", flush=True)
        right = right and not any(found.values())
    return right


def print_rows(found: Iterable[Row], seed: int) -> bool:
    """Print the table as it comes; whether nothing was wrong."""
    wrong: list[tuple[str, Finding]] = []
    print(f"seed {seed}")
    head = f"{'':24} {'tried':>6} {'calls':>6}" + "".join(f" {each:>8}" for each in FINDINGS)
    print(f"{head}  exit codes", flush=True)
    tried = 0
    for row in found:
        codes = ", ".join(f"{code}: {count}" for code, count in sorted(row.codes.items(), key=str))
        counts = "".join(f" {row.found[each]:>8}" for each in FINDINGS)
        print(
            f"{row.title:24} {row.tried:>6} {row.calls:>6}{counts}  {codes} ({row.seconds:.0f} s)",
            flush=True,
        )
        tried += row.tried
        wrong += row.examples
    print(f"{'in all':24} {tried:>6}; {len(wrong)} findings")
    for name, finding in wrong[:40]:
        print(f"{name}: {finding.kind}: {finding.words}", file=sys.stderr)
    return not wrong
