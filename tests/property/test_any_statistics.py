"""Statistics of any samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum.benchmark import sample_lines, samples
from continuum.benchmark.results import Statistic
from continuum.benchmark.statistics import QUANTITIES, aggregate, summarise

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
            # Twenty samples have no percentile of the tail.
            assert statistic.p95.value is statistic.p99.value is None


@given(CLUSTERS, st.integers(0, 200))
@settings(max_examples=100, deadline=None)
def test_figures_lie_within_the_samples_and_intervals_around_them(
    clusters: list[list[float]], lost: int
) -> None:
    arrays = [np.array(cluster) for cluster in clusters]
    whole = np.concatenate(arrays)
    arrays[0] = np.concatenate([arrays[0], np.full(lost, np.inf)])
    statistic = summarise(QUANTITIES[0], arrays, bound=1e3)
    slack = 1e-3 + 1e-9 * float(np.abs(whole).max())
    assert whole.min() - slack <= statistic.mean.value <= whole.max() + slack
    assert statistic.maximum is not None
    for figure in (statistic.mean, statistic.p50, statistic.p95, statistic.p99):
        if figure.value is not None:
            assert whole.min() - slack <= figure.value <= whole.max() + slack
            assert figure.low is None or figure.low <= figure.value
            assert figure.high is None or figure.value <= figure.high
    assert statistic.n == whole.size
    assert statistic.unanswered == lost
    if len(arrays) == 1 and statistic.deviation is not None:
        assert math.isclose(
            statistic.deviation.value, whole.std(ddof=1), rel_tol=1e-9, abs_tol=1e-3
        )
    Statistic.model_validate_json(statistic.model_dump_json())
