from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from continuum.benchmark.contract import Load
from continuum.errors import InvalidExperiment
from continuum.experiment.arrivals import read_trace
from continuum_runtime.open_loop import Schedule, read_offsets


@given(
    frequency=st.floats(0.01, 200),
    warmup=st.floats(0, 3),
    duration=st.floats(0.01, 5),
    seed=st.integers(0, 2**63 - 1),
    poisson=st.booleans(),
)
def test_a_schedule_is_ordered_ends_in_time_and_has_as_many_requests_as_its_load_says(
    *, frequency: float, warmup: float, duration: float, seed: int, poisson: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        load = Load(
            repetition=1,
            seed=seed,
            frequency=frequency,
            warmup=warmup,
            duration=duration,
            answer_timeout=1.0,
            folder=folder,
            arrivals="poisson" if poisson else "periodic",
        )
        for path, content in load.files.items():
            Path(path).write_bytes(content)
        offsets = read_offsets(load.arrivals_file)
    first, rest = load.requests
    schedule = Schedule(load.phase_ns, frequency, first, rest, 1.0, offsets)
    due = [schedule.due_ns(sequence) for sequence in range(schedule.count)]
    assert len(due) == first + rest
    assert due == sorted(due)
    assert all(at >= 0 for at in due)
    if due:
        assert abs(due[-1] - load.last_due * 1e9) <= 1000
    if poisson:
        assert offsets == load.offsets_ns
        assert all(at < (warmup + duration) * 1e9 for at in due)
        assert sum(at < warmup * 1e9 for at in due) == first
    else:
        assert load.phase_ns < 1e9 / frequency
    assert schedule.end_ns == (due[-1] if due else 0) + 10**9


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=8))
def test_whatever_a_file_of_arrivals_holds_becomes_columns_or_problems(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "arrivals.csv")
        path.write_text("\n".join(lines), encoding="utf-8", newline="")
        with suppress(InvalidExperiment):
            columns = read_trace(path)
            assert columns
            assert all(list(column) == sorted(column) for column in columns)
