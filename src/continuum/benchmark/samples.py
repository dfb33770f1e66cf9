"""Samples: one row per request, with raw wall-clock times in nanoseconds.

Rows that the benchmark collected become a table with the columns of `SCHEMA` and the application's
own, and that table a Parquet file. The same for what was measured of the links.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from continuum import folders, state_file
from continuum.benchmark.sample_lines import MONOTONIC_TIMES, STATUSES
from continuum.errors import NotFound, StepFailed
from continuum.state_file import Damaged

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = "1"

SCHEMA = pa.schema(
    [
        pa.field("run", pa.string(), nullable=False),
        pa.field("repetition", pa.int32(), nullable=False),
        pa.field("warmup", pa.bool_(), nullable=False),
        pa.field("endpoint", pa.string(), nullable=False),
        pa.field("worker", pa.string()),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("intended_ns", pa.int64()),
        pa.field("prepare_started_ns", pa.int64()),
        pa.field("prepare_finished_ns", pa.int64()),
        pa.field("sent_ns", pa.int64()),
        pa.field("received_ns", pa.int64()),
        pa.field("started_ns", pa.int64()),
        pa.field("finished_ns", pa.int64()),
        pa.field("answered_ns", pa.int64()),
        pa.field("request_bytes", pa.int64()),
        pa.field("answer_bytes", pa.int64()),
        pa.field("result", pa.string()),
    ]
)

MONOTONIC = pa.schema([pa.field(name, pa.int64()) for name in MONOTONIC_TIMES])
"""Further columns, where endpoints wrote them; absent in older files."""

LINK_SCHEMA = pa.schema(
    [
        pa.field("from_tier", pa.string(), nullable=False),
        pa.field("to_tier", pa.string(), nullable=False),
        pa.field("from_machine", pa.string(), nullable=False),
        pa.field("to_machine", pa.string(), nullable=False),
        pa.field("quantity", pa.string(), nullable=False),
        pa.field("asked", pa.float64(), nullable=False),
        pa.field("measured", pa.float64()),
        pa.field("tolerance", pa.float64(), nullable=False),
        pa.field("ok", pa.bool_(), nullable=False),
    ]
)

LINK_INTERVALS = pa.schema(
    [
        pa.field("attempt", pa.int32()),
        pa.field("n", pa.int64()),
        pa.field("standard_error", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("least", pa.float64()),
        pa.field("most", pa.float64()),
        pa.field("verdict", pa.string()),
        pa.field("stalled", pa.int64()),
        pa.field("late", pa.int64()),
    ]
)
"""Further columns of `links.parquet`; files of versions that drew no interval lack them."""

RESOURCE_SCHEMA = pa.schema(
    [
        pa.field("run", pa.string(), nullable=False),
        pa.field("repetition", pa.int32(), nullable=False),
        pa.field("machine", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("time_ns", pa.int64(), nullable=False),
        pa.field("cpu_ns", pa.int64(), nullable=False),
        pa.field("memory_bytes", pa.int64(), nullable=False),
    ]
)

SERIES_SCHEMA = pa.schema(
    [
        pa.field("series", pa.string(), nullable=False),
        pa.field("machine", pa.string(), nullable=False),
        pa.field("tier", pa.string(), nullable=False),
        pa.field("labels", pa.string(), nullable=False),
        pa.field("time_ns", pa.int64(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ]
)
"""What the service `observability` saw; `labels` is JSON text, `time_ns` Unix time."""

LINK_SERIES_SCHEMA = pa.schema(
    [
        pa.field("repetition", pa.int32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("destination", pa.string(), nullable=False),
        pa.field("machine", pa.string(), nullable=False),
        pa.field("start_ns", pa.int64(), nullable=False),
        pa.field("packets", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("lost", pa.int64(), nullable=False),
        pa.field("overflow", pa.int64(), nullable=False),
        pa.field("backlog", pa.int64(), nullable=False),
        pa.field("delay_ms", pa.float64(), nullable=False),
        pa.field("late_p50_ms", pa.float64(), nullable=False),
        pa.field("late_p99_ms", pa.float64(), nullable=False),
        pa.field("late_max_ms", pa.float64(), nullable=False),
    ]
)
"""The emulator's work on the packets of each link, by windows of 100 ms that had any."""

STALL_SCHEMA = pa.schema(
    [
        pa.field("host", pa.string(), nullable=False),
        pa.field("repetition", pa.int32(), nullable=False),
        pa.field("core", pa.int32(), nullable=False),
        pa.field("begin_ns", pa.int64(), nullable=False),
        pa.field("end_ns", pa.int64(), nullable=False),
    ]
)
"""Times when a host's core did not run, by that host's clock; repetition 0 is the link check."""

