"""Plots as SVG, to be put into the page: no file, no network, text as text.

matplotlib draws in stand-in colours, which become the page's own variables, so that every plot
follows the page's light and dark theme.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from markupsafe import Markup

from continuum import folders
from continuum.benchmark.results import LABELS, Figure, Group, Percentile, Run, Statistic
from continuum.benchmark.samples import deciding_links
from continuum.benchmark.statistics import values
from continuum.report import format as show

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawn
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_SIZE = (5.2, 3.2)
"""Inches, of 72 points; small, so that text stays readable on a narrow screen."""

COLOURS = {
    "text": "#010101",
    "muted": "#020202",
    "grid": "#030303",
    "surface": "#040404",
    "good": "#050505",
    "bad": "#060606",
    "warn": "#070707",
    "s1": "#080808",
    "s2": "#090909",
    "s3": "#0a0a0a",
    "s4": "#0b0b0b",
    "s5": "#0c0c0c",
    "s6": "#0d0d0d",
}
"""Stand-ins for variables of the page's style sheet."""

SERIES = tuple(COLOURS[f"s{number}"] for number in range(1, 7))
_STAGES = (
    ("late_ms", "s6"),
    ("preparation_ms", "s3"),
    ("forward_ms", "s1"),
    ("queue_ms", "s4"),
    ("processing_ms", "s2"),
    ("return_ms", "s5"),
)
_MOST_SERIES = 6
_MOST_BARS = 8
_MOST_POINTS = 2500
_MOST_DOTS = 60
_MOST_STALLS = 300
_LONG_STALL = 0.02
"""Seconds from which on a stall is shaded."""
_MOST_WAYS = 24
_MOST_REPETITIONS = 12
_MOST_OF_WHISKER = 1.4
"""The limit up to which an interval is drawn, in the longest bar's length."""


def distribution(run: Run, samples: pa.Table) -> Markup:
    """The cumulative distribution of the end-to-end latency: of all, or of each of a few endpoints.

    Requests without an answer count among all of which a share is drawn.
    """
    latency, endpoint = _counted(samples)
    answered = latency[np.isfinite(latency)]
    if answered.size == 0:
        return Markup()
    names = sorted(set(endpoint.tolist()))
    with plot("distribution") as (figure, finish):
        axes = figure.add_subplot()
        if 1 < len(names) <= _MOST_SERIES:
            for name, colour in zip(names, SERIES, strict=False):
                _cumulative(axes, latency[endpoint == name], colour, shortened(name))
        else:
            _cumulative(axes, latency, SERIES[0], "all")
        statistic = run.all.statistic("latency_ms") if run.all else None
        if statistic is not None:
            _percentiles(axes, statistic, float(answered.max()))
        if len(names) > 1 or axes.get_legend_handles_labels()[1] != ["all"]:
            axes.legend(loc="lower right")
        _perhaps_logarithmic(axes, "x", answered)
        axes.set_ylim(0, 1.02)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25", "50", "75", "100 %"])
        axes.set_xlabel("end-to-end latency, ms")
        axes.set_ylabel("share of requests at or below")
        return finish()


