"""What tests of watching share: a stream of samples, of ten requests per second."""

from __future__ import annotations

from continuum.live import Stream

SECOND = 10**9
START = 1_750_000_000 * SECOND


def stream(**changes: object) -> Stream:
    fields: dict[str, object] = {
        "endpoint": "endpoint-1",
        "machine": "endpoint-1",
        "repetition": 1,
        "path": "/samples.jsonl",
        "start_ns": START,
        "frequency": 10.0,
        "warmup": 10,
        "requests": 100,
        "answer_timeout": 3.0,
    }
    return Stream(**{**fields, **changes})  # type: ignore[arg-type]
