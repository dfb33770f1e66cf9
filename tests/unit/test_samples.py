"""Samples and links as tables and as files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from continuum.benchmark import samples
from continuum.errors import NotFound, StepFailed
from continuum.infrastructure.links.measurement import LinkMeasurement

OWN = pa.schema([pa.field("input", pa.string()), pa.field("agrees", pa.bool_())])


def row(**changes: Any) -> dict[str, Any]:
    return {
        "run": "run-1",
        "repetition": 1,
        "warmup": False,
        "endpoint": "endpoint-1",
        "sequence": 0,
        "status": "ok",
        **changes,
    }


@dataclass(frozen=True)
class Measurement:
    from_tier: str = "edge"
    to_tier: str = "endpoint"
    from_machine: str = "edge-1"
    to_machine: str = "endpoint-1"
    quantity: str = "delay_ms"
    asked: float = 7.5
    measured: float | None = 7.6
    tolerance: float = 1.0
    ok: bool = True


def test_a_row_of_what_every_sample_has_is_enough() -> None:
    table = samples.table([row()])
    assert table.schema.equals(samples.SCHEMA)
    assert table["worker"].to_pylist() == [None]
    assert table["answered_ns"].to_pylist() == [None]


def test_own_columns_follow_and_unknown_fields_are_left_out() -> None:
    table = samples.table([row(input="a.jpg", agrees=True, colour="red")], OWN)
    assert table.column_names == [*samples.SCHEMA.names, "input", "agrees"]
    assert table["agrees"].to_pylist() == [True]


def test_rows_come_out_in_order() -> None:
    places = [(2, "endpoint-1", 0), (1, "endpoint-2", 1), (1, "endpoint-2", 0), (1, "a", 7)]
    table = samples.table(
        row(repetition=repetition, endpoint=endpoint, sequence=sequence)
        for repetition, endpoint, sequence in places
    )
    found = zip(
        *(table[name].to_pylist() for name in ("repetition", "endpoint", "sequence")), strict=True
    )
    assert list(found) == sorted(places)


def test_no_rows_make_an_empty_table() -> None:
    assert samples.table([], OWN).num_rows == 0


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("status", "fine", "not one of ok, lost, timeout, error"),
        ("status", None, "status is missing"),
        ("sequence", None, "sequence is missing"),
        ("sequence", -1, "out of range"),
        ("sequence", True, "not a whole number"),
        ("sent_ns", 1.5, "not a whole number"),
        ("sent_ns", "1", "not a whole number"),
        ("sent_ns", 2**63, "out of range"),
        ("warmup", 1, "not true or false"),
        ("endpoint", 7, "not a text"),
        ("result", 7, "not a text"),
    ],
)
def test_nonsense_is_refused_and_named(field: str, value: object, words: str) -> None:
    with pytest.raises(StepFailed, match=words) as refusal:
        samples.table([row(), row(**{"sequence": 5, field: value})])
    assert f"sample 2 is none: {field}" in refusal.value.message
    assert "endpoint" in refusal.value.where


def test_a_long_value_is_shown_short() -> None:
    with pytest.raises(StepFailed) as refusal:
        samples.table([row(status="x" * 10_000)])
    assert len(refusal.value.message) < 150


def test_the_same_request_twice_is_refused() -> None:
    with pytest.raises(StepFailed, match="two samples with sequence 3"):
        samples.table([row(sequence=3), row(sequence=3)])
    assert samples.table([row(sequence=3), row(sequence=3, repetition=2)]).num_rows == 2


def test_a_value_that_does_not_fit_an_own_column_is_refused() -> None:
    with pytest.raises(StepFailed, match="do not fit"):
        samples.table([row(agrees="perhaps")], OWN)
    with pytest.raises(StepFailed, match="do not fit"):
        samples.table([row(repetition=2**40)])


def test_an_own_column_cannot_take_the_name_of_one_that_all_have() -> None:
    with pytest.raises(StepFailed, match='"status"'):
        samples.table([row()], pa.schema([pa.field("status", pa.string())]))


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    table = samples.table([row(sent_ns=1_750_000_000_123_456_789, input="ä.jpg")], OWN)
    samples.write_samples(path, table, {"run": "run-1", "seeds": [1, 2]})
    read = samples.read_samples(path)
    assert read.to_pylist() == table.to_pylist()
    assert samples.read_metadata(read) == {"run": "run-1", "seeds": [1, 2]}
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_the_file_says_its_version_and_kind(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    samples.write_samples(path, samples.table([row()]), {})
    kept = pq.read_schema(path).metadata
    assert kept[b"continuum.schema_version"] == samples.SCHEMA_VERSION.encode()
    assert kept[b"continuum.kind"] == b"samples"
    assert samples.read_metadata(samples.table([row()])) == {}


def test_links_give_back_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "links.parquet"
    samples.write_links(path, [Measurement(), Measurement(quantity="rate_mbit", measured=None)])
    first, second = samples.read_links(path).to_pylist()
    assert first == vars(Measurement())
    assert second["measured"] is None


def test_every_attempt_of_a_link_stays_and_the_last_decides(tmp_path: Path) -> None:
    path = tmp_path / "links.parquet"
    first = LinkMeasurement(
        *("edge", "endpoint", "edge-1", "endpoint-1", "delay_ms", 10.0, 11.0, 1.0),
        ok=False,
        n=140,
        standard_error=0.1,
        low=10.8,
        high=11.2,
        least=9.0,
        most=11.0,
        verdict="not shown",
        stalled=3,
    )
    last = replace(first, attempt=2, measured=10.1, ok=True, n=280, verdict="holds")
    samples.write_links(path, [first, last])
    table = samples.read_links(path)
    assert table.to_pylist() == [vars(first), vars(last)]
    assert samples.deciding_links(table) == [vars(last)]


def test_links_of_earlier_versions_have_no_intervals(tmp_path: Path) -> None:
    path = tmp_path / "links.parquet"
    samples.write_links(path, [Measurement()])
    table = samples.read_links(path)
    assert table.schema.names == samples.LINK_SCHEMA.names
    (row,) = samples.deciding_links(table)
    assert (row["ok"], row["verdict"], row["n"], row["low"]) == (True, None, None, None)


def test_an_unknown_quantity_of_a_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="colour"):
        samples.write_links(tmp_path / "links.parquet", [replace(Measurement(), quantity="colour")])


def test_files_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    with pytest.raises(NotFound):
        samples.read_samples(path)
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(StepFailed, match="not a Parquet file"):
        samples.read_samples(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(StepFailed, match="does not hold samples"):
        samples.read_samples(path)
    samples.write_links(path, [Measurement()])
    with pytest.raises(StepFailed, match="does not hold samples"):
        samples.read_samples(path)


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ({b"continuum.kind": b"samples", b"continuum.schema_version": b"99"}, "version '99'"),
        ({b"continuum.kind": b"samples", b"continuum.schema_version": b"1"}, "lacks columns: run"),
    ],
)
def test_files_of_another_version_or_without_columns_are_refused(
    tmp_path: Path, marks: dict[bytes, bytes], words: str
) -> None:
    path = tmp_path / "samples.parquet"
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata(marks), path)
    with pytest.raises(StepFailed, match=words):
        samples.read_samples(path)