def _percentiles(axes: Axes, statistic: Statistic, largest: float) -> None:
    """A line for each percentile, and across the curve its interval."""
    for name, share, side in (
        ("p50", 0.5, "center"),
        ("p95", 0.95, "right"),
        ("p99", 0.99, "left"),
    ):
        found: Percentile = getattr(statistic, name)
        if found.value is None:
            continue
        axes.axvline(found.value, color=COLOURS["muted"], linewidth=0.7, linestyle=(0, (3, 3)))
        axes.annotate(
            name,
            (found.value, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha=side,
            fontsize=8,
            color=COLOURS["muted"],
        )
        if found.low is not None or found.high is not None:
            _whisker(axes, share, found, statistic, largest)


def _whisker(
    axes: Axes, place: float, figure: Figure | Percentile, statistic: Statistic, most: float
) -> None:
    """An interval as a line with caps: whole over repetitions, dashed and pale within one run.

    An end that cannot be said, or lies beyond `most`, has no cap.
    """
    within = statistic.level == "run"
    words = "95 %, this run" if within else f"95 %, {statistic.repetitions} repetitions"
    said = words in axes.get_legend_handles_labels()[1]
    alpha = 0.55 if within else 1.0
    low, high = figure.low, figure.high
    axes.plot(
        [0.0 if low is None else low, most if high is None else min(high, most)],
        [place, place],
        color=COLOURS["text"],
        alpha=alpha,
        linewidth=1.3,
        linestyle=(0, (2, 1.5)) if within else "solid",
        solid_capstyle="butt",
        dash_capstyle="butt",
        zorder=5,
        label=words if statistic.level and not said else None,
    )
    caps = [end for end in (low, high) if end is not None and end <= most]
    axes.plot(
        caps,
        [place] * len(caps),
        linestyle="none",
        marker="|",
        markersize=7,
        markeredgewidth=1.3,
        color=COLOURS["text"],
        alpha=alpha,
        zorder=5,
    )


def timeline(samples: pa.Table, stalls: pa.Table | None = None) -> Markup:
    """Latency over the time at which each request was due; repetitions one after the other.

    `stalls`, as `stalls.parquet` holds them, are marked at the top, and shaded where they are long.
    """
    if samples.num_rows == 0:
        return Markup()
    latency = values(samples, "latency_ms")
    status = samples["status"].to_numpy()
    at, edges = _places(samples)
    warm = samples["warmup"].to_numpy()
    shown = (status == "ok") & ~np.isnan(latency) & ~np.isnan(at)
    with plot("timeline") as (figure, finish):
        axes = figure.add_subplot()
        _repetitions(axes, edges, at, warm)
        if stalls is not None:
            _stalls(axes, samples, edges, stalls)
        endpoint = samples["endpoint"].to_numpy()
        names = sorted(set(endpoint.tolist()))
        if np.count_nonzero(shown) > _MOST_POINTS:
            _bands(axes, at[shown], latency[shown])
        else:
            few = 1 < len(names) <= _MOST_SERIES
            for index, name in enumerate(names if few else [None]):
                mask = shown & (endpoint == name) if few else shown
                for phase, alpha in ((~warm, 0.85), (warm, 0.3)):
                    axes.plot(
                        at[mask & phase],
                        latency[mask & phase],
                        linestyle="none",
                        marker="o",
                        markersize=2.6,
                        markeredgewidth=0,
                        color=SERIES[index],
                        alpha=alpha,
                        label=shortened(name) if few and alpha > 0.5 and shown.any() else None,
                    )
        if shown.any():
            _perhaps_logarithmic(axes, "y", latency[shown])
        else:
            axes.set_yticks([])
        if axes.get_yscale() == "linear":
            axes.set_ylim(bottom=0)
        _unanswered(axes, at, status, warm)
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside upper center", ncols=3, markerscale=1.4)
        axes.set_xlabel("time since the start, s")
        axes.set_ylabel("end-to-end latency, ms")
        return finish()


def breakdown(run: Run) -> Markup:
    """Where the time goes: the mean of each stage, stacked; measured, expected, and by endpoint."""
    everything = run.all
    if everything is None or everything.statistic("latency_ms") is None:
        return Markup()
    bars = [
        _Bar(
            "measured" if group.kind == "all" else shortened(group.name),
            stages,
            latency,
        )
        for group in (everything, *run.groups("endpoint"))
        if (stages := _stages(group)) and (latency := group.statistic("latency_ms")) is not None
    ]
    if not bars:
        return Markup()
    expected = {
        each.quantity: each.expected_mean
        for each in run.expectation
        if each.kind == "all" and each.expected_mean is not None
    }
    if {"forward_ms", "return_ms", "latency_ms"} <= expected.keys():
        modelled = {name: value for name, value in expected.items() if name in bars[0].stages}
        bars.insert(1, _Bar("expected", bars[0].stages | modelled, expected["latency_ms"]))
    endpoints = len(run.groups("endpoint"))
    most = len(bars) - endpoints + (endpoints if 1 < endpoints <= _MOST_BARS else 0)
    return _stacked(bars[:most])


@dataclass(frozen=True)
class _Bar:
    """The mean of each stage, in ms, and of the whole, which may be a little more.

    The whole is a number where it is what was expected.
    """

    label: str
    stages: dict[str, float]
    whole: Statistic | float


def _stages(group: Group) -> dict[str, float]:
    return {
        name: statistic.mean.value
        for name, _ in _STAGES
        if (statistic := group.statistic(name)) is not None
    }


def links(table: pa.Table | None) -> Markup:
    """Asked and measured delay and rate of each directed class, with the tolerance."""
    rows = deciding_links(table)
    quantities = [
        (name, title)
        for name, title in (("delay_ms", "delay, ms"), ("rate_mbit", "rate, Mbit/s"))
        if any(row["quantity"] == name for row in rows)
    ]
    if not quantities:
        return Markup()
    ways = list(dict.fromkeys((row["from_tier"], row["to_tier"]) for row in rows))[:_MOST_WAYS]
    height = max(1.5, 0.8 + 0.27 * len(ways))
    with plot("links", height=height) as (figure, finish):
        grid = figure.subplots(1, len(quantities), sharey=True, squeeze=False)[0]
        for axes, (name, title) in zip(grid, quantities, strict=True):
            for place, way in enumerate(ways):
                here = [
                    row
                    for row in rows
                    if row["quantity"] == name and (row["from_tier"], row["to_tier"]) == way
                ]
                _asked_and_measured(axes, place, here)
            axes.set_xlabel(title)
            axes.locator_params(axis="x", nbins=4)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.margins(x=0.12)
            axes.autoscale(enable=True, axis="x")
            axes.set_xlim(left=0)
            axes.grid(visible=False, axis="y")
        grid[0].set_yticks(range(len(ways)), [shortened(f"{a} → {b}") for a, b in ways])
        grid[0].set_ylim(len(ways) - 0.4, -0.6)
        return finish()


def _counted(samples: pa.Table) -> tuple[Floats, NDArray[Any]]:
    """Latency and endpoint of the samples after the warm-up; infinite without an answer."""
    ok = samples["status"].to_numpy() == "ok"
    latency = np.where(ok, values(samples, "latency_ms"), np.inf)
    kept = ~samples["warmup"].to_numpy().astype(bool) & ~np.isnan(latency)
    return latency[kept], samples["endpoint"].to_numpy()[kept]


def _cumulative(axes: Axes, taken: Floats, colour: str, label: str) -> None:
    ordered = np.sort(taken[np.isfinite(taken)])
    if ordered.size == 0:
        return
    share = np.arange(1, ordered.size + 1) / taken.size
    if ordered.size > 400:
        kept = np.unique(np.linspace(0, ordered.size - 1, 400).round().astype(int))
        ordered, share = ordered[kept], share[kept]
    axes.step(
        np.concatenate([ordered[:1], ordered]),
        np.concatenate([[0.0], share]),
        where="post",
        color=colour,
        linewidth=1.6,
        label=label,
    )


def _perhaps_logarithmic(axes: Axes, way: Literal["x", "y"], taken: Floats) -> None:
    """Where the largest is far from the median a linear axis would show one corner only."""
    if taken.min() <= 0 or taken.max() <= 20 * np.median(taken):
        return
    axes.set(**{f"{way}scale": "log"})
    axis = axes.xaxis if way == "x" else axes.yaxis
    axis.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.set_minor_formatter(lambda *_: "")


def _places(samples: pa.Table) -> tuple[Floats, list[tuple[int, float, float]]]:
    """Each sample's place on the axis in s, and (repetition, first, last) of each repetition."""
    column = samples["intended_ns"]
    due = column.fill_null(0).to_numpy()
    at: Floats = np.where(column.is_null().to_numpy(), np.nan, 0.0)
    repetition = samples["repetition"].to_numpy()
    edges = []
    offset = 0.0
    for each in np.unique(repetition):
        here = (repetition == each) & ~np.isnan(at)
        if not here.any():
            continue
        into = (due[here] - due[here].min()) / 1e9
        at[here] = offset + into
        edges.append((int(each), offset, offset + float(into.max())))
        offset = edges[-1][2] + max(0.5, 0.03 * float(into.max()))
    return at, edges


def _repetitions(
    axes: Axes, edges: list[tuple[int, float, float]], at: Floats, warm: NDArray[np.bool_]
) -> None:
    """Shade each warm-up, and tell repetitions apart."""
    for number, first, last in edges:
        inside = warm & (at >= first) & (at <= last)
        if inside.any():
            axes.axvspan(
                first, float(at[inside].max()), color=COLOURS["grid"], alpha=0.55, linewidth=0
            )
        if len(edges) > 1:
            axes.axvline(first, color=COLOURS["grid"], linewidth=0.8)
            if len(edges) <= _MOST_REPETITIONS:
                axes.annotate(
                    f"{number}",
                    (first, 1.0),
                    xycoords=("data", "axes fraction"),
                    xytext=(3, -9),
                    textcoords="offset points",
                    fontsize=8,
                    color=COLOURS["muted"],
                )


def _stalls(
    axes: Axes, samples: pa.Table, edges: list[tuple[int, float, float]], stalls: pa.Table
) -> None:
    """Mark when a core of a host did not run."""
    due, repetition = samples["intended_ns"], samples["repetition"].to_numpy()
    known = ~due.is_null().to_numpy()
    due = due.fill_null(0).to_numpy()
    begin, end, when = (stalls[name].to_numpy() for name in ("begin_ns", "end_ns", "repetition"))
    label = "the host stood still"
    for number, first, last in edges:
        here = when == number
        origin = due[(repetition == number) & known].min()
        spans = np.stack([begin[here] - origin, end[here] - origin]) / 1e9 + first
        spans = spans[:, (spans[1] >= first) & (spans[0] <= last)]
        # Those that lasted longest, where they are too many to be told apart.
        spans = spans[:, np.argsort(spans[0] - spans[1])[: -(-_MOST_STALLS // len(edges))]]
        for left, right in spans.T[spans[1] - spans[0] > _LONG_STALL]:
            axes.axvspan(left, right, color=COLOURS["warn"], alpha=0.18, linewidth=0)
        if spans.size:
            axes.vlines(
                spans[0],
                0.965,
                1.0,
                transform=axes.get_xaxis_transform(),
                color=COLOURS["warn"],
                alpha=0.5,
                linewidth=0.8,
                label=label,
            )
            label = "_"  # Once is enough for the legend.


def _bands(axes: Axes, at: Floats, latency: Floats) -> None:
    """Median, and the band from the 5th to the 95th percentile, over slices of time."""
    bins = np.linspace(at.min(), np.nextafter(at.max(), np.inf), 161)
    which = np.digitize(at, bins)
    middles, low, mid, high = [], [], [], []
    for index in range(1, len(bins)):
        inside = latency[which == index]
        nothing = inside.size == 0
        middles.append((bins[index - 1] + bins[index]) / 2)
        five, fifty, rest = (np.nan,) * 3 if nothing else tuple(np.percentile(inside, (5, 50, 95)))
        low.append(five)
        mid.append(fifty)
        high.append(rest)
    colour = SERIES[0]
    axes.fill_between(middles, low, high, color=colour, alpha=0.25, linewidth=0, label="5 … 95 %")
    axes.plot(middles, mid, color=colour, linewidth=1.3, label="median")


def _unanswered(axes: Axes, at: Floats, status: NDArray[Any], warm: NDArray[np.bool_]) -> None:
    """A mark at the foot of the plot for every request that was not answered as it should be.

    The legend counts as the report's table does: without the warm-up, whose marks are faint, and
    with those whose time is not known, which have no mark.
    """
    for name, word, marker, colour in (
        ("lost", "lost", "x", "bad"),
        ("timeout", "too late", "^", "warn"),
        ("error", "error", "D", "bad"),
    ):
        count = int(np.count_nonzero((status == name) & ~warm))
        for phase, alpha in ((~warm, 1.0), (warm, 0.3)):
            places = _thinned(at[(status == name) & phase & ~np.isnan(at)])
            label = f"{word} ({count})" if count and phase is not warm else None
            if places.size or label:
                axes.plot(
                    places,
                    np.full(places.size, 0.03),
                    transform=axes.get_xaxis_transform(),
                    linestyle="none",
                    marker=marker,
                    markersize=4.5,
                    markeredgewidth=1.2,
                    color=COLOURS[colour],
                    alpha=alpha,
                    label=label,
                )


def _thinned(at: Floats) -> Floats:
    """Places of marks: one where several would lie on each other, and not too many."""
    places: Floats = np.unique(np.round(at, 2))
    return places[:: places.size // _MOST_POINTS + 1] if places.size > _MOST_POINTS else places


def stack(
    axes: Axes,
    names: Sequence[str],
    parts: Sequence[tuple[str, str, Sequence[float]]],
    wholes: Sequence[Statistic | float],
    *,
    room: float,
) -> None:
    """Horizontal bars, one for each name, the first at the top; intervals of means across their ends.

    Args:
        axes: to draw on.
        names: of the bars.
        parts: label, colour and a width for each bar, from left to right.
        wholes: what is written at the end of each bar: a mean, or a number without an interval.
        room: width of the plot, as a multiple of the longest bar.
    """
    places = np.arange(len(names))
    left = np.zeros(len(names))
    for label, colour, widths in parts:
        axes.barh(
            places,
            widths,
            left=left,
            height=0.62,
            color=COLOURS[colour],
            edgecolor=COLOURS["surface"],
            linewidth=0.8,
            label=label,
        )
        left += np.asarray(widths)
    longest = max(1e-6, float(left.max()))
    furthest = longest
    for place, end, whole in zip(places, left, wholes, strict=True):
        mean = Figure(value=whole) if isinstance(whole, float) else whole.mean
        right = float(end)
        if not isinstance(whole, float) and mean.low is not None and mean.high is not None:
            most = _MOST_OF_WHISKER * longest
            _whisker(axes, float(place), mean, whole, most)
            right = max(right, min(mean.high, most))
        furthest = max(furthest, right)
        half = show.half_width(mean.value, mean.low, mean.high)
        axes.annotate(
            show.supported(mean.value, half),
            (right, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=COLOURS["text"],
        )
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, furthest * room)


def _stacked(bars: list[_Bar]) -> Markup:
    height = 1.25 + 0.34 * len(bars)
    with plot("breakdown", height=height) as (figure, finish):
        axes = figure.add_subplot()
        parts = [
            (LABELS[name], colour, widths)
            for name, colour in _STAGES
            if any(widths := [max(0.0, bar.stages.get(name, 0.0)) for bar in bars])
        ]
        wholes = [bar.whole for bar in bars]
        stack(axes, [bar.label for bar in bars], parts, wholes, room=1.1)
        axes.set_xlabel("mean, ms")
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper center", ncols=3)
        return finish()


def _asked_and_measured(axes: Axes, place: int, rows: list[dict[str, Any]]) -> None:
    for asked, tolerance in sorted({(row["asked"], row["tolerance"]) for row in rows})[:_MOST_BARS]:
        axes.barh(
            place,
            2 * tolerance,
            left=asked - tolerance,
            height=0.56,
            color=COLOURS["grid"],
            linewidth=0,
            zorder=1,
        )
        axes.vlines(
            asked, place - 0.28, place + 0.28, color=COLOURS["muted"], linewidth=1.4, zorder=2
        )
    for ok, colour in ((True, "good"), (False, "bad")):
        found = [row["measured"] for row in rows if row["ok"] is ok and row["measured"] is not None]
        found = sorted(found)[:: len(found) // _MOST_DOTS + 1]
        axes.plot(
            found,
            [place] * len(found),
            linestyle="none",
            marker="o",
            markersize=5,
            markeredgewidth=0.8,
            markeredgecolor=COLOURS["surface"],
            color=COLOURS[colour],
            zorder=3,
        )


def shortened(name: object) -> str:
    """A name that the font can draw, and no longer than an axis has room for."""
    text = "".join(each if each.isprintable() and ord(each) < 0x2200 else "?" for each in str(name))
    return text if len(text) <= 24 else f"{text[:23]}…"


def load() -> None:
    """Import all that drawing takes."""
    # Fonts are looked up once for all and kept with our own cache, not in another folder of HOME.
    if "MPLCONFIGDIR" not in os.environ:
        with suppress(OSError):
            cache = folders.make_folder(folders.cache_folder() / "matplotlib")
            os.environ["MPLCONFIGDIR"] = str(cache)
    import matplotlib.backends.backend_svg  # noqa: PLC0415  slow to import
    import matplotlib.figure  # noqa: F401, PLC0415


@contextmanager
def plot(name: str, *, height: float = _SIZE[1]) -> Iterator[tuple[Drawn, Callable[[], Markup]]]:
    """An empty figure in the page's style, and the function that makes SVG of it."""
    load()
    import matplotlib as mpl  # noqa: PLC0415  slow to import
    from matplotlib.figure import Figure as NewFigure  # noqa: PLC0415

    with mpl.rc_context(_style(name)):
        figure = NewFigure(figsize=(_SIZE[0], height), layout="constrained")

        def finish() -> Markup:
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
            return _for_the_page(buffer.getvalue(), name)

        yield figure, finish


def _style(name: str) -> dict[Any, Any]:
    text, muted, grid = (COLOURS[key] for key in ("text", "muted", "grid"))
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,
        "axes.unicode_minus": True,
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.labelsize": 10,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "legend.handlelength": 1.2,
        "legend.columnspacing": 1.2,
        "legend.labelcolor": text,
        "text.color": text,
        "axes.labelcolor": muted,
        "axes.edgecolor": grid,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": grid,
        "grid.linewidth": 0.6,
        "xtick.color": grid,
        "ytick.color": grid,
        "xtick.labelcolor": muted,
        "ytick.labelcolor": muted,
    }


def _for_the_page(svg: str, name: str) -> Markup:
    """The `<svg>` element alone, in the page's colours and font, with ids of its own."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    for variable, stand_in in COLOURS.items():
        body = body.replace(stand_in, f"var(--{variable})")
    body = re.sub(r"font: (?:\d+ )?([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    body = re.sub(r'<svg (.*?)width="[^"]*pt" height="[^"]*pt"', r"<svg \1", body, count=1)
    body = re.sub(r'<svg (.*?)height="[^"]*pt"(.*?) width="[^"]*pt"', r"<svg \1\2", body, count=1)
    body = body.replace("<svg ", '<svg class="plot" ', 1)
    return Markup(body)  # noqa: S704  matplotlib escapes every text that it writes
