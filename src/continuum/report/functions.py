"""What a report says of functions: whose gateway called them, and how long they took to be there."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, median
from typing import TYPE_CHECKING

from markupsafe import Markup

from continuum.report import format as show
from continuum.report.plots import COLOURS, SERIES, plot

if TYPE_CHECKING:
    from continuum.benchmark.results import Run, StartRecord

DISTRIBUTIONS = {
    "builtin": "builtin: OpenFaaS' API, carried out by a program of Continuum's. It is not "
    "OpenFaaS, and its figures are not OpenFaaS'.",
    "community": "community: OpenFaaS Community Edition.",
}

MEANINGS = {
    "cold": ("cold start", "from the call that deploys it to its first answer"),
    "zero": ("start from zero", "from a call, with no replica there, to its answer"),
    "out": ("scaling out", "from the call that asks for the replicas until all are ready"),
}


@dataclass(frozen=True)
class StartRow:
    """One kind of start: all in seconds, as text."""

    kind: str
    meaning: str
    n: int
    mean: str
    median: str
    least: str
    most: str


def start_rows(run: Run) -> list[StartRow]:
    """A row for each kind of start that was measured."""
    rows = []
    for kind, (name, meaning) in MEANINGS.items():
        seconds = [each.seconds for each in run.starts if each.kind == kind]
        if seconds:
            to = max(each.replicas for each in run.starts if each.kind == kind)
            rows.append(
                StartRow(
                    kind=f"{name} to {to} replicas" if kind == "out" else name,
                    meaning=meaning,
                    n=len(seconds),
                    mean=show.supported(mean(seconds)),
                    median=show.supported(median(seconds)),
                    least=show.supported(min(seconds)),
                    most=show.supported(max(seconds)),
                )
            )
    return rows


def draw_starts(run: Run) -> Markup:
    """Every start that was measured, by its kind; of scaling out every further replica."""
    if not run.starts:
        return Markup()
    kinds = [kind for kind in MEANINGS if any(each.kind == kind for each in run.starts)]
    with plot("starts", height=1.0 + 0.6 * len(kinds)) as (figure, finish):
        axes = figure.add_subplot()
        for place, kind in enumerate(kinds):
            found = [each for each in run.starts if each.kind == kind]
            for shift, start in zip(_spread(len(found)), found, strict=True):
                points = _points(start)
                axes.plot(
                    points,
                    [place + shift] * len(points),
                    marker="o",
                    markersize=6,
                    linewidth=1.2,
                    color=SERIES[place],
                    markeredgecolor=COLOURS["surface"],
                    markeredgewidth=0.8,
                )
        axes.set_yticks(range(len(kinds)), [MEANINGS[kind][0] for kind in kinds])
        axes.set_ylim(len(kinds) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel("seconds")
        axes.grid(visible=False, axis="y")
        return finish()


def _points(start: StartRecord) -> list[float]:
    return list(start.moments) if start.kind == "out" and start.moments else [start.seconds]


def _spread(count: int) -> list[float]:
    """Places beside each other, around 0."""
    return [0.5 * (number - (count - 1) / 2) / max(4, count) for number in range(count)]
