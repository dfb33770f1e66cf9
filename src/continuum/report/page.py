"""`report.html`: one file that needs no network, made from a results folder alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from continuum import folders
from continuum.benchmark.results import REPORT_FILE, Percentile, Results, Run, Statistic
from continuum.experiment.model import THIS_HOST
from continuum.experiment.units import show_bytes, show_queue
from continuum.infrastructure import proofs
from continuum.report import format as show
from continuum.report import (
    functions,
    host_share,
    links_over_time,
    loads,
    machines_over_time,
    plots,
    pods,
    table,
    topology,
)
from continuum.report.clocks import Clocks
from continuum.report.files import write_plots

if TYPE_CHECKING:
    from jinja2 import Template

_MEANINGS = {
    "done": "Everything held.",
    "degraded": "Something that should have held did not. Read the figures with care.",
    "failed": "The run did not come to its end.",
    "interrupted": "The run was stopped before its end.",
}
_LIMIT_NAMES = {
    "cpu_pin": "pinned cores",
    "disk_read": "disk, reading",
    "disk_write": "disk, writing",
}
_FEW = 8
"""Longer tables come folded."""
_MOST_ROWS = 400
"""Longer lists are cut, and say so."""


@dataclass(frozen=True)
class Card:
    """One figure at the top of the page: its name, the figure with its unit, and what goes with it.

    `tone` is `good`, `bad`, or empty.
    """

    name: str
    value: str
    unit: str = ""
    detail: str = ""
    tone: str = ""


def write_report(folder: Path, results: Results | None = None) -> Path:
    """Make `report.html`, and the drawings in it as files, of the other files in a results folder.

    Those are `run.json`, `samples.parquet` and `links.parquet`, or the `results` that were read of
    them. Returns the page's path.

    Raises:
        NotFound: the folder holds no results.
        StepFailed: a file in it cannot be read.
    """
    results = Results.load(folder) if results is None else results
    drawings = draw(results)
    path = folder / REPORT_FILE
    folders.write_file(path, render(results, drawings).encode("utf-8", "backslashreplace"))
    write_plots(folder, drawings, _resource("page.css"))
    return path


def draw(results: Results) -> dict[str, Markup]:
    """Every drawing of the page by its name; empty where there is nothing to draw."""
    run, samples = results.run, results.samples
    found = {
        **dict.fromkeys(("breakdown", "distribution", "timeline", *pods.DRAWINGS), Markup()),
        "machines-over-time": Markup(),
        "links-over-time": Markup(),
        "topology": topology.draw(run, results.links),
        "links": plots.links(results.links),
        "starts": functions.draw_starts(run),
    }
    if pods.are_samples(samples):
        return found | pods.draw(run, samples, results.resources)
    taken = samples is not None and samples.num_rows > 0
    return found | {
        "breakdown": plots.breakdown(run),
        "distribution": plots.distribution(run, samples) if taken else Markup(),
        "timeline": plots.timeline(samples, results.stalls) if taken else Markup(),
        "machines-over-time": (
            machines_over_time.draw(run, samples, results.series)
            if taken and results.series is not None
            else Markup()
        ),
        "links-over-time": (
            links_over_time.draw(samples, results.link_series)
            if taken and results.link_series is not None
            else Markup()
        ),
    }


def render(results: Results, drawings: dict[str, Markup]) -> str:
    """The whole page."""
    run = results.run
    links = table.link_rows(results.links)
    # Those that do not hold come first and are never left out.
    most = max(_MOST_ROWS, sum(not row.ok for row in links))
    shown = links if len(links) <= most else sorted(links, key=lambda row: row.ok)[:most]
    return _template().render(
        style=Markup(_resource("page.css")),  # noqa: S704  our own file
        run=run,
        title=_title(run),
        meaning=_MEANINGS[run.status],
        accepted=table.accepted(run).strip(" ()"),
        reasons=table.reasons(run),
        made_up=table.MADE_UP,
        when=show.moment(run.started),
        lasted=show.lasted(run.started, run.finished),
        place=_place(run),
        cards=_cards(results),
        drawings=drawings,
        statistics=table.summary_table(run),
        unstalled=host_share.unstalled_rows(run),
        sentinel=host_share.sentinel(run),
        host_remark=host_share.remark(run),
        host_share=host_share.share_rows(run)[:_MOST_ROWS],
        throttled=host_share.throttled_rows(run)[:_MOST_ROWS],
        distribution=functions.DISTRIBUTIONS.get(run.functions.distribution, "")
        if run.functions
        else "",
        starts=functions.start_rows(run),
        outcome=table.outcome(run.all, run.noun) if run.all else "",
        unanswered_note=table.unanswered_note(run),
        interval_note=table.interval_note(run),
        pods=pods.are_samples(results.samples),
        nodes=pods.node_rows(run),
        node_columns=pods.node_columns(run),
        arrivals=loads.sentence(run),
        clock_note=Clocks(run).note,
        clock_readings=_clock_readings(run)[:_MOST_ROWS],
        endpoints=table.group_rows(run, run.groups("endpoint")),
        workers=table.group_rows(run, table.workers(run)),
        expectation=table.expectation_rows(run, "all"),
        expectation_by_endpoint=table.expectation_rows(run, "endpoint"),
        expected=any(row.expected_mean is not None for row in run.expectation if row.kind == "all"),
        baseline=table.baseline(run),
        links=shown,
        emulated=links_over_time.rows(results.link_series),
        link_columns=table.link_columns(links),
        links_hold=all(row.ok for row in links),
        links_left_out=len(links) - len(shown),
        links_outcome=table.links_outcome(links, run.link_check_seconds),
        asked_links=_asked_links(run),
        machines=_machines(run),
        limits=_limits(run),
        several_hosts=any(machine.host for machine in run.machines),
        resolved=json.dumps(run.experiment, indent=2, ensure_ascii=False),
        logs=run.logs[:_MOST_ROWS],
        host=_host(run),
        seeds=list(run.seeds.items())[:_MOST_ROWS],
        few=_FEW,
        nothing=show.NOTHING,
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415  only pages need it

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("page.html"))


def _resource(name: str) -> str:
    return (resources.files("continuum.report") / name).read_text(encoding="utf-8")


def _title(run: Run) -> str:
    name = run.experiment.get("name")
    return name if isinstance(name, str) and name else run.deployment


def _place(run: Run) -> str:
    """Where it ran, in one line."""
    parts = [
        f"{len(run.machines)} machine" + ("" if len(run.machines) == 1 else "s"),
        f"provider {run.provider}" if run.provider else "",
        f"links by {run.emulator}" if run.emulator else "no links emulated",
        f"on {run.host['cores']} cores of {run.host['cpu_model']}"
        if run.host.get("cores") and run.host.get("cpu_model")
        else "",
    ]
    return " · ".join(part for part in parts if part)


def _cards(results: Results) -> list[Card]:
    """The figures that a person looks for first."""
    run = results.run
    if pods.are_samples(results.samples):
        return [Card(*each) for each in pods.cards(run, results.samples)]
    group = run.all
    if group is None:
        return []
    cards = []
    latency = group.statistic("latency_ms")
    if latency is not None:
        cards += [_percentile_card(latency, *each) for each in (("p50", "median"), ("p95", "p95"))]
    expected = {each.quantity: each for each in run.expectation if each.kind == "all"}
    forward = group.statistic("forward_ms")
    if forward is not None and forward.mean.value != 0:
        row = expected.get("forward_ms")
        known = row is not None and row.expected_mean is not None
        error = Clocks(run).error("forward_ms", "all", "all")
        beside = [
            f"expected {show.number(row.expected_mean)}" if row and known else "one way",
            *([str(error)] if error else []),
        ]
        cards.append(
            Card(
                "Forward delay, mean",
                table.mean(forward, error).value,
                "ms",
                ", ".join(beside),
                {True: "good", False: "bad", None: ""}[row.within if row else None],
            )
        )
    processing = group.statistic("processing_ms")
    if processing is not None:
        found = table.mean(processing)
        cards.append(Card("Processing, mean", found.value, "ms", table.interval_in_words(found)))
    cards.append(
        Card(
            "Requests answered",
            show.share(group.ok, group.samples).removesuffix(" %"),
            "%" if group.samples else "",
            f"{group.ok:,} of {group.samples:,}",
            "good" if group.samples and group.ok == group.samples else "bad",
        )
    )
    if group.judged:
        cards.append(
            Card(
                "Agreement",
                show.share(group.agreed, group.judged).removesuffix(" %"),
                "%",
                f"{group.agreed:,} of {group.judged:,} results",
                "good" if group.agreed == group.judged else "bad",
            )
        )
    return cards


def _percentile_card(latency: Statistic, name: str, title: str) -> Card:
    """A percentile of the latency, or the largest one where that cannot be given."""
    found: Percentile = getattr(latency, name)
    cell = table.percentile_cell(latency, name)
    if found.above is not None:
        share = show.share(latency.unanswered, latency.n + latency.unanswered)
        value, _, unit = show.milliseconds(found.above).partition(" ")
        return Card(f"Latency, {title}", f"> {value}", unit, f"{share} unanswered", "bad")
    if cell.maximum:
        return Card("Latency, longest", cell.maximum, "ms", f"too few requests for a {title}")
    return Card(f"Latency, {title}", cell.value, "ms", table.interval_in_words(cell))


def _machines(run: Run) -> list[dict[str, str]]:
    """Rows of the table of machines, with what runs on each."""
    carried: dict[str, list[str]] = {}
    for each in (*run.workers, *run.endpoints):
        carried.setdefault(each.machine, []).append(each.name)
    return [
        {
            "name": machine.name,
            "tier": machine.tier,
            "address": machine.address,
            "cores": f"{machine.cores}",
            "quota": f"{machine.quota:g}",
            "memory": show_bytes(machine.memory),
            "carries": ", ".join(carried.get(machine.name, [])) or show.NOTHING,
            "ssh": machine.ssh,
            "host": machine.host or THIS_HOST,
        }
        for machine in run.machines
    ]


def _limits(run: Run) -> list[dict[str, str]]:
    """Rows of the table of limits."""
    return [
        {
            "limit": _LIMIT_NAMES.get(each.limit, each.limit),
            "of": each.machine,
            "asked": proofs.show(each.limit, each.asked),
            "measured": (
                show.NOTHING if each.measured is None else proofs.show(each.limit, each.measured)
            ),
            "verdict": f"{each.verdict}: {each.note}" if each.note else each.verdict,
        }
        for each in run.limits
    ]


def _clock_readings(run: Run) -> list[dict[str, str]]:
    return [
        {
            "machine": each.machine,
            "when": f"{each.when} repetition {each.repetition}",
            "offset": show.signed(each.offset_ns / 1e6),
            "bound": f"± {show.number(each.bound_ns / 1e6)}",
        }
        for each in run.clock.readings
    ]


def _asked_links(run: Run) -> list[dict[str, str]]:
    return [
        {
            "source": link.source,
            "destination": link.destination,
            "delay": f"{link.delay_ms:g}",
            "jitter": f"{link.jitter_ms:g}",
            "loss": f"{link.loss_percent:g}",
            "rate": show.NOTHING if link.rate_mbit is None else f"{link.rate_mbit:g}",
            "queue": show_queue(link.queue_bytes, link.rate_mbit).replace("-", show.NOTHING),
        }
        for link in run.links
    ]


def _host(run: Run) -> list[tuple[str, str]]:
    """Facts of the host by name, in words."""
    facts: list[tuple[str, Any]] = []
    for name, value in run.host.items():
        if value is None:
            continue
        if name == "memory_bytes" and isinstance(value, int):
            facts.append(("memory", show_bytes(value)))
        else:
            facts.append((name.replace("_", " "), value))
    return [(name, str(value)) for name, value in facts]
