from __future__ import annotations

import json

import pytest

from continuum.benchmark.sample_lines import RESERVED, SIZES, TIMES, parse_lines


def test_a_line_with_a_sequence_alone_is_a_sample() -> None:
    samples, problems = parse_lines(b'{"sequence": 3}\n')
    assert not problems
    (sample,) = samples
    assert sample == {
        "sequence": 3,
        "status": "ok",
        "warmup": False,
        "result": None,
        **dict.fromkeys((*TIMES, *SIZES)),
    }


def test_the_first_requests_are_the_warm_up_when_the_line_does_not_say() -> None:
    content = b'{"sequence": 0}\n{"sequence": 1}\n{"sequence": 2}\n{"sequence":3,"warmup":true}\n'
    samples, _ = parse_lines(content, warmup=2)
    assert [sample["warmup"] for sample in samples] == [True, True, False, True]


def test_null_is_the_same_as_missing() -> None:
    names = ("status", "warmup", *TIMES, *SIZES, "result")
    nothing = "".join(f', "{name}": null' for name in names)
    samples, problems = parse_lines(f'{{"sequence": 0{nothing}}}\n'.encode(), warmup=1)
    assert not problems
    assert samples == parse_lines(b'{"sequence": 0}\n', warmup=1)[0]


def test_own_fields_stay() -> None:
    samples, _ = parse_lines(b'{"sequence": 0, "colour": "red", "result": [1]}\n')
    assert samples[0]["colour"] == "red"
    assert samples[0]["result"] == "[1]"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"hello", "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"{}", '"sequence" is missing'),
        (b'{"sequence": -1}', '"sequence" is not a whole number'),
        (b'{"sequence": true}', '"sequence" is not a whole number'),
        (b'{"sequence": 0, "sent_ns": 1.5}', '"sent_ns" is not a whole number'),
        (b'{"sequence": 0, "sent_ns": 9223372036854775808}', '"sent_ns" is not a whole number'),
        (b'{"sequence": 0, "status": "late"}', '"status" is none of ok, lost, timeout, error'),
        (b'{"sequence": 0, "warmup": 1}', '"warmup" is neither true nor false'),
        (b"[" * 100_000, "line 2"),
        (b'{"sequence": 0, "note": "' + b"x" * 1_000_000 + b'"}', "at most 1000000"),
    ],
)
def test_a_line_that_is_no_sample_is_a_problem_and_the_others_count(
    line: bytes, problem: str
) -> None:
    samples, problems = parse_lines(b'{"sequence": 8}\n' + line + b'\n{"sequence": 9}\n')
    assert [sample["sequence"] for sample in samples] == [8, 9]
    (found,) = problems
    assert found.startswith("line 2: ") or found == problem
    assert problem in found


def test_of_two_samples_of_one_request_the_first_counts() -> None:
    samples, problems = parse_lines(b'{"sequence":0,"result":"a"}\n{"sequence":0,"result":"b"}\n')
    assert [sample["result"] for sample in samples] == ["a"]
    assert problems == ["line 2: a second sample 0"]


def test_a_last_line_that_was_cut_short_is_no_problem() -> None:
    samples, problems = parse_lines(b'{"sequence": 0}\n{"sequence": 1, "sta')
    assert len(samples) == 1
    assert not problems


def test_nothing_is_no_samples() -> None:
    assert parse_lines(b"") == ([], [])
    assert parse_lines(b"\n\n") == ([], [])


def test_what_lines_hold_are_columns_of_the_table() -> None:
    from continuum.benchmark import samples

    assert sorted(RESERVED) == sorted(samples.SCHEMA.names)
    assert set(TIMES) < set(samples.SCHEMA.names)


def test_what_was_answered_later_than_it_may_be_is_late_whatever_the_line_says() -> None:
    def status(intended: int, sent: int, answered: int, said: str = "ok") -> str:
        line = {"sequence": 0, "intended_ns": intended, "sent_ns": sent, "answered_ns": answered}
        content = json.dumps({**line, "status": said}).encode()
        ((sample,), problems) = parse_lines(content, 0, 5.0)
        assert not problems
        return str(sample["status"])

    second = 10**9
    # An answer 12 s after it was due, of a request that was sent 8 s late.
    assert status(0, 8 * second, 12 * second) == "timeout"
    assert status(second, second, 6 * second) == "ok"
    assert status(second, second, 6 * second + 1) == "timeout"
    assert status(0, 8 * second, 12 * second, "error") == "error"
    assert (
        parse_lines(b'{"sequence": 0, "answered_ns": 9000000000}', 0, 5.0)[0][0]["status"] == "ok"
    )
