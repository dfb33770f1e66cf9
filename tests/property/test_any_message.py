from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from continuum_runtime import message as layout

UNSIGNED_32 = st.integers(0, 2**32 - 1)
UNSIGNED_64 = st.integers(0, 2**64 - 1)
TIMES = st.integers(-(2**63), 2**63 - 1)

REQUESTS = st.builds(
    layout.Request,
    UNSIGNED_32,
    UNSIGNED_64,
    UNSIGNED_64,
    st.binary(max_size=2000),
    TIMES,
    TIMES,
    TIMES,
    TIMES,
)
ANSWERS = st.builds(
    layout.Answer,
    UNSIGNED_32,
    UNSIGNED_64,
    UNSIGNED_64,
    TIMES,
    TIMES,
    TIMES,
    st.sampled_from([layout.OK, layout.ERROR]),
    st.integers(-(2**31), 2**31 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)


@given(REQUESTS)
def test_requests_come_back_as_they_were(request: layout.Request) -> None:
    assert layout.unpack_request(layout.pack_request(request)) == request


@given(ANSWERS)
def test_answers_come_back_as_they_were(answer: layout.Answer) -> None:
    assert layout.unpack_answer(layout.pack_answer(answer)) == answer


@given(st.binary() | st.binary().map(b"CTNM\x01\x02\x00\x00".__add__))
def test_any_bytes_are_an_answer_or_refused(message: bytes) -> None:
    with contextlib.suppress(layout.Malformed):
        layout.unpack_answer(message)
    with contextlib.suppress(layout.Malformed):
        layout.unpack_request(message)