STALL_COLUMN = "host_stall_ms"
"""Added to samples once it is known what the hosts did meanwhile; absent in older files."""

QUANTITIES = ("delay_ms", "stream_delay_ms", "jitter_ms", "loss_percent", "rate_mbit")

_VERSION_KEY = b"continuum.schema_version"
_KIND_KEY = b"continuum.kind"
_METADATA_KEY = b"continuum.metadata"
_LIMIT = 2**63
_MOST_BYTES = 2**34
_ARROW_ERRORS = (pa.ArrowException, OSError, ValueError, TypeError, MemoryError, OverflowError)
"""Raised by a damaged file, depending on where it is damaged."""

_WORDS = {int: "a whole number", bool: "true or false", str: "a text"}
_PYTHON_TYPES = {"int32": int, "int64": int, "bool": bool, "string": str}
_FIELDS = tuple((each.name, each.nullable, _PYTHON_TYPES[str(each.type)]) for each in SCHEMA)


class Measured(Protocol):
    """One measured property of one link, a row of `links.parquet`."""

    @property
    def from_tier(self) -> str:
        """Tier of the sending machine."""

    @property
    def to_tier(self) -> str:
        """Tier of the receiving machine."""

    @property
    def from_machine(self) -> str:
        """The sending machine."""

    @property
    def to_machine(self) -> str:
        """The receiving machine."""

    @property
    def quantity(self) -> str:
        """One of `QUANTITIES`, which name their units."""

    @property
    def asked(self) -> float:
        """What the experiment declares."""

    @property
    def measured(self) -> float | None:
        """What was found; None when nothing came through."""

    @property
    def tolerance(self) -> float:
        """How far the two may lie apart, in the quantity's unit."""

    @property
    def ok(self) -> bool:
        """Whether they lie within it."""


