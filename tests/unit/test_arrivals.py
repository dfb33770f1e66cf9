"""Schedules of requests: periodic with random phases, Poisson, from a file."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from continuum.benchmark.configure import seed_of
from continuum.benchmark.contract import Load
from continuum.errors import InvalidExperiment
from continuum.experiment.arrivals import Kind, offsets_ns, phase_ns, poisson_ns, read_trace
from continuum.experiment.load import Loaded, load
from continuum.experiment.write import to_toml
from continuum.live import Stream

SECOND = 10**9


def made(arrivals: Kind = "periodic", **changes: Any) -> Load:
    fields: dict[str, Any] = {
        "repetition": 1,
        "seed": 7,
        "frequency": 5.0,
        "warmup": 2.0,
        "duration": 10.0,
        "answer_timeout": 5.0,
        "folder": "/run/endpoint-1-1",
        "arrivals": arrivals,
    }
    return Load(**{**fields, **changes})


def test_phases_differ_by_endpoint_and_repetition_and_lie_in_one_interval() -> None:
    phases = [
        phase_ns(5.0, 60.0, seed_of(1, repetition, f"endpoint-{number}"))
        for repetition in range(1, 11)
        for number in range(1, 101)
    ]
    assert len(set(phases)) == 1000
    assert all(0 <= phase < SECOND // 5 for phase in phases)
    # Uniform over the interval: mean half of it, deviation its twelfth's root.
    assert statistics.mean(phases) == pytest.approx(0.1 * SECOND, rel=0.05)
    assert statistics.stdev(phases) == pytest.approx(0.2 / 12**0.5 * SECOND, rel=0.05)


def test_the_same_seed_makes_the_same_schedule_wherever_it_is_made() -> None:
    # Written down once: no version of Python may draw others.
    assert phase_ns(5.0, 60.0, 7) == 49_741_511
    assert poisson_ns(5.0, 60.0, 7)[:3] == (386_155_422, 1_114_996_679, 1_115_192_423)
    assert poisson_ns(5.0, 60.0, 7) == poisson_ns(5.0, 60.0, 7)
    assert poisson_ns(5.0, 60.0, 8) != poisson_ns(5.0, 60.0, 7)


def test_a_phase_fits_into_a_load_that_is_shorter_than_an_interval() -> None:
    assert all(phase_ns(0.01, 3.0, seed) < 3 * SECOND for seed in range(100))


def test_poisson_arrivals_have_the_mean_and_the_variance_of_a_poisson_process() -> None:
    counts, gaps = [], []
    for seed in range(400):
        times = poisson_ns(5.0, 20.0, seed)
        counts.append(len(times))
        gaps += [later - earlier for earlier, later in itertools.pairwise(times)]
    # 400 counts with mean and variance 100: standard errors 0.5 and 7.
    assert statistics.mean(counts) == pytest.approx(100, abs=1.5)
    assert statistics.variance(counts) == pytest.approx(100, abs=21)
    # Exponential gaps: the deviation equals the mean.
    assert statistics.mean(gaps) == pytest.approx(0.2 * SECOND, rel=0.02)
    assert statistics.stdev(gaps) == pytest.approx(0.2 * SECOND, rel=0.02)


def test_the_warm_up_is_a_part_of_the_schedule() -> None:
    drawn = made("poisson")
    assert drawn.offsets_ns is not None
    warmup, requests = drawn.requests
    assert warmup + requests == len(drawn.offsets_ns)
    assert drawn.offsets_ns[warmup - 1] < 2 * SECOND <= drawn.offsets_ns[warmup]
    assert drawn.offsets_ns[-1] < 12 * SECOND
    assert drawn.last_due == drawn.offsets_ns[-1] / SECOND
    assert drawn.phase_ns == 0
    (content,) = drawn.files.values()
    assert tuple(map(int, content.split())) == drawn.offsets_ns


def test_periodic_requests_need_no_file() -> None:
    even = made()
    assert even.requests == (10, 50)
    assert (even.files, even.arrivals_file) == ({}, "")
    assert 0 <= even.phase_ns < SECOND // 5
    assert even.last_due == even.phase_ns / 1e9 + 59 / 5


# -- files -----------------------------------------------------------------------------------------

EXPERIMENT = """
name = "traced"
[tiers.edge]
machines = 1
[tiers.endpoint]
machines = 2
[benchmark]
application = "image_classification"
warmup = "1 s"
duration = "4 s"
arrivals = {{ file = "{file}" }}
{more}
"""


def traced(folder: Path, content: str, *, file: str = "arrivals.csv", more: str = "") -> Loaded:
    (folder / "arrivals.csv").write_text(content)
    path = folder / "traced.toml"
    path.write_text(EXPERIMENT.format(file=file, more=more))
    return load(path)


def refusal(folder: Path, content: str, **changes: str) -> str:
    with pytest.raises(InvalidExperiment) as caught:
        traced(folder, content, **changes)
    return str(caught.value)


def test_one_column_is_for_all_endpoints(tmp_path: Path) -> None:
    loaded = traced(tmp_path, "# made by hand\nseconds\n0.5\n\n1\n1\n4.25\n5\n")
    assert loaded.experiment.benchmark is not None
    assert not isinstance(loaded.experiment.benchmark.arrivals, str)
    file = loaded.experiment.benchmark.arrivals.file
    assert file == str(tmp_path / "arrivals.csv")
    both = [made("file", trace=file, column=each, warmup=1.0, duration=4.0) for each in (0, 1)]
    assert both[0].offsets_ns == (SECOND // 2, SECOND, SECOND, 17 * SECOND // 4)
    assert both[0].offsets_ns == both[1].offsets_ns
    assert both[0].requests == (1, 3)
    assert loaded.notes == (
        "arrivals.csv: 1 of 5 times are at or after the end of the load, 5 s, and not used",
    )


def test_a_column_for_each_endpoint_ends_when_it_has_ended(tmp_path: Path) -> None:
    loaded = traced(tmp_path, "endpoint-1, endpoint-2\n1.5, 0\n3, 2\n, 4\n")
    assert loaded.notes == ()
    first, second = read_trace(tmp_path / "arrivals.csv")
    assert first == (3 * SECOND // 2, 3 * SECOND)
    assert second == (0, 2 * SECOND, 4 * SECOND)


def test_a_frequency_beside_a_file_is_told_to_be_of_no_use(tmp_path: Path) -> None:
    loaded = traced(tmp_path, "2\n", more='frequency = "3 Hz"')
    assert loaded.notes == ("benchmark.frequency is not used: arrivals are those of a file",)


def test_an_experiment_with_a_file_reads_as_it_was_written(tmp_path: Path) -> None:
    loaded = traced(tmp_path, "2\n")
    again = tmp_path / "elsewhere" / "traced.toml"
    again.parent.mkdir()
    again.write_text(to_toml(loaded.experiment))
    assert load(again).experiment == loaded.experiment


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("1\n2\nthree\n", 3, '"three" is not a time in seconds'),
        ("1\n\n3\n2.5\n", 4, "2.5 is before the time above it, 3"),
        ("1\n-2\n", 2, "a time is 0 to 31622400 seconds after the start, not -2"),
        ("1\nnan\n", 2, "a time is 0 to 31622400 seconds after the start, not nan"),
        ("1,2\n3\n", 2, "1 columns, where the lines before have 2"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(
    tmp_path: Path, content: str, line: int, said: str
) -> None:
    assert refusal(tmp_path, content) == f"{tmp_path}/arrivals.csv:{line}: {said}"


def test_all_that_is_wrong_in_a_file_is_told_at_once(tmp_path: Path) -> None:
    lines = refusal(tmp_path, "1\nx\n2\ny\n").splitlines()
    assert [line.split(":")[1] for line in lines] == ["2", "4"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1,2,3\n", "3 columns for 2 endpoints: give one for all, or one for each"),
        ("endpoint-2,endpoint-1\n1,2\n", "are called, in order, endpoint-1, endpoint-2"),
        ("0.5\n7\n", "no request is due in the measured time, 1 to 5 s"),
        ("0.5,2\n0.7,3\n", "column 1: no request is due in the measured time, 1 to 5 s"),
    ],
)
def test_a_file_that_does_not_fit_is_blamed_where_it_is_named(
    tmp_path: Path, content: str, said: str
) -> None:
    found = refusal(tmp_path, content)
    assert found.startswith(f"{tmp_path}/traced.toml:11: benchmark.arrivals.file: ")
    assert said in found


def test_files_that_are_not_there_hold_nothing_or_no_text(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path, "1\n", file="other.csv")
    assert refusal(tmp_path, "# nothing\n").endswith("arrivals.csv: holds no times")
    path = tmp_path / "arrivals.csv"
    path.write_bytes(b"1\n\xff\n")
    with pytest.raises(InvalidExperiment, match="not text in UTF-8"):
        read_trace(path)


def test_a_file_that_has_changed_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.csv"
    path.write_text("1\n")
    assert read_trace(path) == ((SECOND,),)
    path.write_text("1\n2\n")
    assert read_trace(path) == ((SECOND, 2 * SECOND),)


@pytest.mark.parametrize("written", ['"poison"', "5", '{ fil = "a" }', "{ file = 3 }", "[]"])
def test_other_arrivals_are_refused(tmp_path: Path, written: str) -> None:
    path = tmp_path / "a.toml"
    text = EXPERIMENT.replace('{{ file = "{file}" }}', written).replace("{more}", "")
    path.write_text(text)
    with pytest.raises(InvalidExperiment) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}:11: benchmark.arrivals: "
        'must be "periodic", "poisson" or { file = "arrivals.csv" }'
    )


def test_too_many_poisson_arrivals_to_draw_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    text = EXPERIMENT.replace('{{ file = "{file}" }}', '"poisson"')
    path.write_text(text.replace("{more}", 'frequency = "100 kHz"').replace("4 s", "1 h"))
    with pytest.raises(InvalidExperiment, match="360,100,000 requests of each endpoint are too"):
        load(path)


# -- who watches -----------------------------------------------------------------------------------


def stream(kind: Kind, **changes: Any) -> Stream:
    drawn = made(kind, **changes)
    warmup, requests = drawn.requests
    return Stream(
        endpoint="endpoint-1",
        machine="endpoint-1",
        repetition=1,
        path="/samples",
        start_ns=SECOND,
        frequency=drawn.frequency,
        warmup=warmup,
        requests=requests,
        answer_timeout=5.0,
        arrivals=kind,
        seed=drawn.seed,
        trace=drawn.trace,
        column=drawn.column,
        warmup_seconds=drawn.warmup,
        seconds=drawn.duration,
    )


def test_who_watches_knows_how_many_poisson_requests_are_due() -> None:
    offsets = offsets_ns("poisson", frequency=5.0, seconds=12.0, seed=7)
    assert offsets is not None
    seen = stream("poisson")
    for number, offset in enumerate(offsets):
        assert seen.due(SECOND + offset) == number
        assert seen.due(SECOND + offset + 1) == number + 1
    assert seen.due(0) == 0
    assert seen.due(100 * SECOND) == len(offsets) == seen.warmup + seen.requests
    assert seen.lasts == (2.0, 10.0)


def test_who_watches_goes_by_the_mean_when_the_file_has_gone(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.csv"
    path.write_text("1\n3\n3.5\n")
    there = stream("file", trace=str(path))
    assert [there.due(SECOND * at) for at in (1, 3, 5, 9)] == [0, 1, 3, 3]
    path.unlink()
    gone = replace(there)  # Without what it has read.
    assert gone.due(SECOND * 100) == 3
