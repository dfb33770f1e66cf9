"""The topology drawn as SVG: tiers, their machines, and what was asked and measured of the links.

Tiers are boxes below each other, links between neighbours are drawn between the boxes, others
in lanes at the side. Colours are the page's own variables, so that the drawing follows its theme.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from continuum.benchmark.results import LinkRecord, MachineRecord, Run
from continuum.benchmark.samples import deciding_links
from continuum.experiment.units import show_bytes
from continuum.report import format as show

if TYPE_CHECKING:
    import pyarrow as pa

WIDTH = 460
_CHIP_WIDTH, _CHIP_HEIGHT = 124, 40
_GAP = 8
_HEAD = 26
_BETWEEN = 74
_LANE = 46
_MOST_CHIPS = 6
_MOST_LANES = 3


@dataclass(frozen=True)
class _Box:
    """A tier's box. `machines` are those that are drawn, `more` how many are not."""

    tier: str
    machines: tuple[MachineRecord, ...]
    more: int
    x: float
    y: float
    width: float
    height: float

    @property
    def bottom(self) -> float:
        return self.y + self.height


def draw(run: Run, measured: pa.Table | None) -> Markup:
    """An SVG element; empty when the run has no machines."""
    tiers: dict[str, list[MachineRecord]] = defaultdict(list)
    for machine in run.machines:
        tiers[machine.tier].append(machine)
    if not tiers:
        return Markup()
    names = _order(run, list(tiers))
    asked = _between_tiers(run.links, set(names))
    found = _measured(measured)
    far = [
        (first, second)
        for index, first in enumerate(names)
        for second in names[index + 2 :]
        if (first, second) in asked or (second, first) in asked
    ]
    lanes = far[:_MOST_LANES]
    boxes = _boxes(names, tiers, WIDTH - _LANE * len(lanes))
    parts = [Markup()]
    for lane, (first, second) in enumerate(lanes):
        parts.append(_side(boxes[first], boxes[second], lane, _words(asked, found, first, second)))
    for first, second in itertools.pairwise(names):
        if (first, second) in asked or (second, first) in asked:
            parts.append(_straight(boxes[first], boxes[second], asked, found))
    parts += [_box(boxes[name], run, asked.get((name, name))) for name in names]
    height = boxes[names[-1]].bottom + 2
    return Markup(
        '<svg class="drawing" viewBox="0 0 {width} {height:.0f}" role="img" '
        'aria-label="Tiers, machines and links">{body}</svg>'
    ).format(width=WIDTH, height=height, body=Markup("").join(parts))


def _order(run: Run, present: list[str]) -> list[str]:
    """As the experiment lists them; what it does not list comes last."""
    tiers = run.experiment.get("tiers")
    listed = [str(tier) for tier in tiers] if isinstance(tiers, dict) else []
    first = [tier for tier in listed if tier in present]
    return first + [tier for tier in present if tier not in first]


def _between_tiers(
    links: Iterable[LinkRecord], tiers: set[str]
) -> dict[tuple[str, str], LinkRecord]:
    found: dict[tuple[str, str], LinkRecord] = {}
    for link in links:
        if link.source in tiers and link.destination in tiers:
            found.setdefault((link.source, link.destination), link)
    return found


def _measured(table: pa.Table | None) -> dict[tuple[str, str], dict[str, float]]:
    """Means over all measured pairs of machines, by tiers and quantity."""
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in deciding_links(table):
        if row["measured"] is not None:
            values[row["from_tier"], row["to_tier"]][row["quantity"]].append(row["measured"])
    return {
        tiers: {name: sum(each) / len(each) for name, each in by_quantity.items()}
        for tiers, by_quantity in values.items()
    }


