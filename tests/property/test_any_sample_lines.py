from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from continuum.benchmark.sample_lines import STATUSES, parse_lines

VALUES: st.SearchStrategy[object] = st.sampled_from(
    [None, True, 0, 1, -1, 2**63, 2**63 - 1, 1.5, float("nan"), "ok", "lost", "late", [], {"a": 1}]
)
FIELDS = st.sampled_from(["sequence", "status", "warmup", "sent_ns", "result", "request_bytes"])
LINES = st.dictionaries(FIELDS, VALUES).map(lambda line: json.dumps(line).encode())


@given(st.lists(LINES | st.binary(max_size=40), max_size=10))
def test_whatever_is_written_becomes_samples_and_problems(lines: list[bytes]) -> None:
    samples, problems = parse_lines(b"\n".join(lines))
    for sample in samples:
        assert 0 <= sample["sequence"] < 2**63
        assert sample["status"] in STATUSES
        assert isinstance(sample["warmup"], bool)
        assert sample["sent_ns"] is None or 0 <= sample["sent_ns"] < 2**63
        assert sample["result"] is None or isinstance(sample["result"], str)
    assert len({sample["sequence"] for sample in samples}) == len(samples)
    assert all("\n" not in problem for problem in problems)


@given(st.lists(st.integers(0, 2**63 - 1), unique=True))
def test_good_lines_leave_no_problem(sequences: list[int]) -> None:
    content = b"".join(b'{"sequence": %d}\n' % sequence for sequence in sequences)
    samples, problems = parse_lines(content)
    assert not problems
    assert [sample["sequence"] for sample in samples] == sequences
