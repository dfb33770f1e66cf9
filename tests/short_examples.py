"""Short runs of the examples, on a host that is quiet meanwhile."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from side_by_side import alone

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def check_run(run: dict[str, Any], requests: int) -> None:
    """All of an image classification's requests must have been answered, and well."""
    assert run["status"] == "done", run["reasons"]
    everything = run["table"][0]
    assert everything["samples"] == requests
    assert everything["ok"] == requests
    assert everything["judged"] > requests / 2
    assert everything["agreed"] == everything["judged"]


def run_example(line: Any, name: str, each: int, *settings: str) -> tuple[dict[str, Any], str]:
    """Run an example, whose figures must be as expected; what is in `run.json`, and was said.

    `line` is the command line of the tests on real machines, whose folder `out` has the results.
    Each endpoint sends `each` requests, all of which must be answered, and well. What else the
    computer below this host does may disturb one run: what is out of tolerance is measured once
    more.
    """
    words = [word for setting in settings for word in ("--set", setting)]
    file = EXAMPLES / name / "experiment.toml"
    line("up", file, *words)
    for _ in range(2):
        shutil.rmtree(line.folder / "out", ignore_errors=True)
        with alone():
            ended = line("run", file, "--results", "out", *words)
        run: dict[str, Any] = json.loads((line.folder / "out" / "run.json").read_text())
        check_run(run, each * len(run["endpoints"]))
        outside = [row for row in run["expectation"] if not row["within"]]
        if not outside:
            break
    assert outside == []
    return run, ended.out
