"""Statistics of any samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum.benchmark import sample_lines, samples
from continuum.benchmark.statistics import QUANTITIES, Bootstrap, aggregate, summarise

TIME = st.one_of(st.none(), st.integers(0, 2**62))
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "repetition": st.integers(1, 3),
            "warmup": st.booleans(),
            "endpoint": st.sampled_from(["endpoint-1", "endpoint-2", "<b>"]),
            "worker": st.sampled_from([None, "worker-1"]),
            "status": st.sampled_from(sample_lines.STATUSES),
            **dict.fromkeys((*sample_lines.TIMES, "request_bytes"), TIME),
        }
    ),
    max_size=20,
)
CLUSTERS = st.lists(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30), min_size=1, max_size=4)


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_every_table_of_samples_has_statistics(rows: list[dict[str, Any]]) -> None:
    numbered = [{"run": "r", "sequence": number, **row} for number, row in enumerate(rows)]
    groups = aggregate(samples.table(numbered))
    everything = groups[0]
    counted = everything.ok + everything.lost + everything.timeout + everything.error
    assert counted == everything.samples
    assert everything.samples + everything.warmup == len(rows)
    for kind in ("endpoint", "worker"):
        parts = [group for group in groups if group.kind == kind]
        assert sum(group.samples for group in parts) <= everything.samples
    for group in groups:
        for statistic in group.statistics:
            assert 1 <= statistic.n <= group.ok
            assert statistic.p50.value <= statistic.p95.value <= statistic.p99.value


@given(CLUSTERS, st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_figures_and_intervals_lie_within_the_samples(
    clusters: list[list[float]], seed: int
) -> None:
    arrays = [np.array(cluster) for cluster in clusters]
    whole = np.concatenate(arrays)
    statistic = summarise(QUANTITIES[0], arrays, Bootstrap(50, 1000, np.random.default_rng(seed)))
    slack = 1e-3 + 1e-9 * float(np.abs(whole).max())
    for figure in (statistic.mean, statistic.p50, statistic.p95, statistic.p99):
        for value in (figure.low, figure.value, figure.high):
            if value is not None:
                assert whole.min() - slack <= value <= whole.max() + slack
        if figure.low is not None and figure.high is not None:
            assert figure.low <= figure.high
    assert statistic.n == whole.size
    if statistic.deviation is not None:
        assert math.isclose(
            statistic.deviation.value, whole.std(ddof=1), rel_tol=1e-9, abs_tol=1e-3
        )
