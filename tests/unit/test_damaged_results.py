"""Results that are damaged are told by file and column; samples of another run are found out."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from continuum import folders
from continuum.benchmark import samples as tables
from continuum.benchmark.results import (
    LINKS_FILE,
    RUN_FILE,
    SAMPLES_FILE,
    SERIES_FILE,
    STALLS_FILE,
    Results,
    read_run,
)
from continuum.errors import ContinuumError, StepFailed
from continuum.report import page, terminal
from damages import bytes_of, damage
from made_up_runs import MadeUp
from time_limit import time_limit

COUNT = int(os.environ.get("CONTINUUM_TEST_DAMAGES", "40"))
SEED = int(os.environ.get("CONTINUUM_TEST_SEED", "15"))
LIMIT = 30.0

Change = Callable[[pa.Table], pa.Table]


def _rewrite(path: Path, change: Change) -> None:
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def _with(name: str, values: Callable[[list[Any]], list[Any]], kind: pa.DataType) -> Change:
    def change(table: pa.Table) -> pa.Table:
        place = table.schema.names.index(name)
        column = pa.array(values(table[name].to_pylist()), kind)
        return table.set_column(place, pa.field(name, kind), column)

    return change


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (
            LINKS_FILE,
            _with("measured", lambda old: ["fast"] * len(old), pa.string()),
            "links.parquet cannot be read: column measured is string, not double",
        ),
        (
            SAMPLES_FILE,
            _with("repetition", lambda old: [None, *old[1:]], pa.int32()),
            "samples.parquet cannot be read: column repetition lacks 1 values",
        ),
        (
            SAMPLES_FILE,
            _with(
                "sequence",
                lambda old: [{"a": each} for each in old],
                pa.struct([("a", pa.int64())]),
            ),
            "column sequence is struct",
        ),
        (SAMPLES_FILE, lambda table: table.drop_columns(["status"]), "lacks columns: status"),
        (
            SAMPLES_FILE,
            lambda table: table.append_column("status", table["status"]),
            "column 'status' is there twice",
        ),
    ],
)
def test_a_wrong_column_is_named(tmp_path: Path, file: str, change: Change, said: str) -> None:
    MadeUp().write(tmp_path)
    _rewrite(tmp_path / file, change)
    with pytest.raises(StepFailed) as caught:
        Results.load(tmp_path)
    assert said in caught.value.message
    assert caught.value.where == str(tmp_path / file)


def test_what_can_be_cast_is_and_unknown_columns_are_passed_over(tmp_path: Path) -> None:
    MadeUp().write(tmp_path)
    before = tables.read_links(tmp_path / LINKS_FILE)
    _rewrite(tmp_path / LINKS_FILE, _with("quantity", lambda old: old, pa.large_string()))
    _rewrite(tmp_path / LINKS_FILE, lambda table: table.append_column("later", table["asked"]))
    assert tables.read_links(tmp_path / LINKS_FILE).equals(before)


def test_samples_of_nobodys_intended_time_are_no_defect(tmp_path: Path) -> None:
    MadeUp().write(tmp_path)
    _rewrite(
        tmp_path / SAMPLES_FILE, _with("intended_ns", lambda old: [None] * len(old), pa.int64())
    )
    page.write_report(tmp_path)


@pytest.mark.parametrize("file", [SAMPLES_FILE, LINKS_FILE, SERIES_FILE, STALLS_FILE, RUN_FILE])
def test_a_fifo_is_not_waited_for(tmp_path: Path, file: str) -> None:
    MadeUp().write(tmp_path)
    (tmp_path / file).unlink(missing_ok=True)
    os.mkfifo(tmp_path / file)
    with pytest.raises(StepFailed, match="it is a FIFO"):
        Results.load(tmp_path)


def test_samples_of_another_run_have_the_table_worked_out_anew(tmp_path: Path) -> None:
    run = MadeUp(repetitions=2).write(tmp_path)
    assert Results.load(tmp_path).mismatch == ""
    MadeUp(repetitions=1).write(tmp_path / "other")
    shutil.copy(tmp_path / "other" / SAMPLES_FILE, tmp_path / SAMPLES_FILE)
    found = Results.load(tmp_path)
    assert run.all is not None
    assert found.run.all is not None
    assert "samples.parquet does not belong to this run.json" in found.mismatch
    assert "worked out anew" in found.run.notes[0]
    assert (run.all.samples, found.run.all.samples) == (200, 100)
    assert found.run.expectation == run.expectation


def test_one_changed_sample_is_found_by_the_digest(tmp_path: Path) -> None:
    run = MadeUp().write(tmp_path)
    path = tmp_path / RUN_FILE
    fields = json.loads(path.read_text())
    fields["hashes"]["samples"] = "0" * 64
    path.write_text(json.dumps(fields))
    found = Results.load(tmp_path)
    assert "its SHA-256 is another" in found.mismatch
    assert found.run.table == run.table
    (tmp_path / SAMPLES_FILE).unlink()
    assert "samples.parquet is missing" in Results.load(tmp_path).mismatch
    page.write_report(tmp_path)


def _damage_a_table(rng: random.Random, folder: Path) -> str:
    """Give a column of a table another type or other values."""
    path = rng.choice(sorted(folder.glob("*.parquet")))
    table = pq.read_table(path)
    name = rng.choice(table.schema.names)
    values, kind = rng.choice(
        (
            (lambda old: [None] * len(old), table[name].type),
            (lambda old: [rng.choice((each, None)) for each in old], table[name].type),
            (lambda old: ["x"] * len(old), pa.string()),
            (lambda old: [float("nan")] * len(old), pa.float64()),
            (lambda old: [float("inf")] * len(old), pa.float64()),
            (lambda old: [rng.randrange(-(2**63), 2**63) for _ in old], pa.int64()),
            (lambda old: [0] * len(old), pa.int64()),
            (lambda old: [[]] * len(old), pa.list_(pa.int64())),
            (lambda old: [b"\xff\xfe"] * len(old), pa.binary()),
        )
    )
    try:
        _rewrite(path, _with(name, values, kind))
    except (pa.ArrowException, ValueError):
        _rewrite(path, lambda old: old.slice(0, rng.randrange(old.num_rows + 1)))
    return f"{path.name}: {name} as {kind}"


def test_any_damage_to_results_is_told_or_reported(tmp_path: Path) -> None:
    kept, folder, outside = tmp_path / "kept", tmp_path / "results", tmp_path / "outside"
    MadeUp(repetitions=2).write(kept)
    outside.mkdir()
    (outside / "file").write_text("theirs")
    rng = random.Random(SEED)
    wrong = []
    for number in range(COUNT):
        folders.remove_tree(folder)
        shutil.copytree(kept, folder)
        how = _damage_a_table(rng, folder) if number % 2 else _damage_a_file(rng, folder, outside)
        try:
            with time_limit(LIMIT, "the report"):
                whole = Results.load(folder)
                page.render(whole, page.draw(whole))
                terminal.summary(whole.run, folder)
        except ContinuumError:
            continue
        except Exception as error:  # noqa: BLE001  all of them are looked at
            wrong.append(f"{number} {how}: {type(error).__name__}: {error}")
    assert wrong == [], f"seed {SEED}"


def _damage_a_file(rng: random.Random, folder: Path, outside: Path) -> str:
    if rng.random() < 0.5:
        path = folder / RUN_FILE
        path.write_bytes(bytes_of(rng, path.read_bytes()))
        return "content of run.json"
    return damage(rng, folder, outside)


def test_results_of_before_stay_readable(tmp_path: Path) -> None:
    run = MadeUp().write(tmp_path)
    assert "samples" not in run.hashes
    assert read_run(tmp_path) == run
    assert Results.load(tmp_path).mismatch == ""
