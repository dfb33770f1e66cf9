"""A measured quantity of a link: a row of `links.parquet`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

DELAY, STREAM, JITTER, LOSS, RATE = QUANTITIES = (
    "delay_ms",
    "stream_delay_ms",
    "jitter_ms",
    "loss_percent",
    "rate_mbit",
)

Verdict = Literal["holds", "does not hold", "not shown", "host limit", ""]
"""The conclusion of a measurement; "" in results of versions that drew no interval.

`holds`: the whole interval lies inside the tolerance; `does not hold`: wholly outside, or nothing
arrived; `not shown`: neither; `host limit`: less than asked for, and this host cannot send that
much even without a link.
"""


@dataclass(frozen=True)
class LinkMeasurement:
    """One quantity of one link, between one pair of machines, after one attempt.

    Attributes:
        quantity: one of `QUANTITIES`, which name their units: mean delay of packets far apart and
            at the application's packet rate, standard deviation of the former, loss, rate.
        measured: None when nothing arrived.
        tolerance: how far `measured` may be above `asked`.
        ok: whether a run may go on: it holds, or is a limit of the host that does not matter.
        attempt: counts from 1; the last of a pair and quantity decides.
        n: probes of this attempt and of the earlier ones that count with it; None: not known.
        standard_error: of `measured`, in its unit.
        low, high: ends of the interval that was held against the tolerance.
        least, most: the tolerance as a range of the quantity itself.
        stalled: probes that were left out because the host stood still meanwhile.
        late: probes (at most 1 %) that were left out because they are far later than the others.
    """

    from_tier: str
    to_tier: str
    from_machine: str
    to_machine: str
    quantity: str
    asked: float
    measured: float | None
    tolerance: float
    ok: bool
    attempt: int = 1
    n: int | None = None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    least: float | None = None
    most: float | None = None
    verdict: Verdict = ""
    stalled: int = 0
    late: int = 0


def deciding(measurements: Sequence[LinkMeasurement]) -> list[LinkMeasurement]:
    """The last attempt of every pair and quantity, in the order in which these first occur."""
    last = {
        (each.from_machine, each.to_machine, each.quantity): each
        for each in sorted(measurements, key=lambda each: each.attempt)
    }
    order = dict.fromkeys(
        (each.from_machine, each.to_machine, each.quantity) for each in measurements
    )
    return [last[key] for key in order]


def outside(measurements: Sequence[LinkMeasurement]) -> list[LinkMeasurement]:
    """Measurements that decide, and are no reason to go on."""
    return [each for each in deciding(measurements) if not each.ok]


MOST_TOLD = 6
"""Measurements that a message lists; the rest are counted."""


def sentence(measurements: Sequence[LinkMeasurement]) -> str:
    """The number of links that do not hold, or are not shown to, in one line."""
    off = outside(measurements)
    whole = len(deciding(measurements))
    words = (
        ("not shown", "not shown to hold"),
        ("host limit", "beyond what this host can send"),
    )
    counts = [(sum(each.verdict == verdict for each in off), told) for verdict, told in words]
    rest = len(off) - sum(count for count, _ in counts)
    parts = [f"{rest} of {whole} link measurements are out of tolerance"] if rest else []
    parts += [
        f"{count} {told}" if parts else f"{count} of {whole} link measurements are {told}"
        for count, told in counts
        if count
    ]
    return ", ".join(parts)


def figures(measurements: Sequence[LinkMeasurement]) -> dict[str, float | int | str]:
    """The same in numbers."""
    off = outside(measurements)
    return {
        "outside": len(off),
        "not_shown": sum(each.verdict == "not shown" for each in off),
        "host_limit": sum(each.verdict == "host limit" for each in off),
        "of": len(deciding(measurements)),
        "stalled": sum(each.stalled for each in off),
    }


def lines(measurements: Sequence[LinkMeasurement]) -> list[str]:
    """Measurements that are not as asked for, a line each: a few, those that do not hold first."""
    off = sorted(outside(measurements), key=lambda each: each.verdict != "does not hold")
    found = [_line(each) for each in off[:MOST_TOLD]]
    if len(off) > MOST_TOLD:
        found.append(f"and {len(off) - MOST_TOLD} more: see links.parquet")
    return found


def _line(each: LinkMeasurement) -> str:
    measured = "nothing" if each.measured is None else f"{each.measured:.4g}"
    interval = "" if each.low is None else f" [{each.low:.4g} … {each.high:.4g}]"
    if each.least is None or each.most is None:
        wanted = f"tolerance ±{each.tolerance:.3g}"
    else:
        wanted = f"tolerance {each.least:.4g} … {each.most:.4g}"
    more = f", {each.stalled} probes in stalls of the host" if each.stalled else ""
    verdict = f": {each.verdict}" if each.verdict else ""
    return (
        f"{each.from_machine} → {each.to_machine} {each.quantity}: asked {each.asked:g}, "
        f"measured {measured}{interval}, {wanted}{more}{verdict}"
    )
