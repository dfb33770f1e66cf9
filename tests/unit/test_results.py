"""A results folder's `run.json`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from continuum.benchmark.results import (
    RUN_FILE,
    SAMPLES_FILE,
    Expectation,
    Figure,
    Group,
    Results,
    Run,
    read_run,
    write_run,
)
from continuum.errors import NotFound, StepFailed
from continuum.reasons import MEANINGS
from continuum.report.table import expectation_rows
from made_up_runs import MadeUp


def small(**changes: object) -> Run:
    fields = {
        "run": "r-1",
        "deployment": "d",
        "status": "done",
        "started": "2026-01-31T12:30:05+00:00",
        "finished": "2026-01-31T12:31:05+00:00",
    }
    return Run.model_validate({**fields, **changes})


def test_a_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    run = MadeUp(repetitions=2).write(tmp_path)
    assert read_run(tmp_path) == run
    whole = Results.load(tmp_path)
    assert whole.run == run
    assert whole.samples is not None
    assert whole.samples.num_rows == 2 * 2 * 60
    assert whole.links is not None
    assert whole.links.num_rows == 18


def test_what_is_absent_is_none(tmp_path: Path) -> None:
    write_run(tmp_path, small())
    whole = Results.load(tmp_path)
    assert (whole.samples, whole.links) == (None, None)
    assert whole.run.all is None
    assert whole.run.groups("endpoint") == ()


def test_a_later_versions_keys_are_passed_over(tmp_path: Path) -> None:
    write_run(tmp_path, small())
    path = tmp_path / RUN_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "energy": {"joules": 3}}))
    assert read_run(tmp_path) == small()


def test_folders_that_hold_no_run_are_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_run(tmp_path / "absent")
    with pytest.raises(NotFound, match=r"run\.json"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "schema version None"),
        (b'{"schema_version": "7"}', "schema version 7"),
        (b'{"schema_version": "1"}', "does not hold a run"),
        (b'{"schema_version": "1", "status": "fine"}', "does not hold a run"),
    ],
)
def test_files_that_are_no_run_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / RUN_FILE).write_bytes(content)
    with pytest.raises(StepFailed, match=words) as refusal:
        read_run(tmp_path)
    assert refusal.value.where == str(tmp_path / RUN_FILE)


def test_a_broken_table_beside_it_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path, small())
    (tmp_path / SAMPLES_FILE).write_bytes(b"no table")
    with pytest.raises(StepFailed, match="not a Parquet file"):
        Results.load(tmp_path)


def test_any_text_can_be_written(tmp_path: Path) -> None:
    reasons = ("half a pair \udc80", "nul \x00", "</script>", "ünï — 漢字")
    write_run(tmp_path, small(reasons=reasons))
    # Sentences without a code are what earlier versions kept.
    assert tuple(map(str, read_run(tmp_path).reasons))[1:] == reasons[1:]


def test_numbers_that_json_lacks_are_refused() -> None:
    with pytest.raises(ValidationError):
        Figure(value=float("nan"))
    with pytest.raises(ValidationError):
        Figure(value=1, high=float("inf"))


def test_shares_of_nothing_are_none() -> None:
    group = Group(kind="all", name="all", samples=0, ok=0, lost=0, timeout=0, error=0)
    assert group.agreement is None
    assert group.unanswered == 0
    row = Expectation(
        kind="all",
        name="all",
        quantity="forward_ms",
        n=1,
        expected_mean=0,
        measured_mean=0.5,
        measured_p50=0.5,
    )
    assert row.difference_ms == 0.5
    assert row.difference_percent is None


@pytest.mark.parametrize(
    ("within", "words"), [(True, "as expected"), (False, "differs"), (None, "lossy")]
)
def test_an_expectation_of_an_earlier_version_is_read_and_shown(
    within: bool | None, words: str
) -> None:
    """They had no verdict and no interval, and no wait."""
    run = Run.model_validate(
        {
            "run": "r",
            "deployment": "d",
            "status": "done",
            "started": "2026-01-31T12:30:05+01:00",
            "finished": "2026-01-31T12:30:33+01:00",
            "expectation": [
                {
                    "kind": "all",
                    "name": "all",
                    "quantity": "forward_ms",
                    "n": 300,
                    "expected_mean": None if within is None else 87.3,
                    "measured_mean": 87.1,
                    "measured_p50": 87.0,
                    "tolerance_ms": None if within is None else 4.4,
                    "within": within,
                    "why_not": "lossy" if within is None else "",
                }
            ],
        }
    )
    (row,) = expectation_rows(run, "all")
    assert row.words == words
    assert row.interval == ""


def test_each_code_that_can_be_accepted_stands_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    rows = [f"| `{code}` | {meaning} |" for code, meaning in MEANINGS.items()]
    assert [row for row in rows if row not in page] == []
