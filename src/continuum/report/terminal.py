"""The summary of a run for a terminal, as rich draws it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from continuum.benchmark.results import LINKS_FILE, LOGS_FOLDER, REPORT_FILE, Run
from continuum.report import functions, host_share, loads
from continuum.report import table as rows_of
from continuum.report.clocks import Clocks
from continuum.report.fitted import Column, Fitted, label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_STYLES = {"done": "bold green", "degraded": "bold yellow"}
_VERDICTS = {"as expected": "green", "differs": "yellow"}
_MOST_GROUPS = 8
_MOST_MACHINES = 20
_MOST_LINKS = 10


def summary(
    run: Run, folder: Path, *, removed: bool = False, reachable: bool = True
) -> RenderableType:
    """The table, how the requests ended, the report's path, and how to reach and remove it all.

    With `removed` there is nothing left to reach or remove, which is said. Where nothing is
    `reachable` from here, nothing is said of that.

    Every text from outside is shown as it is: rich's mark-up in it has no effect.
    """
    from rich.console import Group  # noqa: PLC0415  slow to import
    from rich.text import Text  # noqa: PLC0415

    parts: list[RenderableType] = [
        Text.assemble(
            (run.status, _STYLES.get(run.status, "bold red")),
            "  ",
            (run.run, "bold"),
            (rows_of.accepted(run), "yellow"),
            overflow="fold",
        )
    ]
    parts += [_plain(f"  {reason}") for reason in rows_of.reasons(run)]
    if run.made_up:
        parts.append(_plain(f"  {rows_of.MADE_UP}"))
    if run.all is not None:
        parts += _benchmark(run)
    if run.functions is not None:
        parts += [Text(""), *_functions(run)]
    parts += _links(run, folder)
    ways = _files(run, folder)
    if removed:
        ways.append(("machines", "removed"))
    elif reachable:
        ways += _ways_in(run)
    parts += [Text(""), _pairs(ways)]
    return Group(*parts)


def _benchmark(run: Run) -> list[RenderableType]:
    from rich.text import Text  # noqa: PLC0415

    assert run.all is not None
    parts: list[RenderableType] = [Text(""), _statistics(run)]
    for title, groups in (
        ("endpoint", run.groups("endpoint")),
        ("worker", rows_of.workers(run)),
    ):
        if run.noun != "request":
            break  # The report tells of each node.
        if len(groups) > 1:
            parts += [Text(""), _groups(title, rows_of.group_rows(run, groups[:_MOST_GROUPS]))]
        if len(groups) > _MOST_GROUPS:
            parts.append(Text(f"  and {len(groups) - _MOST_GROUPS} more: see the report"))
    expected = rows_of.expectation_rows(run, "all")
    if expected:
        parts += [Text(""), _expectation(expected)]
    parts += [Text(""), Text(f"{rows_of.outcome(run.all, run.noun)}.")]
    notes = (
        rows_of.unanswered_note(run),
        loads.sentence(run),
        rows_of.interval_note(run),
        host_share.remark(run),
    )
    parts += [_plain(note) for note in notes if note]
    if Clocks(run).note:
        parts.append(_plain(Clocks(run).note))
    if run.all.judged:
        parts.append(Text(f"Agreement with the right results: {rows_of.agreement(run.all)}."))
    return parts


def _links(run: Run, folder: Path) -> list[RenderableType]:
    """The measurements of the links: where a benchmark ran, those alone that do not hold."""
    from rich.text import Text  # noqa: PLC0415

    path = folder / LINKS_FILE
    if not path.exists():
        return []
    from continuum.benchmark.samples import read_links  # noqa: PLC0415  slow to import

    rows = rows_of.link_rows(read_links(path))
    figures = [
        (row, rows_of.LINK_LABELS[name], figure)
        for row in rows
        for name, figure in row.quantities.items()
    ]
    outcome = _plain(f"{rows_of.links_outcome(rows, run.link_check_seconds)}.")
    if run.all is not None:
        figures = [each for each in figures if not each[2].ok]
    if not figures:
        return [outcome]
    figures.sort(key=lambda each: each[2].ok)
    made = _table(
        [
            label("link"),
            Column("asked"),
            Column("measured"),
            Column("interval", dropped=2),
            Column("n", dropped=1),
            Column("attempts", dropped=3),
            Column("verdict"),
        ]
    )
    for row, (name, unit), figure in figures[:_MOST_LINKS]:
        made.add(
            _plain(f"{row.pair} {name}, {unit}"),
            figure.asked,
            figure.measured,
            figure.interval,
            figure.n,
            f"{figure.attempts}",
            figure.verdict,
        )
    parts: list[RenderableType] = [Text(""), made]
    if len(figures) > _MOST_LINKS:
        parts.append(Text(f"  and {len(figures) - _MOST_LINKS} more: see the report"))
    return [*parts, outcome]


def _functions(run: Run) -> list[RenderableType]:
    assert run.functions is not None
    rows = functions.start_rows(run)
    told = functions.DISTRIBUTIONS.get(run.functions.distribution, run.functions.distribution)
    parts: list[RenderableType] = [_plain(f"Functions, distribution {told}")]
    if rows:
        made = _table(
            [
                label("until a function is there, s"),
                Column("n"),
                Column("mean"),
                Column("median", dropped=1),
                Column("least", dropped=3),
                Column("most", dropped=2),
            ]
        )
        for row in rows:
            made.add(_plain(row.kind), f"{row.n}", row.mean, row.median, row.least, row.most)
        parts.append(made)
    return parts


def _table(columns: Sequence[Column]) -> Fitted:
    return Fitted(columns, "the report has all columns")


def _statistics(run: Run) -> Fitted:

    rows = rows_of.summary_table(run)
    compared = any(row.clocks for row in rows)
    calm = host_share.unstalled_rows(run).get("latency_ms")
    short = any(row.maximum for row in (*rows, *((calm,) if calm else ())))
    made = _table(
        [
            label(""),
            Column("n"),
            Column("mean"),
            Column(rows_of.interval_title(run), dropped=3),
            Column("deviation", dropped=7),
            Column("p50", dropped=1),
            Column("p95", dropped=2),
            Column("p99", dropped=5),
            *((Column("max", dropped=4),) if short else ()),
            *((Column("one way", dropped=6),) if compared else ()),
        ]
    )
    for row in rows:
        made.add(*_figures(f"{row.label}, {row.unit}", row, short=short, compared=compared))
        if calm is not None and row.quantity == calm.quantity:
            made.add(*_figures("  without stalls", calm, short=short, compared=compared))
    return made


def _figures(
    name: str, row: rows_of.StatisticRow, *, short: bool, compared: bool
) -> list[str | Text]:
    from rich.text import Text  # noqa: PLC0415

    return [
        _plain(name),
        f"{row.n:,}",
        row.mean.value,
        Text(row.mean.interval, style="dim" if row.mean.within else ""),
        row.deviation.value,
        row.p50.value,
        row.p95.value,
        row.p99.value,
        *((row.maximum,) if short else ()),
        *((row.clocks,) if compared else ()),
    ]


def _groups(title: str, rows: list[rows_of.GroupRow]) -> Fitted:
    made = _table(
        [
            label(title),
            Column("requests", dropped=2),
            Column("not answered", dropped=1),
            Column("latency, ms"),
            Column("p95", dropped=3),
            Column("forward", dropped=4),
            Column("processing", dropped=5),
            *((Column("load", dropped=1),) if title == "worker" else ()),
            Column("agreement", dropped=6),
        ]
    )
    for row in rows:
        made.add(
            _plain(row.name),
            f"{row.samples:,}",
            f"{row.unanswered:,}",
            row.latency.value,
            row.latency_p95.value,
            row.forward.value,
            row.processing.value,
            *((row.load,) if title == "worker" else ()),
            row.agreement,
        )
    return made


def _expectation(rows: list[rows_of.ExpectationRow]) -> Fitted:
    from rich.text import Text  # noqa: PLC0415

    made = _table(
        [
            label("mean, ms"),
            Column("expected"),
            Column("measured"),
            Column("difference", dropped=1),
            label(""),
        ]
    )
    for row in rows:
        made.add(
            _plain(row.label),
            row.expected_mean,
            row.measured_mean,
            f"{row.difference}  ({row.percent})" if row.verdict else "",
            Text(row.words, style=_VERDICTS.get(row.verdict, "dim")),
        )
    return made


def _pairs(pairs: Sequence[tuple[str, str]]) -> Table:
    from rich.table import Table as NewTable  # noqa: PLC0415

    made = NewTable.grid(padding=(0, 2))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(_plain(name), _plain(value))
    return made


def _files(run: Run, folder: Path) -> list[tuple[str, str]]:
    found = [("report", str(folder / REPORT_FILE))]
    if run.logs:
        found.append(("logs", f"{folder / LOGS_FOLDER} ({len(run.logs)} files)"))
    return found


def _ways_in(run: Run) -> list[tuple[str, str]]:
    """How to reach what is up, and how to remove it."""
    shown = [machine for machine in run.machines if machine.ssh]
    found = [(machine.name, machine.ssh) for machine in shown[:_MOST_MACHINES]]
    if len(shown) > _MOST_MACHINES:
        left_out = len(shown) - _MOST_MACHINES
        found.append(("", f"and {left_out} more: continuum status {run.deployment}"))
    if run.cluster:
        found.append(("cluster", run.cluster))
    if run.functions is not None and run.functions.gateway:
        found.append(("gateway", f"{run.functions.gateway} (user {run.functions.user})"))
        found.append(("password", run.functions.credentials))
    if run.remove:
        found.append(("remove", run.remove))
    return found


def _plain(text: str) -> Text:
    from rich.text import Text  # noqa: PLC0415

    # What came from a machine may hold codes that a terminal obeys.
    return Text("".join(each if each.isprintable() or each == "\n" else "\ufffd" for each in text))
