"""Numbers and times as a person reads them."""

from __future__ import annotations

import datetime as dt
import math

NOTHING = "–"
"""What stands where there is no value."""

DOUBTFUL = "†"
"""What stands behind a one-way figure of which the clocks may make up more than a tenth."""


def number(value: float | None) -> str:
    """Three or four digits that count, thousands apart: 62,203; 127.2; 14.15; 1.82; 0.052."""
    if value is None:
        return NOTHING
    size = abs(value)
    if size < 0.0005:
        return "0"
    places = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 1 else 3
    return f"{value:,.{places}f}".replace("-", "−")  # a real minus


def signed(value: float | None) -> str:
    """The same, with its sign."""
    text = number(value)
    return f"+{text}" if value is not None and value > 0 and text != "0" else text


def percent(value: float) -> str:
    """A difference in percent, with its sign and one digit."""
    return f"{value:+.1f} %".replace("-", "−").replace("+0.0 %", "0 %").replace("−0.0 %", "0 %")


def supported(value: float | None, half: float | None = None) -> str:
    """A figure without digits that its interval does not support: 112.2; 67,900; 0.052.

    Two digits of half the interval's width count; without an interval three of the figure. Never
    more than three places.
    """
    if value is None:
        return NOTHING
    return _to(value, _places(half, 2) if half else _places(abs(value), 3))


def interval(low: float | None, high: float | None, half: float | None = None) -> str:
    """An interval, as `125.6 … 129.8` or, with one end, `≥ 125.6`; empty without any."""
    places = _places(half, 2) if half else _places(abs(high or low or 0.0), 3)
    if low is None:
        return "" if high is None else f"≤ {_to(high, places)}"
    return f"≥ {_to(low, places)}" if high is None else f"{_to(low, places)} … {_to(high, places)}"


def half_width(value: float | None, low: float | None, high: float | None) -> float | None:
    """Half the width of an interval; None without one. Of one with one end, how far that lies off."""
    if low is not None and high is not None:
        return (high - low) / 2 or None
    end = high if low is None else low
    return None if end is None or value is None else abs(value - end) or None


def _places(size: float, digits: int) -> int:
    """Places behind the point that leave so many digits; less than 0 in front of it."""
    if size < 1e-9:
        return 3
    # As it is written: 0.0996 with two digits is 0.10.
    return min(3, digits - 1 - math.floor(math.log10(float(f"{size:.{digits - 1}e}"))))


def _to(value: float, places: int) -> str:
    rounded = round(value, places)
    if rounded == 0:
        return "0"
    return f"{rounded:,.{max(0, places)}f}".replace("-", "−")  # a real minus


def milliseconds(value: float) -> str:
    """A limit of time as it was asked for: 250 ms; 10 s."""
    return f"{value / 1000:,g} s" if value >= 1000 else f"{supported(value)} ms"


def share(part: int, whole: int) -> str:
    """A share in percent; never 100 % or 0 % when it is not."""
    if whole == 0:
        return NOTHING
    percent = 100 * part / whole
    text = f"{percent:.1f}"
    if text in {"100.0", "0.0"} and 0 < part < whole:
        text = "> 99.9" if part * 2 > whole else "< 0.1"
    return f"{text.removesuffix('.0')} %"


def seconds(value: float | None) -> str:
    """A duration: 12.3 s, 3 min 20 s, 2 h 5 min."""
    if value is None:
        return NOTHING
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def moment(text: str) -> str:
    """An ISO 8601 time without its fraction, as 2026-01-31 12:30:05 +00:00; others as they are."""
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:
        return text
    return when.isoformat(sep=" ", timespec="seconds").replace("+", " +")


def lasted(started: str, finished: str) -> str:
    """The time between two ISO 8601 times; nothing when one is none."""
    try:
        span = dt.datetime.fromisoformat(finished) - dt.datetime.fromisoformat(started)
    except (ValueError, TypeError):
        return NOTHING
    return seconds(max(0.0, span.total_seconds()))
