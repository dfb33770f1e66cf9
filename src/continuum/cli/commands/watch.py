"""`continuum watch [NAME]`."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

import click

from continuum.cli import output, watch_terminal
from continuum.cli.deployments import names_complete
from continuum.cli.session import Session, common, current, json_option
from continuum.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from continuum.deployment import Deployment
    from continuum.infrastructure.providers.contract import Provider
    from continuum.watch.watcher import Watcher

LOOK_INTERVAL = 1.0
"""Seconds between two drawings."""

TELL_INTERVAL = 5.0
"""Seconds between two lines, where nothing can be drawn again."""

ONCE_LIMIT = 8.0
"""Seconds that one look takes at most: what a machine takes is the difference of two."""

PORT = 8321
"""Of the page, unless it is taken or another is asked for."""


@click.command("watch")
@click.argument("name", metavar="[NAME]", required=False, shell_complete=names_complete)
@click.option("--web", is_flag=True, help="Serve a page for a browser on this host.")
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    help=f"Port of the page; otherwise {PORT}, or a free one where that is taken.",
)
@click.option("--once", is_flag=True, help="Show how it is now, and end.")
@json_option
@common
def command(*, name: str | None, web: bool, port: int | None, once: bool, as_json: bool) -> int:
    """Watch a run while it lasts: machines, links, requests, latency, losses, load.

    Without NAME it is the deployment in which something happened last, and the next one when that
    is begun. Ctrl-C ends watching, and nothing else.

    Exit codes: 0 shown, until Ctrl-C; 2 usage; 5 no such deployment.
    """
    session = current()
    if port is not None and not web:
        raise UsageError("--port goes with --web")
    if web and (once or as_json):
        raise UsageError("--web serves a page, and shows nothing here: no --once, no --json")
    from continuum.deployment import Deployment  # noqa: PLC0415  slow to import
    from continuum.watch.watcher import Watcher  # noqa: PLC0415

    if name is not None:
        Deployment.existing(name)
    with Watcher(name, _providers(session)) as watcher:
        try:
            if web:
                _serve(session, watcher, port)
            elif once or as_json:
                _show_once(watcher, as_json=as_json)
            elif output.live(sys.stdout):
                _draw(watcher)
            else:
                _tell(watcher)
        except KeyboardInterrupt:
            session.say()
    return 0


def _providers(session: Session) -> Callable[[Deployment], Provider]:
    from continuum import existing  # noqa: PLC0415  slow to import

    def of(deployment: Deployment) -> Provider:
        return existing.provider_of(deployment, session.events)

    return of


def _show_once(watcher: Watcher, *, as_json: bool) -> None:
    """Draw or write what is known as soon as all machines that run have told what they take."""
    seen = watcher.look()
    end = time.monotonic() + ONCE_LIMIT
    while time.monotonic() < end and any(
        machine.state == "running" and machine.used is None and not machine.problem
        for machine in seen.machines
    ):
        _pause(0.25)
        seen = watcher.look()
    if as_json:
        output.write_json(seen)
    else:
        output.draw(watch_terminal.draw(seen))


def _serve(session: Session, watcher: Watcher, port: int | None) -> None:
    """Serve the page until interrupted."""
    from continuum.watch.web import listen  # noqa: PLC0415  not for the terminal

    with listen(lambda: output.plain(watcher.look()), port, PORT, session.say) as server:
        output.write(server.address)
        sys.stdout.flush()
        session.say("open it in a browser on this host; Ctrl-C ends watching, and nothing else")
        session.say(
            f"from another: ssh -L {server.server_port}:127.0.0.1:{server.server_port} THIS-HOST"
        )
        server.serve_forever(poll_interval=0.2)


def _draw(watcher: Watcher) -> None:
    """Draw again and again, until interrupted."""
    from rich.console import Console  # noqa: PLC0415  slow to import
    from rich.live import Live  # noqa: PLC0415

    console = Console(file=sys.stdout, highlight=False, no_color=not output.colours(sys.stdout))
    shown = Live(
        watch_terminal.draw(watcher.look()),
        console=console,
        auto_refresh=False,
        screen=True,
        vertical_overflow="crop",
    )
    # Not by `with`, which gives nothing back where it is interrupted as it begins.
    try:
        shown.start(refresh=True)
        while True:
            _pause(LOOK_INTERVAL)
            shown.update(watch_terminal.draw(watcher.look()), refresh=True)
    finally:
        shown.stop()


def _tell(watcher: Watcher) -> None:
    """Write a line again and again, until interrupted."""
    while True:
        output.write(watch_terminal.line(watcher.look()))
        sys.stdout.flush()
        _pause(TELL_INTERVAL)


def _pause(seconds: float) -> None:
    """Let time pass; a signal ends it."""
    threading.Event().wait(seconds)