def table(rows: Iterable[Mapping[str, Any]], own_schema: pa.Schema | None = None) -> pa.Table:
    """A table of samples with the columns of `SCHEMA` and then `own_schema`.

    Fields that a row lacks are null; fields that no column takes are left out. Rows come out
    ordered by repetition, endpoint and sequence.

    Raises:
        StepFailed: a row that cannot be a sample: it lacks what every sample has, a value has the
            wrong type, a number is negative, a status is unknown, or it is there twice.
    """
    rows = list(rows)
    more = [each for each in MONOTONIC if any(row.get(each.name) is not None for row in rows)]
    schema = pa.schema([*_whole_schema(own_schema), *more])
    taken = sorted(
        (_checked(number, row, schema) for number, row in enumerate(rows, start=1)),
        key=lambda row: (row["repetition"], row["endpoint"], row["sequence"]),
    )
    for before, after in itertools.pairwise(taken):
        if all(before[key] == after[key] for key in ("repetition", "endpoint", "sequence")):
            raise StepFailed(
                f"two samples with sequence {after['sequence']} from {_short(after['endpoint'])} "
                f"in repetition {after['repetition']}",
                hint="an endpoint gives every request of a repetition a number of its own",
            )
    try:
        return pa.Table.from_pylist(taken, schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise StepFailed(f"samples do not fit their columns: {error}") from error


def samples_file(samples: pa.Table, metadata: Mapping[str, Any]) -> bytes:
    """The content of a file of samples; `metadata` (JSON) is kept inside."""
    return _encoded(samples, "samples", metadata)


def write_samples(path: Path, samples: pa.Table, metadata: Mapping[str, Any]) -> None:
    """Write samples as Parquet, whole or not at all; `metadata` (JSON) is kept inside the file."""
    folders.write_file(path, samples_file(samples, metadata))


def read_samples(path: Path) -> pa.Table:
    """Samples as they were written; what `metadata` held is given by `read_metadata`.

    Raises:
        NotFound: there is no such file.
        StepFailed: it is no file of samples, or of a schema version that is not known here.
    """
    return decode_samples(table_bytes(path), path)


def decode_samples(content: bytes, path: Path) -> pa.Table:
    """The same from the content of that file."""
    more = pa.schema([pa.field(STALL_COLUMN, pa.float64())])
    return _decoded(content, path, "samples", SCHEMA, more, own=True)


def read_metadata(samples: pa.Table) -> dict[str, Any]:
    """What `write_samples` was given beside the samples; empty when there is none."""
    kept = (samples.schema.metadata or {}).get(_METADATA_KEY)
    try:
        found = json.loads(kept) if kept else {}
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def write_links(path: Path, measurements: Iterable[Measured]) -> None:
    """Write what was asked of the links, and what was measured.

    Raises:
        StepFailed: a quantity is unknown.
    """
    found = list(measurements)
    more = [each for each in LINK_INTERVALS if any(hasattr(one, each.name) for one in found)]
    schema = pa.schema([*LINK_SCHEMA, *more])
    rows = [
        {name: getattr(each, name) for name in LINK_SCHEMA.names}
        | {field.name: getattr(each, field.name, None) for field in more}
        for each in found
    ]
    for row in rows:
        if row["quantity"] not in QUANTITIES:
            raise StepFailed(f'unknown quantity of a link: "{_short(row["quantity"])}"')
    _write(path, pa.Table.from_pylist(rows, schema=schema), "links", {})


def read_links(path: Path) -> pa.Table:
    """The links as they were measured; files of earlier versions lack the columns `LINK_INTERVALS`.

    Raises:
        NotFound: there is no such file.
        StepFailed: it is no file of links, or of a schema version that is not known here.
    """
    return _read(path, "links", LINK_SCHEMA, LINK_INTERVALS)


def deciding_links(links: pa.Table | None) -> list[dict[str, Any]]:
    """Rows of the last attempt of every pair and quantity, in the order of the file.

    Columns that the file lacks are None in them, and its attempts the first.
    """
    rows = links.to_pylist() if links is not None else []
    rows = [dict.fromkeys(LINK_INTERVALS.names) | row for row in rows]
    last: dict[tuple[str, str, str, str, str], dict[str, Any]] = {}
    for row in rows:
        tiers = (row["from_tier"], row["to_tier"])
        key = (*tiers, row["from_machine"], row["to_machine"], row["quantity"])
        if key not in last or (row["attempt"] or 1) >= (last[key]["attempt"] or 1):
            last[key] = row
    return list(last.values())


def write_resources(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write what machines took of processor and memory: rows with the fields of the schema."""
    _write(path, pa.Table.from_pylist(list(rows), schema=RESOURCE_SCHEMA), "resources", {})


def read_resources(path: Path) -> pa.Table:
    """What machines took of processor and memory.

    Raises:
        NotFound: there is no such file.
        StepFailed: it is no file of resources, or of a schema version that is not known here.
    """
    return _read(path, "resources", RESOURCE_SCHEMA)


def write_series(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write what was seen of machines, brokers and processes: rows with the fields of the schema."""
    _write(path, pa.Table.from_pylist(list(rows), schema=SERIES_SCHEMA), "series", {})


def read_series(path: Path) -> pa.Table:
    """What was seen of machines, brokers and processes.

    Raises:
        NotFound: there is no such file.
        StepFailed: it is no file of series, or of a schema version that is not known here.
    """
    return _read(path, "series", SERIES_SCHEMA)


def link_series_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """The emulator's work during the run: rows with the fields of the schema."""
    return pa.Table.from_pylist(list(rows), schema=LINK_SERIES_SCHEMA)


def write_link_series(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write what the emulator did during the run."""
    _write(path, link_series_table(rows), "link series", {})


def read_link_series(path: Path) -> pa.Table:
    """The emulator's work during the run.

    Raises:
        NotFound: there is no such file.
        StepFailed: it is no file of link series, or of a schema version that is not known here.
    """
    return _read(path, "link series", LINK_SERIES_SCHEMA)


def write_stalls(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write when hosts did not run: rows with the fields of the schema."""
    _write(path, pa.Table.from_pylist(list(rows), schema=STALL_SCHEMA), "stalls", {})


def read_stalls(path: Path) -> pa.Table:
    """The times in which hosts did not run.

    Raises:
        NotFound: there is no such file.
        StepFailed: it is no file of stalls, or of a schema version that is not known here.
    """
    return _read(path, "stalls", STALL_SCHEMA)


def _whole_schema(own: pa.Schema | None) -> pa.Schema:
    if own is None:
        return SCHEMA
    for field in own:
        if field.name in (*SCHEMA.names, *MONOTONIC.names, STALL_COLUMN):
            raise StepFailed(
                f'an application\'s own column is called "{field.name}", as one that every sample '
                "has",
                hint="give the column another name in the application's `columns`",
            )
    return pa.schema([*SCHEMA, *own])


def _checked(number: int, row: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
    checked = {name: row.get(name) for name in schema.names}
    for name, nullable, kind in _FIELDS:
        problem = _problem(name, nullable, kind, checked[name])
        if problem:
            raise StepFailed(
                f"sample {number} is none: {name} {problem}",
                where=f"endpoint {_short(row.get('endpoint'))}, "
                f"sequence {_short(row.get('sequence'))}",
                hint="docs/results.md lists the columns and what they hold",
            )
    return checked


def _problem(name: str, nullable: bool, kind: type, value: object) -> str:
    """What is wrong with a value of a column that every sample has; empty when nothing is."""
    if value is None:
        return "" if nullable else "is missing"
    if type(value) is not kind:
        return f"is {_short(value)}, not {_WORDS[kind]}"
    if isinstance(value, int) and not 0 <= value < _LIMIT:
        return f"is {_short(value)}, out of range"
    if name == "status" and value not in STATUSES:
        return f"is {_short(value)}, not one of {', '.join(STATUSES)}"
    return ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _write(path: Path, content: pa.Table, kind: str, metadata: Mapping[str, Any]) -> None:
    folders.write_file(path, _encoded(content, kind, metadata))


def _encoded(content: pa.Table, kind: str, metadata: Mapping[str, Any]) -> bytes:
    import pyarrow.parquet as pq  # noqa: PLC0415  slow to import

    marks = {
        _KIND_KEY: kind.encode(),
        _VERSION_KEY: SCHEMA_VERSION.encode(),
        _METADATA_KEY: json.dumps(metadata, sort_keys=True, default=str).encode(),
    }
    buffer = pa.BufferOutputStream()
    pq.write_table(
        content.replace_schema_metadata(marks),
        buffer,
        compression="zstd",
        write_page_checksum=True,
    )
    return bytes(buffer.getvalue().to_pybytes())


def table_bytes(path: Path) -> bytes:
    """The content of a table's file.

    Raises:
        NotFound: there is no such file.
        StepFailed: it is another kind of file, or cannot be read.
    """
    content = state_file.read_bytes(path, most=_MOST_BYTES)
    if content is None:
        raise NotFound(f"no file {path.name}", where=str(path))
    if isinstance(content, Damaged):
        raise _unreadable(path, content.reason)
    return content


def _unreadable(path: Path, reason: str) -> StepFailed:
    return StepFailed(
        f"{path.name} cannot be read: {reason}",
        where=str(path),
        hint="without that file `continuum report` makes a report of what is left",
    )


def _read(path: Path, kind: str, columns: pa.Schema, more: pa.Schema | None = None) -> pa.Table:
    return _decoded(table_bytes(path), path, kind, columns, more or pa.schema([]), own=False)


def _decoded(  # noqa: PLR0913  what a table is judged by
    content: bytes, path: Path, kind: str, columns: pa.Schema, more: pa.Schema, *, own: bool
) -> pa.Table:
    """The table of a file, each column of its type.

    `columns` must be there, those of `more` may be. Others are left out but where they are an
    application's `own`.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415  slow to import

    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        found = file.read()
    except _ARROW_ERRORS as error:
        raise _unreadable(path, f"it is not a Parquet file: {error}") from error
    marks = found.schema.metadata or {}
    if marks.get(_KIND_KEY) != kind.encode():
        raise StepFailed(f"{path.name} does not hold {kind} of Continuum", where=str(path))
    version = marks.get(_VERSION_KEY, b"").decode("utf-8", "replace")
    if version != SCHEMA_VERSION:
        raise StepFailed(
            f"{path.name} has schema version {_short(version)}; "
            f"this version of Continuum reads {SCHEMA_VERSION}",
            where=str(path),
            hint="use the version of Continuum that wrote it",
        )
    names = found.schema.names
    missing = [name for name in columns.names if name not in names]
    if missing:
        raise StepFailed(f"{path.name} lacks columns: {', '.join(missing)}", where=str(path))
    known = [*columns, *(field for field in more if field.name in names)]
    rest = [name for name in names if own and name not in {field.name for field in known}]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise _unreadable(path, f"column {_short(twice[0])} is there twice")
    made = {field.name: _column(path, found, field) for field in known}
    made |= {name: _column(path, found, found.schema.field(name)) for name in rest}
    return pa.table(made, metadata=marks)


def _column(path: Path, found: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    """A column of a table, cast to its type.

    Raises:
        StepFailed: it cannot be, or lacks values that must be there.
    """
    column = found[field.name]
    try:
        column.validate(full=True)
        if column.type != field.type:
            column = column.cast(field.type)
    except _ARROW_ERRORS as error:
        raise _unreadable(
            path,
            f"column {field.name} is {column.type}, not {field.type}: {error}"
            if column.type != field.type
            else f"column {field.name}: {error}",
        ) from error
    if not field.nullable and column.null_count:
        raise _unreadable(path, f"column {field.name} lacks {column.null_count} values")
    if field in LINK_SCHEMA and pa.types.is_floating(field.type) and not _is_finite(column):
        raise _unreadable(path, f"column {field.name} holds what is no number")
    return column


def _is_finite(column: pa.ChunkedArray) -> bool:
    """Tell whether a column of numbers holds neither infinity nor what is no number."""
    import pyarrow.compute as pc  # noqa: PLC0415  slow to import

    return pc.all(pc.is_finite(column)).as_py() is not False
