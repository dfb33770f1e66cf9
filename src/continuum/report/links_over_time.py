"""The links' traffic during the run, the part of it that waited, and the emulator's lateness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from continuum.benchmark import link_series
from continuum.report import format as show
from continuum.report.machines_over_time import Place, places_of
from continuum.report.plots import COLOURS, SERIES, plot, shortened
from continuum_runtime.link_series import WINDOW_NS

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_MOST_LINKS = 6
_MOST_POINTS = 400
"""Of one line: windows are put together where there are more."""


@dataclass(frozen=True)
class Row:
    """One link as emulated during the run, as text."""

    name: str
    packets: str
    volume: str
    lost: str
    overflow: str
    late: str
    late_p99: str
    late_max: str
    ok: bool


def rows(series: pa.Table | None) -> list[Row]:
    """One line for each link that had traffic."""
    if series is None or series.num_rows == 0:
        return []
    return [
        Row(
            name=link.name,
            packets=f"{link.packets:,}",
            volume=show.number(link.bytes / 1e6),
            lost=show.share(link.lost, link.packets) if link.lost else "0 %",
            overflow=f"{link.overflow:,}",
            late=show.number(link.late_p50_ms),
            late_p99=show.number(link.late_p99_ms),
            late_max=show.number(link.late_max_ms),
            ok=not link_series.reasons([link]),
        )
        for link in link_series.totals(series)
    ]


def draw(samples: pa.Table, series: pa.Table) -> Markup:
    """Three panels over time, a line for each of the links that carried most."""
    places = places_of(samples)
    carried = sorted(link_series.totals(series), key=lambda link: -link.bytes)[:_MOST_LINKS]
    if not places or not carried:
        return Markup()
    columns = {name: series[name].to_numpy() for name in series.schema.names}
    with plot("links-over-time", height=4.8) as (figure, finish):
        grid = figure.subplots(3, 1, sharex=True)
        for link, colour in zip(carried, SERIES, strict=False):
            here = (columns["source"] == link.source) & (columns["destination"] == link.destination)
            at = columns["start_ns"][here]
            for place in places:
                inside = (at >= place.begins_ns - WINDOW_NS) & (at <= place.ends_ns + WINDOW_NS)
                for axes, name, scale in (
                    (grid[0], "bytes", 8e-6 / (WINDOW_NS / 1e9)),
                    (grid[1], "backlog", 1.0),
                    (grid[2], "late_p99_ms", 1.0),
                ):
                    value = columns[name][here][inside] * scale
                    points = _points(place, at[inside], value, mean=name == "bytes")
                    axes.plot(*points, color=colour, linewidth=1.0)
            grid[0].plot([], [], color=colour, label=shortened(link.name))
        for axes, title in zip(grid, ("Mbit/s", "packets held", "late (p99), ms"), strict=True):
            axes.set_ylabel(title)
            axes.set_ylim(bottom=0)
            for place in places[1:]:
                axes.axvline(place.offset, color=COLOURS["grid"], linewidth=0.8)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        grid[-1].set_xlabel("time since the start, s")
        return finish()


def _points(
    place: Place, at: NDArray[np.int64], value: Floats, *, mean: bool
) -> tuple[Floats, Floats]:
    """Places on the axis, and the mean or the most of the windows that make one point.

    Windows without packets count as 0.
    """
    slots = int((place.ends_ns - place.begins_ns) // WINDOW_NS) + 2
    width = -(-slots // _MOST_POINTS)
    slot = ((at - place.begins_ns) // WINDOW_NS + 1).clip(0, slots - 1)
    windows = np.zeros(-(-slots // width) * width)
    if mean:
        np.add.at(windows, slot, value)
        points = windows.reshape(-1, width).mean(axis=1)
    else:
        np.maximum.at(windows, slot, value)
        points = windows.reshape(-1, width).max(axis=1)
    moments = place.offset + np.arange(points.size) * width * WINDOW_NS / 1e9
    return moments, points