def _boxes(
    names: list[str], tiers: dict[str, list[MachineRecord]], width: float
) -> dict[str, _Box]:
    columns = max(1, int((width - _GAP) // (_CHIP_WIDTH + _GAP)))
    boxes = {}
    y = 2.0
    for name in names:
        machines = tiers[name]
        shown = machines if len(machines) <= _MOST_CHIPS else machines[: _MOST_CHIPS - 1]
        chips = len(shown) + (len(shown) < len(machines))
        rows = -(-chips // columns)
        height = _HEAD + rows * (_CHIP_HEIGHT + _GAP) + 2
        boxes[name] = _Box(name, tuple(shown), len(machines) - len(shown), 1, y, width - 2, height)
        y += height + _BETWEEN
    return boxes


def _settings(link: LinkRecord) -> str:
    """What was asked, short: 45 ± 5 ms · 7.21 Mbit/s · 1 % loss."""
    parts = []
    if link.delay_ms or link.jitter_ms:
        jitter = f" ± {link.jitter_ms:g}" if link.jitter_ms else ""
        parts.append(f"{link.delay_ms:g}{jitter} ms")
    if link.rate_mbit is not None:
        parts.append(f"{link.rate_mbit:g} Mbit/s")
    if link.loss_percent:
        parts.append(f"{link.loss_percent:g} % loss")
    return " · ".join(parts) or "no limits"


def _found(values: dict[str, float] | None) -> str:
    """What was measured, short."""
    if not values:
        return ""
    parts = []
    if "delay_ms" in values:
        jitter = f" ± {values['jitter_ms']:.1f}" if "jitter_ms" in values else ""
        parts.append(f"{values['delay_ms']:.1f}{jitter} ms")
    if "rate_mbit" in values:
        parts.append(f"{show.number(values['rate_mbit'])} Mbit/s")
    if "loss_percent" in values:
        parts.append(f"{values['loss_percent']:.2g} % loss")
    return " · ".join(parts)


def _words(
    asked: dict[tuple[str, str], LinkRecord],
    found: dict[tuple[str, str], dict[str, float]],
    source: str,
    destination: str,
) -> tuple[str, str]:
    """Asked and measured of both directions together when they are asked alike."""
    there, back = asked.get((source, destination)), asked.get((destination, source))
    link = there or back
    assert link is not None
    alike = there is None or back is None or _settings(there) == _settings(back)
    if alike:
        way = (source, destination) if there is not None else (destination, source)
        return _settings(link), _found(found.get(way))
    assert there is not None
    assert back is not None
    return f"↓ {_settings(there)}", f"↑ {_settings(back)}"


def _arrow(x: float, top: float, bottom: float, *, down: bool) -> Markup:
    tip, start = (bottom, top) if down else (top, bottom)
    sign = -1 if down else 1
    return Markup(
        '<path class="wire" d="M{x} {start}V{tip}"/>'
        '<path class="tip" d="M{left} {base}L{x} {tip}L{right} {base}Z"/>'
    ).format(x=x, start=start, tip=tip, left=x - 3.5, right=x + 3.5, base=tip + sign * 7)


def _straight(
    upper: _Box,
    lower: _Box,
    asked: dict[tuple[str, str], LinkRecord],
    found: dict[tuple[str, str], dict[str, float]],
) -> Markup:
    """The links between two neighbours: a column of text for each direction beside its arrow."""
    top, bottom = upper.bottom, lower.y
    middle = upper.x + upper.width / 2
    parts = []
    for way, down, x, anchor in (
        ((upper.tier, lower.tier), True, middle - 8, "end"),
        ((lower.tier, upper.tier), False, middle + 8, "start"),
    ):
        link = asked.get(way)
        if link is None:
            continue
        parts.append(_arrow(x, top, bottom, down=down))
        text_x = x - 9 if anchor == "end" else x + 9
        lines = [(_settings(link), "asked")]
        measured = _found(found.get(way))
        if measured:
            lines.append((measured, "found"))
        parts.append(_lines(lines, text_x, (top + bottom) / 2, anchor))
    return Markup("").join(parts)


def _lines(lines: list[tuple[str, str]], x: float, middle: float, anchor: str) -> Markup:
    first = middle + 4 - 8 * (len(lines) - 1)
    return Markup("").join(
        Markup('<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>').format(
            kind=kind, x=x, y=first + 16 * index, anchor=anchor, text=text
        )
        for index, (text, kind) in enumerate(lines)
    )


def _side(upper: _Box, lower: _Box, lane: int, words: tuple[str, str]) -> Markup:
    """A link past other tiers, in a lane at the right, its text turned."""
    right = upper.x + upper.width
    x = right + _LANE * lane + 14
    top = upper.y + upper.height / 2 + 5 * lane
    bottom = lower.y + lower.height / 2 - 5 * lane
    middle = (top + bottom) / 2
    room = (bottom - top) / 5.6
    turned = Markup("").join(
        Markup(
            '<text class="{kind}" transform="translate({x} {middle}) rotate(90)" '
            'text-anchor="middle">{text}</text>'
        ).format(kind=kind, x=x + aside, middle=middle, text=text)
        for text, kind, aside in zip(words, ("asked", "found"), (17, 4), strict=True)
        if len(text) <= room
    )
    return Markup(
        '<path class="wire" d="M{right} {top}H{inner}Q{x} {top} {x} {top_r}V{bottom_r}'
        'Q{x} {bottom} {inner} {bottom}H{right}"/>'
        '<path class="tip" d="M{base} {top_a}L{right} {top}L{base} {top_b}Z"/>'
        '<path class="tip" d="M{base} {bottom_a}L{right} {bottom}L{base} {bottom_b}Z"/>'
        "{turned}"
    ).format(
        right=right,
        inner=x - 6,
        x=x,
        top=top,
        top_r=top + 6,
        bottom=bottom,
        bottom_r=bottom - 6,
        base=right + 7,
        top_a=top - 3.5,
        top_b=top + 3.5,
        bottom_a=bottom - 3.5,
        bottom_b=bottom + 3.5,
        turned=turned,
    )


def _box(box: _Box, run: Run, within: LinkRecord | None) -> Markup:
    total = len(box.machines) + box.more
    count = f"{total} machine" + ("" if total == 1 else "s")
    aside = f"{count} · among them {_settings(within)}" if within is not None else count
    parts = [
        Markup(
            '<rect class="tier" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>'
            '<text class="name" x="{text_x}" y="{text_y}">{tier}</text>'
            '<text class="aside" x="{end}" y="{text_y}" text-anchor="end">{aside}</text>'
        ).format(
            x=box.x,
            y=box.y,
            width=box.width,
            height=box.height,
            text_x=box.x + 10,
            text_y=box.y + 18,
            tier=_cut(box.tier, 24),
            end=box.x + box.width - 10,
            aside=aside,
        )
    ]
    columns = max(1, int((box.width + 2 - _GAP) // (_CHIP_WIDTH + _GAP)))
    for index in range(len(box.machines) + (box.more > 0)):
        x = box.x + _GAP + (index % columns) * (_CHIP_WIDTH + _GAP)
        y = box.y + _HEAD + (index // columns) * (_CHIP_HEIGHT + _GAP)
        if index < len(box.machines):
            machine = box.machines[index]
            parts.append(_chip(x, y, _cut(machine.name, 18), _role(machine, run)))
        else:
            parts.append(_chip(x, y, f"and {box.more} more", ""))
    return Markup("").join(parts)


def _role(machine: MachineRecord, run: Run) -> str:
    """What runs on a machine: its workers, or its endpoint; else its size."""
    workers = [worker.name for worker in run.workers if worker.machine == machine.name]
    if workers:
        return workers[0] if len(workers) == 1 else f"{len(workers)} workers"
    endpoints = [each for each in run.endpoints if each.machine == machine.name]
    if endpoints:
        return f"→ {endpoints[0].worker}" if endpoints[0].worker else "answers itself"
    return f"{machine.cores} × {machine.quota:g} · {show_bytes(machine.memory)}"


def _chip(x: float, y: float, name: str, role: str) -> Markup:
    return Markup(
        '<rect class="chip" x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>'
        '<text class="machine" x="{text_x}" y="{name_y}">{name}</text>'
        '<text class="role" x="{text_x}" y="{role_y}">{role}</text>'
    ).format(
        x=x,
        y=y,
        width=_CHIP_WIDTH,
        height=_CHIP_HEIGHT,
        text_x=x + 9,
        name_y=y + (17 if role else 25),
        role_y=y + 32,
        name=name,
        role=_cut(role, 20),
    )


def _cut(text: str, length: int) -> str:
    seen = "".join(each if each.isprintable() else "\ufffd" for each in text)
    return seen if len(seen) <= length else f"{seen[: length - 1]}…"
