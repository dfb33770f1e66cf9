"""Kills at random moments, and ten commands of one name at once: a few always, many when asked for.

CONTINUUM_TEST_KILLS=500 CONTINUUM_TEST_MIXES=100 ./test tests/cli/test_random_kills.py
"""

from __future__ import annotations

import pytest
from benchmarks.shared.kills import kills
from benchmarks.shared.mixes import mixes

from asked_for import KILLS, MIXES, number

SEED = 15
FEW_KILLS = 2
FEW_ROUNDS = 3


@pytest.mark.timeout(7200)
def test_killed_at_any_moment_it_goes_on_or_is_cleaned() -> None:
    found = kills(number(KILLS, FEW_KILLS), SEED)
    assert found == dict.fromkeys(found, 0)


@pytest.mark.timeout(7200)
def test_any_mix_of_commands_of_one_name_leaves_it_whole_or_gone() -> None:
    found = mixes(number(MIXES, FEW_ROUNDS), SEED)
    assert found == dict.fromkeys(found, 0)
