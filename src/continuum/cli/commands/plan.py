"""`continuum plan FILE`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from continuum.cli import output
from continuum.cli.experiments import experiment_arguments, read
from continuum.cli.session import common, current, json_option
from continuum.experiment import fields
from continuum.experiment.arrivals import WORDS
from continuum.experiment.document import dotted
from continuum.experiment.load import leaves
from continuum.experiment.model import THIS_HOST
from continuum.experiment.units import show_bytes, show_queue
from continuum.experiment.write import literal

if TYPE_CHECKING:
    from continuum.experiment.document import KeyPath
    from continuum.experiment.model import Benchmark
    from continuum.infrastructure.plan import LinkSettings
    from continuum.workflow import Plan

PENDING = 6
MOST_LINES = 40


@click.command("plan")
@experiment_arguments
@click.option(
    "--detailed-exitcode", is_flag=True, help="End with status 6 when changes are pending."
)
@click.option("--all", "whole", is_flag=True, help="Show every machine and every value.")
@json_option
@common
def command(  # noqa: PLR0913  one parameter per option of the command line
    *,
    file: Path,
    settings: tuple[str, ...],
    provider: str | None,
    detailed_exitcode: bool,
    whole: bool,
    as_json: bool,
) -> int:
    """Show what `up` and `run` would do, and where each value is from. Touches nothing.

    Exit codes: 0 shown; 2 invalid experiment; 3 valid, but not on this host;
    6 with --detailed-exitcode: changes are pending.
    """
    session = current()
    loaded = read(session, file, settings, provider)
    from continuum import workflow  # noqa: PLC0415  slow to import

    plan = workflow.plan(loaded, session.events, look_at_links=True)
    session.close()
    if as_json:
        output.write_json(_as_json(plan))
    else:
        for line in _lines(plan, whole=whole):
            output.write(line)
    return PENDING if detailed_exitcode and plan.changes else 0


def _as_json(plan: Plan) -> dict[str, Any]:
    from continuum import origin, workflow  # noqa: PLC0415  slow to import

    return {
        "deployment": plan.deployment.name,
        "folder": plan.deployment.folder,
        "experiment": plan.experiment,
        "origins": plan.loaded.origins,
        "notes": plan.loaded.notes,
        "changes": plan.changes,
        "losses": workflow.losses(plan),
        "belongs_to": origin.other_file(plan.deployment, plan.loaded.path),
        "remarks": plan.remarks,
        "link_check_seconds": workflow.link_check_seconds(plan),
        "infrastructure": plan.infrastructure,
        "software": None
        if plan.software is None
        else {
            "plays": [
                {"role": play.role, "machines": play.machines} for play in plan.software.plays
            ],
            "files": sorted(plan.software.files),
        },
        "benchmark": None
        if plan.benchmark is None
        else {
            "workers": [worker for worker, _ in plan.benchmark.workers],
            "driver": plan.benchmark.driver,
            "repetitions": [
                [{"endpoint": each.endpoint, "load": each.load} for each in repetition]
                for repetition in plan.benchmark.repetitions
            ],
        },
        "image": {
            "packages": plan.recipe.packages,
            "python": plan.recipe.python,
            "trees": [tree.name for tree in plan.recipe.trees],
        },
    }


def _lines(plan: Plan, *, whole: bool) -> Iterator[str]:
    infrastructure = plan.infrastructure
    title = output.styled(plan.deployment.name, "strong")
    yield f"{title}: {len(infrastructure.machines)} machines of provider {infrastructure.provider}"
    yield ""
    yield from _machines(plan, whole=whole)
    for remark in plan.remarks:
        yield f"  note: {remark}"
    yield from _links(plan, whole=whole)
    yield from _software(plan)
    yield from _benchmark(plan)
    yield ""
    if not plan.changes:
        yield "changes: none, everything is as it should be"
    else:
        yield f"changes: {len(plan.changes)}"
        yield from _cut([f"  {change}" for change in plan.changes], whole=whole)
    yield from _asks(plan)
    yield ""
    yield "values that were set, and where" if not whole else "values"
    yield from _values(plan, whole=whole)


def _asks(plan: Plan) -> Iterator[str]:
    """The options without which `up` and `run` refuse."""
    from continuum import origin, workflow  # noqa: PLC0415  slow to import

    lost = workflow.losses(plan)
    if lost:
        yield (
            f"  {len(lost)} of them cost{'s' if len(lost) == 1 else ''} a machine with what is on "
            "it: only with --yes, or --recreate"
        )
    owner = origin.other_file(plan.deployment, plan.loaded.path)
    if owner is not None:
        yield f"  the deployment is that of {owner}: only with --take-over, or another name"


def _cut(lines: list[str], *, whole: bool) -> list[str]:
    if whole or len(lines) <= MOST_LINES:
        return lines
    return [*lines[:MOST_LINES], f"  … and {len(lines) - MOST_LINES} more: --all shows them"]


def _machines(plan: Plan, *, whole: bool) -> Iterator[str]:
    covers = plan.provider.capabilities.quota_covers
    quota = "quota (of the machine)" if covers == "machine" else "quota (of each core)"
    reasons = plan.infrastructure.reasons
    rows = [
        (
            *(spec.name, spec.address, str(spec.cores), f"{spec.quota:g}", show_bytes(spec.memory)),
            *((spec.host or THIS_HOST, reasons[spec.name]) if reasons else ()),
        )
        for spec in plan.infrastructure.machines
    ]
    placed = ("host", "because") if reasons else ()
    table = output.table(("machine", "address", "cores", quota, "memory", *placed), rows)
    yield from _cut([f"  {line}" for line in table.splitlines()], whole=whole)


def _links(plan: Plan, *, whole: bool) -> Iterator[str]:
    links = plan.infrastructure.network.links
    yield ""
    if not links:
        yield "links: none is emulated"
        return
    yield f"links ({plan.infrastructure.network.emulator})"
    rows = [(link.source, link.destination, *_cells(link.settings)) for link in links]
    table = output.table(("from", "to", "delay", "jitter", "loss", "rate", "queue"), rows)
    yield from _cut([f"  {line}" for line in table.splitlines()], whole=whole)
    from continuum import workflow  # noqa: PLC0415  slow to import

    seconds = workflow.link_check_seconds(plan)
    if seconds is not None:
        yield f"  a run measures them first, in about {seconds:.0f} s"


def _cells(settings: LinkSettings) -> tuple[str, ...]:
    return (
        f"{settings.delay_ms:g} ms",
        f"{settings.jitter_ms:g} ms",
        f"{settings.loss_percent:g} %",
        "-" if settings.rate_mbit is None else f"{settings.rate_mbit:g} Mbit/s",
        show_queue(settings.queue_bytes, settings.rate_mbit),
    )


def _software(plan: Plan) -> Iterator[str]:
    if plan.software is None:
        return
    yield ""
    yield "software"
    for play in plan.software.plays:
        yield f"  {play.role} on {', '.join(play.machines)}"
    if not plan.software.plays:
        yield "  nothing beside what is in the machine image"


def _benchmark(plan: Plan) -> Iterator[str]:
    benchmark = plan.experiment.benchmark
    if plan.benchmark is None or benchmark is None:
        return
    yield ""
    if plan.benchmark.driver is not None:
        yield f"benchmark: {benchmark.application}, {_times(benchmark.repetitions)}"
        yield from (f"  {line}" for line in plan.benchmark.driver.lines)
        return
    yield (
        f"benchmark: {benchmark.application}, {_arrivals(benchmark)}, for "
        f"{benchmark.duration:g} s after {benchmark.warmup:g} s of warm-up, "
        f"{_times(benchmark.repetitions)}"
    )
    for worker, _ in plan.benchmark.workers:
        yield f"  {worker.name} on {worker.machine}"
    for each in plan.benchmark.repetitions[0]:
        worker_name = each.endpoint.worker.name if each.endpoint.worker else "itself"
        yield f"  {each.endpoint.name} is answered by {worker_name}"


def _arrivals(benchmark: Benchmark) -> str:
    if isinstance(benchmark.arrivals, str):
        return f"{benchmark.frequency:g} Hz, {WORDS[benchmark.arrivals]}"
    return f"requests as in {benchmark.arrivals.file}"


def _values(plan: Plan, *, whole: bool) -> Iterator[str]:
    origins = plan.loaded.origins
    values = {dotted(path): (path, value) for path, value in leaves(plan.experiment)}
    rows = [
        (key, _text(_quantity(path, output.plain(value))), origin)
        for key, (path, value) in values.items()
        if (origin := origins.get(key, "default")) != "default" or whole
    ]
    if rows:
        table = output.table(("key", "value", "from"), rows)
        yield from (f"  {line}" for line in table.splitlines())


def _quantity(path: KeyPath, value: object) -> object:
    """The value as a person writes it: with its unit, where it has one."""
    spot = fields.spot(path)
    if spot is None or spot.quantity is None or not isinstance(value, (int, float)):
        return value
    return spot.quantity.write(value)


def _text(value: object) -> str:
    text = "-" if value is None else value if isinstance(value, str) else literal(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
