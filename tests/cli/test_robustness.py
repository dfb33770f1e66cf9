"""A few hundred broken inputs, from a fixed seed; `benchmarks/run robustness` tries thousands."""

from __future__ import annotations

import pytest
from benchmarks.shared import robustness_table
from benchmarks.shared.attempt import Finding

SEED = 2026
COUNT = 600
FEWER = {"state": 240}
"""Inputs in all of which a kind has its share, where its calls take long."""
PATIENCE = 200.0
"""Seconds for a call: other tests run beside this one."""


@pytest.mark.parametrize("kind", robustness_table.KINDS)
def test_broken_inputs_are_refused_with_their_place(kind: str) -> None:
    """No defect, no hang, an exit code of the table, no file made, nothing that a terminal obeys."""
    (row,) = robustness_table.rows(SEED, FEWER.get(kind, COUNT), [kind], limit=PATIENCE)
    assert row.tried >= 6
    assert row.calls == sum(row.codes.values())
    found: list[tuple[str, Finding]] = row.examples
    assert not found, f"benchmarks/run robustness --seed {SEED} --show {found[0][0]}"


def test_an_input_is_the_same_again() -> None:
    first, again = (list(robustness_table.rows(SEED, 40, ["toml", "set"])) for _ in range(2))
    assert [row.codes for row in first] == [row.codes for row in again]
