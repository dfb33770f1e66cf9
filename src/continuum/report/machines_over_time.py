"""What every machine took while requests were made, under the latency: why that rose."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from continuum.benchmark.results import Run
from continuum.benchmark.statistics import values
from continuum.report.plots import COLOURS, SERIES, plot, shortened

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_CPU = "continuum_machine_cpu_seconds_total"
_MEMORY = "continuum_machine_memory_bytes"
_NETWORK = ("node_network_receive_bytes_total", "node_network_transmit_bytes_total")
_WAITING = ("continuum_queue_requests", "continuum_requests_waiting")
_NOT_OUTSIDE = ("lo", "cni", "docker")
_MOST_LABELS = 6


@dataclass(frozen=True)
class Place:
    """A repetition on the axis: Unix times of its first and last request, and where it begins."""

    begins_ns: int
    ends_ns: int
    offset: float


def draw(run: Run, samples: pa.Table, series: pa.Table) -> Markup:
    """Latency, processor, memory, network and queue over time, one line for each machine."""
    places = places_of(samples)
    seen = lines(series)
    names = [machine.name for machine in run.machines]
    if not places or not any((_CPU, name) in seen for name in names):
        return Markup()
    sizes = {machine.name: machine.cores * machine.quota for machine in run.machines}
    colours = _colours(run)
    panels: tuple[tuple[str, Callable[[str], tuple[Floats, Floats]]], ...] = (
        ("CPU, %", lambda name: _rate(seen, (_CPU,), name, 100 / sizes[name])),
        ("memory, MiB", lambda name: _level(seen, (_MEMORY,), name, 2**-20)),
        ("Mbit/s", lambda name: _rate(seen, _NETWORK, name, 8e-6)),
        ("waiting", lambda name: _level(seen, _WAITING, name, 1)),
    )
    with plot("machines-over-time", height=7.0) as (figure, finish):
        grid = figure.subplots(len(panels) + 1, 1, sharex=True)
        _latency(grid[0], samples, places)
        for axes, (title, read) in zip(grid[1:], panels, strict=True):
            for name in names:
                at, value = read(name)
                _line(axes, at, value, places, colours[name])
            axes.set_ylabel(title)
            axes.set_ylim(bottom=0)
        for axes in grid:
            for place in places[1:]:
                axes.axvline(place.offset, color=COLOURS["grid"], linewidth=0.8)
        shown = dict.fromkeys(colours.values())
        for colour in shown:
            label = ", ".join(name for name in names if colours[name] == colour)
            grid[1].plot([], [], color=colour, label=shortened(label))
        figure.legend(*grid[1].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        grid[-1].set_xlabel("time since the start, s")
        return finish()


def places_of(samples: pa.Table) -> list[Place]:
    """Where each repetition lies on an axis that leaves out what is between them, in s."""
    due = samples["intended_ns"]
    known = ~due.is_null().to_numpy()
    times, repetition = due.fill_null(0).to_numpy(), samples["repetition"].to_numpy()
    found = []
    offset = 0.0
    for each in np.unique(repetition[known]):
        here = times[known & (repetition == each)]
        place = Place(int(here.min()), int(here.max()), offset)
        found.append(place)
        length = (place.ends_ns - place.begins_ns) / 1e9
        offset += length + max(0.5, 0.03 * length)
    return found


def lines(series: pa.Table) -> dict[tuple[str, str], dict[str, tuple[Floats, Floats]]]:
    """Unix times in ns, and values, by name of the series and machine, then by its labels.

    Interfaces that no other machine is behind are left out.
    """
    found: dict[tuple[str, str], dict[str, list[tuple[int, float]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    wanted = {_CPU, _MEMORY, *_NETWORK, *_WAITING}
    for row in series.to_pylist():
        if row["series"] not in wanted:
            continue
        device = json.loads(row["labels"]).get("device", "")
        if not device.startswith(_NOT_OUTSIDE):
            found[row["series"], row["machine"]][row["labels"]].append(
                (row["time_ns"], row["value"])
            )
    return {
        key: {
            labels: (
                np.array([at for at, _ in sorted(points)], dtype=np.float64),
                np.array([value for _, value in sorted(points)], dtype=np.float64),
            )
            for labels, points in by_labels.items()
        }
        for key, by_labels in found.items()
    }


def _parts(
    seen: dict[tuple[str, str], dict[str, tuple[Floats, Floats]]],
    wanted: tuple[str, ...],
    machine: str,
) -> list[tuple[Floats, Floats]]:
    return [part for name in wanted for part in seen.get((name, machine), {}).values()]


def _level(
    seen: dict[tuple[str, str], dict[str, tuple[Floats, Floats]]],
    wanted: tuple[str, ...],
    machine: str,
    factor: float,
) -> tuple[Floats, Floats]:
    """The sum of all parts at the moments of any."""
    return _sum([(at, value * factor) for at, value in _parts(seen, wanted, machine)])


def _rate(
    seen: dict[tuple[str, str], dict[str, tuple[Floats, Floats]]],
    wanted: tuple[str, ...],
    machine: str,
    factor: float,
) -> tuple[Floats, Floats]:
    """What is added in a second, between one look and the next; a counter may begin anew."""
    parts = []
    for at, value in _parts(seen, wanted, machine):
        if at.size > 1:
            grown = np.diff(value)
            grown = np.where(grown < 0, value[1:], grown)
            parts.append((at[1:], grown / (np.diff(at) / 1e9) * factor))
    return _sum(parts)


def _sum(parts: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Parts are looked at together, or one follows the other: each counts where it was seen."""
    if not parts:
        return np.array([]), np.array([])
    moments = np.unique(np.concatenate([at for at, _ in parts]))
    total = np.zeros(moments.size)
    for at, value in parts:
        total += np.interp(moments, at, value, left=0.0, right=0.0)
    return moments, total


def _line(axes: Axes, at: Floats, value: Floats, places: list[Place], colour: str) -> None:
    """A machine's line, broken between repetitions and where Prometheus saw nothing."""
    for place in places:
        inside = (at >= place.begins_ns) & (at <= place.ends_ns + 5e9)
        where = place.offset + (at[inside] - place.begins_ns) / 1e9
        axes.plot(where, value[inside], color=colour, linewidth=1.3, marker=".", markersize=3)


def _latency(axes: Axes, samples: pa.Table, places: list[Place]) -> None:
    latency = values(samples, "latency_ms")
    due = samples["intended_ns"].fill_null(0).to_numpy()
    for place in places:
        inside = (due >= place.begins_ns) & (due <= place.ends_ns) & ~np.isnan(latency)
        second = ((due[inside] - place.begins_ns) // 1_000_000_000).astype(int)
        moments = np.unique(second)
        middle = [float(np.median(latency[inside][second == each])) for each in moments]
        axes.plot(place.offset + moments + 0.5, middle, color=COLOURS["text"], linewidth=1.3)
    axes.set_ylabel("latency, ms")
    axes.set_ylim(bottom=0)


def _colours(run: Run) -> dict[str, str]:
    """A colour for each machine, or for each tier where there are many machines."""
    if len(run.machines) <= _MOST_LABELS:
        return {machine.name: SERIES[at] for at, machine in enumerate(run.machines)}
    tiers = list(dict.fromkeys(machine.tier for machine in run.machines))
    return {
        machine.name: SERIES[tiers.index(machine.tier) % len(SERIES)] for machine in run.machines
    }
