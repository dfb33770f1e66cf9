"""Short runs of the examples, on a host that is quiet meanwhile, and what runs leave."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from run_reasons import defects
from side_by_side import alone

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def check_run(run: dict[str, Any], requests: int) -> None:
    """All of an image classification's requests must have been answered, and well."""
    assert defects(run) == []
    everything = run["table"][0]
    assert everything["samples"] == requests
    assert everything["ok"] == requests
    assert everything["judged"] > requests / 2
    assert everything["agreed"] == everything["judged"]


def run_example(
    line: Any, name: str, each: int, *settings: str, down: bool = True
) -> tuple[dict[str, Any], str]:
    """Run an example, whose figures must not differ from what is expected; what is in `run.json`, and was said.

    `line` is the command line of the tests on real machines, whose folder `out` has the results.
    Each endpoint sends `each` requests, all of which must be answered, and well. The machines are
    gone afterwards, unless not `down`.

    A short run has few requests, so that little can be shown; but nothing may differ. What else the
    computer below this host does may disturb a run: what differs is measured again, at most twice.
    """
    words = [word for setting in settings for word in ("--set", setting)]
    ending = ("--down",) if down else ()
    file = EXAMPLES / name / "experiment.toml"
    for _ in range(3):
        shutil.rmtree(line.folder / "out", ignore_errors=True)
        line("up", file, *words)
        with alone():
            ended = line(
                *("run", file, "--results", "out", *ending, *words), "--accept", "expectation"
            )
        run: dict[str, Any] = json.loads((line.folder / "out" / "run.json").read_text())
        check_run(run, each * len(run["endpoints"]))
        found = [row for row in run["expectation"] if row["kind"] == "all"]
        outside = [row for row in found if row["verdict"] == "differs"]
        if not outside:
            break
    assert found
    assert not outside, outside
    return run, ended.out


def samples(folder: Path) -> dict[str, list[Any]]:
    """The columns of `samples.parquet` in a results folder."""
    run = json.loads((folder / "run.json").read_text())
    assert (folder / "samples.parquet").exists(), run["reasons"]
    found: dict[str, list[Any]] = pq.read_table(folder / "samples.parquet").to_pydict()
    return found
