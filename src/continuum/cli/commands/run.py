"""`continuum run FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from continuum import reasons
from continuum.cli import output
from continuum.cli.experiments import experiment_arguments, provider_of, read
from continuum.cli.privileges import prepare_host, with_programs
from continuum.cli.session import (
    ResultsPlace,
    Session,
    changes_option,
    common,
    current,
    json_option,
    take_over_option,
)
from continuum.errors import UsageError
from continuum.reasons import Code

if TYPE_CHECKING:
    from continuum.workflow import Outcome


def _codes(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    """Codes of reasons, one a time or several with commas."""
    del context, parameter
    codes = tuple(code.strip() for each in value for code in each.split(",") if code.strip())
    wrong = reasons.unknown(codes)
    if wrong:
        raise UsageError(
            f'--accept: no reason has the code "{wrong[0][:40]}"',
            hint=f"codes: {', '.join(reasons.ACCEPTABLE)}",
        )
    return codes


@click.command("run")
@experiment_arguments
@click.option(
    "--results",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder for the results; otherwise one in `results/` where you stand.",
)
@click.option(
    "--repeat", metavar="N", type=click.IntRange(1, 1000), help="Repetitions of the benchmark."
)
@click.option("--down", is_flag=True, help="Remove everything afterwards.")
@click.option(
    "--accept",
    metavar="CODE",
    multiple=True,
    callback=_codes,
    help="Take a reason of that code as data: exit 0 all the same. May be repeated.",
)
@click.option("--accept-links", is_flag=True, help="The same as --accept links.")
@click.option("--all-pairs", is_flag=True, help="Measure the links of every pair of machines.")
@take_over_option
@changes_option
@json_option
@common
def command(  # noqa: PLR0913  one parameter per option of the command line
    *,
    file: Path,
    settings: tuple[str, ...],
    provider: str | None,
    results: Path | None,
    repeat: int | None,
    down: bool,
    accept: tuple[str, ...],
    accept_links: bool,
    all_pairs: bool,
    take_over: bool,
    as_json: bool,
) -> int:
    """Bring an experiment up, check its links, run its benchmark, and write the report.

    The machines stay up, so that the next run starts at once; --down, or `delete = true` in the
    file, removes them.

    Exit codes: 0 done, or degraded for accepted reasons alone; 1 a step or a link check failed, or the run is degraded; 2 invalid
    experiment, another file's deployment, or machines would be lost; 3 not on this host; 4 a machine cannot be reached; 130 interrupted.
    """
    session = current()
    if repeat is not None:
        settings = (*settings, f"benchmark.repetitions={repeat}")
    loaded = read(session, file, settings, provider)
    prepare_host(session, provider_of(loaded))
    session.changes(loaded.experiment.name, "run")
    from continuum import workflow  # noqa: PLC0415  slow to import

    folder = workflow.results_folder(loaded.experiment.name, results)
    session.results = ResultsPlace(folder, asked=results is not None)
    try:
        outcome = with_programs(
            session,
            lambda: workflow.run(
                loaded,
                session.events,
                results=folder,
                down=down,
                accept=(*accept, *((Code.LINKS,) if accept_links else ())),
                all_pairs=all_pairs,
                yes=session.yes,
                take_over=take_over,
            ),
        )
    except workflow.RunInterrupted as ending:
        _tell(session, ending.outcome, as_json=as_json)
        raise
    _tell(session, outcome, as_json=as_json)
    if outcome.misplaced:
        return 1
    return 0 if outcome.record.status == "done" or outcome.record.accepted else 1


def _tell(session: Session, outcome: Outcome, *, as_json: bool) -> None:
    session.close()
    if as_json:
        output.write((outcome.folder / "run.json").read_text().rstrip())
    else:
        _show(session, outcome)


def _show(session: Session, outcome: Outcome) -> None:
    """The table and the ways on; why a run is not `done` is a part of it."""
    from continuum.report import terminal  # noqa: PLC0415  slow to import

    output.draw(terminal.summary(outcome.record, outcome.folder, removed=outcome.removed))
    if not outcome.removed:
        session.say(f"the machines stay up: continuum down {outcome.deployment.name}")
