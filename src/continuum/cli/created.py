"""What an interrupted call has left behind, named for the person."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from continuum.cli import output
from continuum.deployment import Deployment
from continuum.errors import ContinuumError
from continuum.events import Events
from continuum.journal import Entry

if TYPE_CHECKING:
    from pathlib import Path

    from continuum.cli.session import ResultsPlace


_OF_A_RUN = {"benchmark", "report"}
"""Phases that come once machines, software and links are there."""


def name_what_was_created(name: str, results: ResultsPlace | None = None) -> None:
    """Say on standard error which things of a deployment exist, and what can be done about it.

    Also of a run's results, wherever its end left them.
    """
    deployment = Deployment.named(name)
    folder = _written(results)
    if not deployment.folder.is_dir():
        output.say(f'interrupted; nothing of deployment "{name}" is left')
        if folder is not None:
            _say_results(folder)
            _advise(_for_results(folder))
        return
    output.say(f'interrupted; of deployment "{name}" this was created:')
    output.say(f"  folder:   {deployment.folder}")
    machines = _machines(deployment)
    if machines:
        output.say(f"  machines: {', '.join(machines)}")
    entries = [each for each in deployment.journal.entries() if each.process == os.getpid()]
    step = _unfinished(entries)
    if step:
        output.say(f"  last step: {step}, not finished")
    if folder is not None:
        _say_results(folder)
    _advise(
        [
            *(_for_results(folder) if folder is not None else ()),
            _again(entries, anew=results is not None and results.asked and folder is not None),
            f"continuum down {name} removes it",
        ]
    )


def _again(entries: list[Entry], *, anew: bool) -> str:
    """What the same command does next; `anew`: only with another folder for its results."""
    if not any(each.phase in _OF_A_RUN for each in entries):
        return "the same command again goes on from here"
    how = "with another --results" if anew else "again"
    return f"the machines stay; the same command {how} begins the run anew"


def _written(results: ResultsPlace | None) -> Path | None:
    """The results folder, when something was written there."""
    if results is None or not results.folder.is_dir() or not any(results.folder.iterdir()):
        return None
    return results.folder


def _say_results(folder: Path) -> None:
    from continuum.benchmark.results import RUN_FILE  # noqa: PLC0415  slow to import

    lacks = "" if (folder / RUN_FILE).exists() else f", not whole: there is no {RUN_FILE}"
    output.say(f"  results:  {output.clean(str(folder))}{lacks}")


def _for_results(folder: Path) -> list[str]:
    """What can be done about results that were written in part."""
    from continuum.benchmark.results import REPORT_FILE, RUN_FILE  # noqa: PLC0415  slow to import

    if not (folder / RUN_FILE).exists() or (folder / REPORT_FILE).exists():
        return []
    return [f"continuum report {output.clean(shlex.quote(str(folder)))} makes the report"]


def _advise(lines: list[str]) -> None:
    for number, line in enumerate(lines):
        output.say(f"  {'what to do:' if number == 0 else '           '} {line}")


def _unfinished(entries: list[Entry]) -> str:
    """The last step that did not finish; the report after it may have."""
    ends = {(each.phase, each.step): each.state for each in entries}
    open_ = [f"{phase}: {step}" for (phase, step), state in ends.items() if state != "finished"]
    return open_[-1] if open_ else ""


def _machines(deployment: Deployment) -> list[str]:
    """Machines that exist, as the provider sees them; what cannot be asked is passed over."""
    from continuum import plugins  # noqa: PLC0415  slow to import
    from continuum.infrastructure.execute import stored_plan  # noqa: PLC0415

    try:
        plan = stored_plan(deployment)
        if plan is None:
            return []
        kind = plugins.load("providers", plan.provider)
        provider = kind(kind.settings_type.of_stored(plan.settings), Events())
        return [f"{state.name} ({state.state})" for state in provider.states(deployment)]
    except (ContinuumError, OSError, ValueError):
        return []
