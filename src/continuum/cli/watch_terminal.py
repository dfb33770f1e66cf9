"""A snapshot as rich draws it, and in one line for where nothing can be drawn again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from continuum.cli.output import clean
from continuum.report.fitted import Column, Fitted, label
from continuum.watch.snapshot import MachineView, Requests, Snapshot, show_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.text import Text

BARS = "▁▂▃▄▅▆▇█"
_SPARK = 30
_STYLES = {
    "running": "bold cyan",
    "done": "bold green",
    "degraded": "bold yellow",
    "killed": "bold red",
}
_UNITS = {"delay_ms": "ms", "jitter_ms": "ms", "loss_percent": "%", "rate_mbit": "Mbit/s"}
_MOST_LINKS = 12
_MOST_MACHINES = 24


def draw(seen: Snapshot) -> RenderableType:
    """All of it, for a terminal. Words from outside are shown as they are."""
    from rich.console import Group  # noqa: PLC0415  slow to import
    from rich.text import Text  # noqa: PLC0415

    parts: list[RenderableType] = [_title(seen)]
    parts += [_plain(f"  {line}") for line in _said(seen)]
    if seen.requests is not None:
        parts += [Text(""), _requests(seen)]
    if seen.machines:
        parts += [Text(""), _machines(seen.machines)]
    if seen.links:
        parts += [Text(""), _links(seen)]
    if seen.advice:
        parts += [Text(""), *(_plain(f"  {line}", "dim") for line in seen.advice)]
    return Group(*parts)


def line(seen: Snapshot) -> str:
    """The most important in one line, for a log."""
    parts = [time.strftime("%H:%M:%S", time.localtime(seen.at))]
    if seen.deployment:
        parts.append(seen.deployment)
    if seen.run is not None:
        parts.append(seen.run.status)
    parts += [each for each in (_now(seen),) if each]
    if seen.requests is not None:
        parts.append(_in_words(seen.requests))
    if seen.stage in {"nothing", "up"}:
        parts.append(seen.advice[0])
    return clean("  ".join(parts))


def sparkline(values: Sequence[float | None], width: int = _SPARK) -> str:
    """The last values as bars between 0 and the largest; a blank where there is none."""
    shown = list(values)[-width:]
    top = max((value for value in shown if value is not None), default=0.0)
    if top <= 0:
        return "".join(" " if value is None else BARS[0] for value in shown)
    return "".join(
        " " if value is None else BARS[min(len(BARS) - 1, int(value / top * len(BARS)))]
        for value in shown
    )


def _title(seen: Snapshot) -> Text:
    from rich.text import Text  # noqa: PLC0415

    if not seen.deployment:
        return Text("nothing is up", "bold")
    title = Text.assemble((seen.deployment, "bold"))
    if seen.provider:
        title.append(f" ({seen.provider})", "dim")
    if seen.run is not None:
        title.append("  ")
        title.append(seen.run.status, _STYLES.get(seen.run.status, "bold red"))
        title.append(f"  {clean(seen.run.name)}")
    return title


def _now(seen: Snapshot) -> str:
    """What is under way, in words."""
    run = seen.run
    if run is not None and seen.stage == "running" and run.load:
        return f"repetition {run.repetition} of {run.repetitions}: {run.load}"
    if seen.steps:
        step = seen.steps[-1]
        return f"{step.phase}: {step.name} (since {max(0.0, seen.at - step.since):.0f} s)"
    return ""


def _said(seen: Snapshot) -> list[str]:
    said = [_now(seen)] if _now(seen) else []
    if seen.run is not None:
        said += seen.run.reasons
    if seen.made_up:
        said.append("the machines are made up, and so is every figure")
    return [*said, *seen.notes]


def _in_words(requests: Requests) -> str:
    parts = [f"{requests.answered} answered"]
    if requests.expected is not None:
        parts[0] += f" of {requests.expected}"
    if requests.warmup:
        parts.append(f"{requests.warmup} of the warm-up")
    if requests.waiting is not None:
        parts.append(f"{requests.waiting} waiting")
    parts += [
        f"{count} {word}"
        for word, count in (
            ("lost", requests.lost),
            ("too late", requests.timeout),
            ("errors", requests.error),
        )
        if count or word == "lost"
    ]
    if requests.per_second is not None:
        parts.append(f"{requests.per_second:.1f}/s")
    if requests.median_ms is not None and requests.p95_ms is not None:
        parts.append(f"median {requests.median_ms:.1f} ms, p95 {requests.p95_ms:.1f} ms")
    return ", ".join(parts)


def _plain(text: str, style: str = "") -> Text:
    from rich.text import Text  # noqa: PLC0415

    return Text(clean(text), style, overflow="fold")


def _table(*columns: Column) -> Fitted:
    return Fitted(columns, "a wider terminal has all columns")


def _requests(seen: Snapshot) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    requests = seen.requests
    assert requests is not None
    failed = requests.lost + requests.timeout + requests.error
    grid = _table(label(""), label(""), Column("", right=False, dropped=1))
    timeline = seen.timeline
    rate = "" if requests.per_second is None else f"{requests.per_second:.1f} per second"
    median = "" if requests.median_ms is None else f"median {requests.median_ms:.1f} ms"
    p95 = "" if requests.p95_ms is None else f"95th percentile {requests.p95_ms:.1f} ms"
    for name, value, values in (
        ("requests", rate, [each.per_second for each in timeline]),
        ("latency", median, [each.median_ms for each in timeline]),
        ("", p95, [each.p95_ms for each in timeline]),
    ):
        grid.add(Text(name, "bold"), value, Text(sparkline(values), "cyan"))
    words = Text(f"{_in_words(requests).partition(', median')[0]}", "bold red" if failed else "")
    return Group(grid, words)


def _machines(machines: Sequence[MachineView]) -> RenderableType:
    from rich.text import Text  # noqa: PLC0415

    several = any(each.host for each in machines)
    made = _table(
        label("machine"),
        label("state", dropped=1),
        *((label("host", dropped=3),) if several else ()),
        Column("cores"),
        Column("", right=False, dropped=4),
        Column("memory", words=True, dropped=2),
    )
    for each in machines[:_MOST_MACHINES]:
        cores = "" if each.used is None else f"{each.used:.2f} of {each.cores:g}"
        hot = each.share is not None and each.share > 0.9
        made.add(
            _plain(each.name),
            Text(each.state, "green" if each.state == "running" else "bold red"),
            *((_plain(each.host or "this host"),) if several else ()),
            Text(cores, "yellow" if hot else ""),
            Text(sparkline(each.history), "cyan"),
            _plain(show_memory(each) or each.problem, "" if show_memory(each) else "dim"),
        )
    return _and_more(made, len(machines) - _MOST_MACHINES)


def _and_more(shown: Fitted, left_out: int) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    return Group(shown, Text(f"and {left_out} more", "italic dim")) if left_out > 0 else shown


def _links(seen: Snapshot) -> RenderableType:
    from rich.text import Text  # noqa: PLC0415

    made = _table(
        label("link"),
        Column("asked", right=False, dropped=1),
        Column("measured", right=False),
        label(""),
    )
    for link in seen.links[:_MOST_LINKS]:
        shown = {True: ("holds", "green"), False: ("out of tolerance", "bold red"), None: ("", "")}
        made.add(
            _plain(f"{link.source} → {link.destination}"),
            in_units(link.asked),
            in_units(link.measured, digits=4) or "not yet",
            Text(*shown[link.ok]),
        )
    return _and_more(made, len(seen.links) - _MOST_LINKS)


def in_units(values: object, *, digits: int = 6) -> str:
    """Quantities of a link: `7.5 ± 2.5 ms, 7.21 Mbit/s`."""
    assert isinstance(values, dict)
    delay, jitter = values.get("delay_ms"), values.get("jitter_ms")
    parts = []
    if delay is not None:
        more = f" ± {jitter:.{digits}g}" if jitter else ""
        parts.append(f"{delay:.{digits}g}{more} ms")
    parts += [
        f"{values[name]:.{digits}g} {_UNITS[name]}"
        for name in ("rate_mbit", "loss_percent")
        if values.get(name)
    ]
    return ", ".join(parts)
