"""`continuum validate FILE…`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from continuum.cli import output
from continuum.cli.session import common, current, json_option
from continuum.errors import InvalidExperiment
from continuum.experiment.load import load


@click.command("validate")
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="Set one value.")
@click.option("--provider", metavar="NAME", help="The same as --set infrastructure.provider=NAME.")
@json_option
@common
def command(
    files: tuple[Path, ...], settings: tuple[str, ...], provider: str | None, as_json: bool
) -> int:
    """Check experiment files, and tell all problems at once.

    A valid file that cannot run here is accepted, with a note that says why. Nothing is made or
    changed, and no privileges are needed.

    Exit codes: 0 all files are valid; 2 at least one is not.
    """
    verdicts = [_verdict(path, settings, provider) for path in files]
    if as_json:
        output.write_json(verdicts)
    else:
        for verdict in verdicts:
            _show(verdict)
    return 2 if any(verdict["verdict"] == "invalid" for verdict in verdicts) else 0


def _verdict(path: Path, settings: tuple[str, ...], provider: str | None) -> dict[str, Any]:
    """One file's verdict, with the fields that `--json` shows."""
    try:
        loaded = load(path, settings=list(settings), provider=provider, environment=os.environ)
    except InvalidExperiment as error:
        return {
            "file": str(path),
            "verdict": "invalid",
            "name": None,
            "problems": error.problems,
            "notes": [],
            "not_runnable": [],
        }
    return {
        "file": str(path),
        "verdict": "not runnable here" if loaded.obstacles else "valid",
        "name": loaded.experiment.name,
        "problems": [],
        "notes": loaded.notes,
        "not_runnable": loaded.obstacles,
    }


def _show(verdict: dict[str, Any]) -> None:
    """Verdicts are data; what explains a good one is talk."""
    file = output.clean(verdict["file"])
    if verdict["verdict"] == "invalid":
        for problem in verdict["problems"]:
            output.write(f"{output.styled('error', 'bad')} {output.clean(str(problem))}")
        return
    output.write(f"{output.styled('valid', 'good')} {file}: {verdict['name']}")
    for reason in verdict["not_runnable"]:
        output.write(
            f"  {output.styled('note', 'warning')} not runnable here: {output.clean(reason)}"
        )
    for note in verdict["notes"]:
        current().say(f"  note {output.clean(note)}")
