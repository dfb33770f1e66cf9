"""Samples: one row per request, with raw wall-clock times in nanoseconds.

The file `samples.jsonl` of an endpoint holds one JSON object a line with the fields of
`ENDPOINT_FIELDS`; here they become a table with the columns of `SCHEMA` and the application's own.
"""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = "1"

STATUSES = ("ok", "lost", "timeout", "error")
"""`lost`: no answer ever came; `timeout`: it came after `answer_timeout`; `error`: an answer that
says that the worker failed, or a request that could not be sent."""

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

QUANTITIES = ("delay_ms", "jitter_ms", "loss_percent", "rate_mbit")
