"""Options that are a time in seconds."""

from __future__ import annotations

import math
from typing import Any

import click


class Seconds(click.FloatRange):
    """A number within limits; a limit lets `nan` pass, and no time is such."""

    def convert(
        self,
        value: Any,  # noqa: ANN401  the library's
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Read the number, and refuse one that is none."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not a number of seconds.", param, ctx)
        return number
