"""Tests that take minutes, and are only run when it is asked for by a variable of the environment."""

from __future__ import annotations

import os

KILLS = "CONTINUUM_TEST_KILLS"
MIXES = "CONTINUUM_TEST_MIXES"


def number(variable: str, otherwise: int) -> int:
    """The number that a variable holds."""
    return int(os.environ.get(variable, otherwise))
