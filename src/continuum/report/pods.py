"""What a page shows of a run whose samples are pods: their steps over time, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from continuum.benchmark.results import Group, Run
from continuum.report import format as show
from continuum.report import table as tables
from continuum.report.clocks import Clocks
from continuum.report.plots import COLOURS, SERIES, plot, shortened, stack

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

STEPS = (
    ("created", "created_ns", "create_ms", "s6"),
    ("scheduled", "scheduled_ns", "schedule_ms", "s3"),
    ("sandbox", "sandbox_ns", "sandbox_ms", "s4"),
    ("started", "started_ns", "start_ms", "s2"),
    ("ready", "ready_ns", "ready_ms", "s1"),
)
"""Name, column of its time, quantity that ends with it, and colour, in order."""

DRAWINGS = ("pods-over-time", "pods-each", "pods-steps", "resources", "programs")

_MOST_BARS = 12
_MOST_PODS = 250
_MOST_LINES = 5
_WHOLE = "machine"
"""The part that is all of a machine."""
_REST = "all else"
_WINDOW = 3
"""Looks over which processor time is averaged: a program's time is known to 10 ms."""


@dataclass(frozen=True)
class NodeRow:
    """One node in one line; `steps` are the means of all quantities."""

    name: str
    samples: int
    missing: int
    steps: list[tables.Cell]


def are_samples(samples: pa.Table | None) -> bool:
    """Whether samples are pods."""
    return samples is not None and {column for _, column, _, _ in STEPS} <= set(
        samples.schema.names
    )


def node_columns(run: Run) -> list[str]:
    """Labels of the quantities of `node_rows`, with their unit."""
    return [f"{each.label}, {each.unit}" for each in run.all.statistics] if run.all else []


def node_rows(run: Run) -> list[NodeRow]:
    """Every node that carried pods."""
    names = [each.quantity for each in run.all.statistics] if run.all else []
    clocks = Clocks(run)
    return [
        NodeRow(
            name=group.name,
            samples=group.samples,
            missing=group.unanswered,
            steps=[
                tables.mean(group.statistic(name), clocks.error(name, "worker", group.name))
                for name in names
            ],
        )
        for group in run.groups("worker")
    ]


def cards(run: Run, samples: pa.Table | None) -> list[tuple[str, str, str, str, str]]:
    """Name, value, unit, detail and tone of the figures that a person looks for first."""
    group = run.all
    if group is None or samples is None:
        return []
    found = []
    whole = [span for span in _all_ready(samples) if span is not None]
    if whole and not group.unanswered:
        several = f"mean of {len(whole)} repetitions" if len(whole) > 1 else "after the first call"
        text = show.number(float(np.mean(whole)))
        found.append((f"All {run.noun}s ready", text, "s", several, ""))
    latency = group.statistic("latency_ms")
    if latency is not None:
        for name, title in (("p50", "median"), ("p99", "p99")):
            figure = tables.percentile_cell(latency, name, 1000)
            words = "longest" if figure.maximum else title
            value = figure.maximum or figure.value
            found.append(
                (f"Asked to ready, {words}", value, "s", tables.interval_in_words(figure), "")
            )
    rate = [span and group.ok / len(whole) / span for span in whole]
    if rate and len(whole) == len(_all_ready(samples)):
        value = show.number(float(np.mean(rate)))
        found.append((f"{run.noun.capitalize()}s a second", value, "", "from first call on", ""))
    found.append(
        (
            f"{run.noun.capitalize()}s ready",
            show.share(group.ok, group.samples).removesuffix(" %"),
            "%" if group.samples else "",
            f"{group.ok:,} of {group.samples:,}",
            "good" if group.samples and group.ok == group.samples else "bad",
        )
    )
    return found


def _all_ready(samples: pa.Table) -> list[float | None]:
    """Seconds from the first call to the last ready pod of each repetition; None without any."""
    spans = []
    for _, rows in _repetitions(samples):
        begun, ready = _seconds(rows, "intended_ns"), _seconds(rows, "ready_ns")
        spans.append(None if np.isnan(ready).all() else float(np.nanmax(ready) - np.nanmin(begun)))
    return spans


