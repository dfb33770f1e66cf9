"""`continuum report FOLDER`."""

from __future__ import annotations

from pathlib import Path

import click

from continuum.cli import output
from continuum.cli.session import common, current, json_option


@click.command("report")
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@json_option
@common
def command(folder: Path, as_json: bool) -> int:
    """Make the report of a results folder again, from its run.json and its tables.

    Exit codes: 0 made; 1 the folder's files cannot be read; 5 there is no run in the folder.
    """
    session = current()
    from continuum.benchmark import results  # noqa: PLC0415  slow to import, as all of them
    from continuum.deployment import Deployment  # noqa: PLC0415
    from continuum.report import page, terminal  # noqa: PLC0415

    whole = results.Results.load(folder)
    run = whole.run
    with session.events.step("report", str(folder), "plots"):
        path = page.write_report(folder, whole)
    if whole.mismatch:
        session.events.note(whole.mismatch, "warning")
    session.close()
    if as_json:
        output.write(results.run_text(run))
    else:
        # From another host, or removed since: the ways in lead nowhere.
        there = any(each.name == run.deployment for each in Deployment.all())
        output.draw(terminal.summary(run, folder, reachable=there))
        session.say(f"wrote {output.short_path(path)}")
    return 0
