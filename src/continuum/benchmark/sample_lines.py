"""Samples as endpoints write them: one JSON object a line.

`docs/sample-format.md` describes the format. Nothing that a program writes makes the reader fail:
a line that is no sample becomes a problem in words.
"""

from __future__ import annotations

import json
from typing import Any

STATUSES = ("ok", "lost", "timeout", "error")
"""`lost`: no answer ever came; `timeout`: it came later than `answer_timeout` after its request was
due; `error`: an answer that says that the worker failed, or a request that could not be sent."""

TIMES = (
    "intended_ns",
    "prepare_started_ns",
    "prepare_finished_ns",
    "sent_ns",
    "received_ns",
    "started_ns",
    "finished_ns",
    "answered_ns",
)
"""In the order in which they come to pass."""

MONOTONIC_TIMES = ("intended_monotonic_ns", "sent_monotonic_ns", "answered_monotonic_ns")
"""The same moments by the endpoint's `CLOCK_MONOTONIC`, which is never set. A sample may lack them."""

SIZES = ("request_bytes", "answer_bytes")
RESERVED = (
    *("run", "repetition", "endpoint", "worker"),
    *("sequence", "warmup", "status", *TIMES, *SIZES, "result"),
)
"""Columns that every sample has; the first four are the benchmark's to fill."""

_LARGEST = 2**63 - 1
_LONGEST_LINE = 1_000_000
_TEXT_LIMIT = 1000


class _NotWhole(ValueError):
    """What a line also looks like when its end is missing."""


def parse_lines(
    content: bytes, warmup: int = 0, answer_timeout: float | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Samples, and what is wrong with the lines that are none.

    Every sample has `sequence`, `status` and `warmup`; times and sizes are whole numbers or None.
    A field that no sample has is kept for the application. Of several samples of one request
    the first counts. A last line without its end is skipped without a word when it is not whole:
    its writer was stopped in the middle of it.

    Args:
        content: of the file.
        warmup: number of requests of the warm-up, for lines that do not say.
        answer_timeout: seconds; an answer that came later after its request was due is a `timeout`,
            whatever the line says. None to take lines at their word.
    """
    latest_ns = None if answer_timeout is None else round(answer_timeout * 1e9)
    samples: dict[int, dict[str, Any]] = {}
    problems: list[str] = []
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        try:
            sample = _sample(text, warmup)
        except _NotWhole as error:
            if number < len(lines):
                problems.append(f"line {number}: {error}")
        except (ValueError, RecursionError) as error:
            problems.append(f"line {number}: {error}")
        else:
            if sample["sequence"] in samples:
                problems.append(f"line {number}: a second sample {sample['sequence']}")
            else:
                if latest_ns is not None and _is_late(sample, latest_ns):
                    sample["status"] = "timeout"
                samples[sample["sequence"]] = sample
    return list(samples.values()), problems


def _sample(text: bytes, warmup: int) -> dict[str, Any]:
    if len(text) > _LONGEST_LINE:
        raise ValueError(f"{len(text)} bytes; at most {_LONGEST_LINE}")
    try:
        found = json.loads(text.decode())
    except UnicodeDecodeError:
        raise _NotWhole("not UTF-8") from None
    except json.JSONDecodeError:
        raise _NotWhole("not a JSON object") from None
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    # Null says the same as a field that is missing.
    sample: dict[str, Any] = {name: value for name, value in found.items() if value is not None}
    sequence = _whole(sample, "sequence")
    if sequence is None:
        raise ValueError('"sequence" is missing')
    sample["status"] = sample.get("status", "ok")
    if sample["status"] not in STATUSES:
        raise ValueError(f'"status" is none of {", ".join(STATUSES)}')
    for name in (*TIMES, *SIZES):
        sample[name] = _whole(sample, name)
    for name in MONOTONIC_TIMES:
        _whole(sample, name)
    sample["warmup"] = sample.get("warmup", sequence < warmup)
    if not isinstance(sample["warmup"], bool):
        raise ValueError('"warmup" is neither true nor false')
    sample["result"] = _text(sample.get("result"))
    return sample


def _is_late(sample: dict[str, Any], latest_ns: int) -> bool:
    due_ns, answered_ns = sample["intended_ns"], sample["answered_ns"]
    if "answered_monotonic_ns" in sample and "intended_monotonic_ns" in sample:
        due_ns, answered_ns = sample["intended_monotonic_ns"], sample["answered_monotonic_ns"]
    return (
        sample["status"] == "ok"
        and due_ns is not None
        and answered_ns is not None
        and answered_ns - due_ns > latest_ns
    )


def _whole(sample: dict[str, Any], name: str) -> int | None:
    value = sample.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise ValueError(f'"{name}" is not a whole number from 0 to 2^63 - 1')
    return value


def _text(value: object) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "replace").decode()[:_TEXT_LIMIT]
