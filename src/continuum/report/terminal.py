"""The summary of a run for a terminal, as rich draws it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from continuum.benchmark.results import REPORT_FILE, Run
from continuum.report import table

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES = {"done": "bold green", "degraded": "bold yellow"}
_MOST_GROUPS = 8
_MOST_MACHINES = 20


def summary(run: Run, folder: Path) -> RenderableType:
    """The table, how the requests ended, the report's path, and how to reach and remove it all.

    Every text from outside is shown as it is: rich's mark-up in it has no effect.
    """
    from rich.console import Group  # noqa: PLC0415  slow to import
    from rich.text import Text  # noqa: PLC0415

    parts: list[RenderableType] = [
        Text.assemble(
            (run.status, _STYLES.get(run.status, "bold red")), "  ", (run.run, "bold"), overflow="fold"
        )
    ]
    parts += [Text(f"  {reason}", overflow="fold") for reason in run.reasons]
    if run.all is not None:
        parts += _benchmark(run)
    parts += [Text(""), *_ways_in(run, folder)]
    return Group(*parts)


def _benchmark(run: Run) -> list[RenderableType]:
    from rich.text import Text  # noqa: PLC0415

    assert run.all is not None
    parts: list[RenderableType] = [Text(""), _statistics(run)]
    for kind, title in (("endpoint", "endpoint"), ("worker", "worker")):
        groups = run.groups(kind)
        if len(groups) > 1:
            parts += [Text(""), _groups(title, table.group_rows(groups[:_MOST_GROUPS]))]
        if len(groups) > _MOST_GROUPS:
            parts.append(Text(f"  and {len(groups) - _MOST_GROUPS} more: see the report"))
    expected = table.expectation_rows(run.expectation, "all")
    if expected:
        parts += [Text(""), _expectation(expected)]
    parts += [Text(""), Text(f"{table.outcome(run.all)}.")]
    if run.all.judged:
        parts.append(Text(f"Agreement with the right results: {table.agreement(run.all)}."))
    return parts


def _new_table(title: str, *columns: str) -> "Table":
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    made.add_column(title, no_wrap=True)
    for column in columns:
        made.add_column(column, justify="right", no_wrap=True)
    return made


def _statistics(run: Run) -> RenderableType:
    made = _new_table("", "n", "mean", "95 % interval", "deviation", "p50", "p95", "p99")
    for row in table.summary_table(run):
        made.add_row(
            _plain(f"{row.label}, {row.unit}"),
            f"{row.n:,}",
            row.mean.value,
            row.mean.interval,
            row.deviation.value,
            row.p50.value,
            row.p95.value,
            row.p99.value,
        )
    return made


def _groups(title: str, rows: list[table.GroupRow]) -> RenderableType:
    made = _new_table(
        title, "requests", "not answered", "latency, ms", "p95", "forward", "processing", "agreement"
    )
    for row in rows:
        made.add_row(
            _plain(row.name),
            f"{row.samples:,}",
            f"{row.unanswered:,}",
            row.latency.value,
            row.latency_p95.value,
            row.forward.value,
            row.processing.value,
            row.agreement,
        )
    return made


def _expectation(rows: list[table.ExpectationRow]) -> RenderableType:
    from rich.text import Text  # noqa: PLC0415

    made = _new_table("mean, ms", "expected", "measured", "difference", "")
    for row in rows:
        verdict = {True: ("as expected", "green"), False: ("not as expected", "yellow")}
        word, style = verdict.get(row.within, (row.why_not, "dim"))  # type: ignore[arg-type]
        made.add_row(
            _plain(row.label),
            row.expected_mean,
            row.measured_mean,
            f"{row.difference}  ({row.percent})" if row.within is not None else "",
            Text(word, style=style),
        )
    return made


def _ways_in(run: Run, folder: Path) -> list[RenderableType]:
    from rich.table import Table  # noqa: PLC0415

    made = Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    made.add_row("report", _plain(str(folder / REPORT_FILE)))
    shown = [machine for machine in run.machines if machine.ssh]
    for machine in shown[:_MOST_MACHINES]:
        made.add_row(_plain(machine.name), _plain(machine.ssh))
    if len(shown) > _MOST_MACHINES:
        made.add_row("", f"and {len(shown) - _MOST_MACHINES} more: continuum status {run.deployment}")
    if run.remove:
        made.add_row("remove", _plain(run.remove))
    return [made]


def _plain(text: str) -> RenderableType:
    from rich.text import Text  # noqa: PLC0415

    return Text(text)
