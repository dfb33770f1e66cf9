"""Numbers and times as a person reads them."""

from __future__ import annotations

import datetime as dt

from continuum.benchmark.results import Figure

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


def interval(figure: Figure | None, scale: float = 1.0) -> str:
    """A 95 % interval, as `125.6 … 129.8`; empty when there is none."""
    if figure is None or figure.low is None or figure.high is None:
        return ""
    return f"{number(figure.low / scale)} … {number(figure.high / scale)}"


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