def _repetitions(samples: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    numbers = samples["repetition"].to_numpy()
    for number in np.unique(numbers):
        yield int(number), samples.filter(numbers == number)


def _begun(rows: pa.Table) -> int | None:
    """When a repetition's first pod was asked for, Unix time in ns."""
    known = rows["intended_ns"].drop_null().to_numpy()
    return int(known.min()) if known.size else None


def _seconds(rows: pa.Table, column: str) -> Floats:
    """A time in s since the repetition's first call; not-a-number where it is null."""
    begun = _begun(rows) or 0
    values = rows[column].fill_null(begun).to_numpy()
    # Subtracted as integers: a double holds Unix time in ns only to about 200 ns.
    return np.where(rows[column].is_null().to_numpy(), np.nan, (values - begun) / 1e9)


def draw(run: Run, samples: pa.Table, resources: pa.Table | None) -> dict[str, Markup]:
    """Every drawing by its name; empty where there is nothing to draw."""
    found = dict.fromkeys(DRAWINGS, Markup())
    if samples.num_rows:
        found["pods-over-time"] = over_time(samples, run.noun)
        found["pods-each"] = each_pod(samples, run.noun)
        found["pods-steps"] = steps(run)
    if resources is not None and resources.num_rows:
        found["resources"] = over_machines(samples, resources)
        found["programs"] = over_programs(samples, resources)
    return found


def over_time(samples: pa.Table, noun: str) -> Markup:
    """How many pods were created, scheduled, … over the time since the first call."""
    with plot("pods-over-time") as (figure, finish):
        axes = figure.add_subplot()
        most = 0
        repetitions = list(_repetitions(samples))
        alpha = 1.0 if len(repetitions) == 1 else max(0.25, 1 / len(repetitions))
        for number, rows in repetitions:
            most = max(most, rows.num_rows)
            for name, column, _, colour in STEPS:
                at = np.sort(_seconds(rows, column))
                at = at[~np.isnan(at)]
                if not at.size:
                    continue
                axes.step(
                    np.concatenate([[0.0], at]),
                    np.arange(at.size + 1),
                    where="post",
                    color=COLOURS[colour],
                    linewidth=1.5,
                    alpha=alpha,
                    label=name if number == repetitions[0][0] else None,
                )
        axes.axhline(most, color=COLOURS["muted"], linewidth=0.7, linestyle=(0, (3, 3)))
        axes.set_ylim(0, most * 1.06)
        axes.set_xlim(left=0)
        axes.set_xlabel("time since the first call, s")
        axes.set_ylabel(f"{noun}s")
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside upper center", ncols=5)
        return finish()


def each_pod(samples: pa.Table, noun: str) -> Markup:
    """Each pod as a line from asked to ready, in the colours of its steps; first repetition."""
    _, rows = next(_repetitions(samples))
    times = np.stack([_seconds(rows, "intended_ns")] + [_seconds(rows, c) for _, c, _, _ in STEPS])
    # A step whose time is not known belongs to the one after it.
    order = np.lexsort((times[1], np.where(np.isnan(times[-1]), np.inf, times[-1])))
    times = times[:, order]
    shown = np.unique(np.linspace(0, times.shape[1] - 1, min(times.shape[1], _MOST_PODS)).round())
    with plot("pods-each", height=4.2) as (figure, finish):
        axes = figure.add_subplot()
        for index, (name, _, _, colour) in enumerate(STEPS, start=1):
            starts, ends, places = [], [], []
            for place in shown.astype(int):
                before = times[:index, place]
                before = before[~np.isnan(before)]
                if before.size and not np.isnan(times[index, place]):
                    starts.append(before[-1])
                    ends.append(times[index, place])
                    places.append(place + 1)
            width = max(0.6, min(6.0, 200 / shown.size))
            axes.hlines(places, starts, ends, color=COLOURS[colour], linewidth=width, label=name)
        axes.set_ylim(times.shape[1] + 0.8, 0.2)
        axes.set_xlim(left=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("time since the first call, s")
        axes.set_ylabel(f"{noun}s, the first ready at the top")
        figure.legend(loc="outside upper center", ncols=5)
        return finish()


def steps(run: Run) -> Markup:
    """The mean of each step, stacked: of all pods, and of each node's."""
    groups = [group for group in (run.all, *run.groups("worker")) if group is not None]
    bars = [group for group in groups if group.statistic("latency_ms") is not None]
    bars = bars[: 1 + _MOST_BARS] if len(bars) > 2 else bars[:1]
    if not bars:
        return Markup()
    with plot("pods-steps", height=1.25 + 0.34 * len(bars)) as (figure, finish):
        axes = figure.add_subplot()
        parts = [
            (name, colour, [_value(group, quantity) for group in bars])
            for name, _, quantity, colour in STEPS
        ]
        names = ["all" if group.kind == "all" else shortened(group.name) for group in bars]
        wholes = [each for group in bars if (each := group.statistic("latency_ms"))]
        stack(axes, names, parts, wholes, room=1.12)
        axes.set_xlabel("until …, mean, ms")
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper center", ncols=5)
        return finish()


def _value(group: Group, quantity: str) -> float:
    found = group.statistic(quantity)
    return max(0.0, found.mean.value) if found else 0.0


@dataclass(frozen=True)
class _Use:
    """What one part of one machine took in one repetition: seconds, cores, MiB."""

    at: Floats
    cores: Floats
    memory: Floats


def over_machines(samples: pa.Table, resources: pa.Table) -> Markup:
    """Processor and memory of the control plane's machine and of the nodes, over time."""
    control, nodes = _machines(samples, resources)
    with plot("resources", height=4.6) as (figure, finish):
        above, below = figure.subplots(2, 1, sharex=True)
        for machine, colour, label in _lines(control, nodes):
            for number, (repetition, rows) in enumerate(_repetitions(samples)):
                use = _use(resources, repetition, machine, _WHOLE, _begun(rows))
                if use is None:
                    continue
                thin = 1.4 if number == 0 else 0.7
                said = label if number == 0 else None
                above.plot(use.at, use.cores, color=colour, linewidth=thin, label=said)
                below.plot(use.at, use.memory, color=colour, linewidth=thin)
        for axes, name in ((above, "processor, cores"), (below, "memory, MiB")):
            _mark_ready(axes, samples)
            axes.set_ylabel(name)
            axes.set_ylim(bottom=0)
        below.set_xlabel("time since the first call, s")
        if above.get_legend_handles_labels()[0]:
            figure.legend(loc="outside upper center", ncols=3)
        return finish()


def _mark_ready(axes: Axes, samples: pa.Table) -> None:
    """When the first call was made, and when the last pod of the first repetition was ready."""
    last = _all_ready(samples)[0] if samples.num_rows else None
    for at in (0.0, last):
        if at is not None:
            axes.axvline(at, color=COLOURS["muted"], linewidth=0.7, linestyle=(0, (3, 3)))


def _machines(samples: pa.Table, resources: pa.Table) -> tuple[list[str], list[str]]:
    """The control plane's machine, and the others, in order."""
    asked = set(samples["endpoint"].to_pylist())
    names = sorted(set(resources["machine"].to_pylist()), key=lambda name: (len(name), name))
    return [name for name in names if name in asked], [name for name in names if name not in asked]


def _lines(control: list[str], nodes: list[str]) -> Iterator[tuple[str, str, str]]:
    """Machine, colour and label: few nodes each in a colour of its own, many in one."""
    for machine in control:
        yield machine, SERIES[0], f"{shortened(machine)} (control plane)"
    few = len(nodes) <= _MOST_LINES
    for index, machine in enumerate(nodes):
        if few:
            yield machine, SERIES[1 + index], shortened(machine)
        else:
            yield machine, SERIES[4], f"{len(nodes)} nodes" if index == 0 else ""


def _use(
    resources: pa.Table, repetition: int, machine: str, part: str, begun: int | None
) -> _Use | None:
    """One part's use in one repetition; None when it was looked at less than twice."""
    chosen = (
        (resources["repetition"].to_numpy() == repetition)
        & (resources["machine"].to_numpy(zero_copy_only=False) == machine)
        & (resources["part"].to_numpy(zero_copy_only=False) == part)
    )
    rows = resources.filter(chosen).sort_by("time_ns")
    if rows.num_rows < 2 or begun is None:
        return None
    at = rows["time_ns"].to_numpy()
    cpu = rows["cpu_ns"].to_numpy()
    step = min(_WINDOW, rows.num_rows - 1)
    # A clock that is set back would make the past longer than nothing.
    passed = np.maximum(1, at[step:] - at[:-step])
    return _Use(
        at=(at[step:] - begun) / 1e9,
        cores=(cpu[step:] - cpu[:-step]) / passed,
        memory=rows["memory_bytes"].to_numpy()[step:] / 2**20,
    )


def over_programs(samples: pa.Table, resources: pa.Table) -> Markup:
    """Processor time of each program: on the control plane's machine, and on a node on average."""
    control, nodes = _machines(samples, resources)
    repetitions = max(1, len(list(_repetitions(samples))))
    spent = _spent(resources)
    parts = list(dict.fromkeys(part for _, part in spent if part != _WHOLE))
    for machine in (*control, *nodes):
        rest = sum(spent.get((machine, part), 0.0) for part in parts)
        spent[machine, _REST] = max(0.0, spent.get((machine, _WHOLE), 0.0) - rest)
    each = repetitions * max(1, len(nodes))
    bars = [
        (
            part,
            sum(spent.get((machine, part), 0.0) for machine in control) / repetitions,
            sum(spent.get((machine, part), 0.0) for machine in nodes) / each,
        )
        for part in (*parts, _REST)
    ]
    bars.sort(key=lambda bar: -(bar[1] + bar[2]))
    with plot("programs", height=1.2 + 0.36 * len(bars)) as (figure, finish):
        axes = figure.add_subplot()
        places = np.arange(len(bars))
        for shift, index, colour, label in (
            (-0.19, 1, SERIES[0], "control plane"),
            (0.19, 2, SERIES[1], "a node, on average"),
        ):
            values = [bar[index] for bar in bars]
            axes.barh(places + shift, values, height=0.36, color=colour, label=label)
        axes.set_yticks(places, [shortened(bar[0]) for bar in bars])
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.set_xlabel("processor time of a repetition, s")
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper center", ncols=2)
        return finish()


def _spent(resources: pa.Table) -> dict[tuple[str, str], float]:
    """Seconds of processor by machine and part, over all repetitions."""
    ends: dict[tuple[int, str, str], tuple[int, int]] = {}
    rows: list[dict[str, Any]] = resources.to_pylist()
    for row in rows:
        key = (row["repetition"], row["machine"], row["part"])
        low, high = ends.get(key, (row["cpu_ns"], row["cpu_ns"]))
        ends[key] = (min(low, row["cpu_ns"]), max(high, row["cpu_ns"]))
    total: dict[tuple[str, str], float] = {}
    for (_, machine, part), (low, high) in ends.items():
        total[machine, part] = total.get((machine, part), 0.0) + (high - low) / 1e9
    return total
