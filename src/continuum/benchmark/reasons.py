"""Reasons for which a run is not `done`: a code, a sentence, and the figures in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field

from continuum.benchmark.record import Record
from continuum.reasons import Code

__all__ = ["Code", "Reason", "in_order"]

_ORDER = {str(code): place for place, code in enumerate(Code)}


class Reason(Record):
    """One reason. `code` is one of `Code`; empty for one of an earlier version, which had none."""

    code: str
    sentence: str
    figures: Mapping[str, float | int | str] = Field(default_factory=dict)

    def __str__(self) -> str:
        return self.sentence


def in_order(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    """Each reason once, what says most about the figures first."""
    each = {(reason.code, reason.sentence): reason for reason in reasons}
    return tuple(sorted(each.values(), key=lambda reason: _ORDER.get(reason.code, len(_ORDER))))
