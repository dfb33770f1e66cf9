"""`continuum doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from continuum.cli import output
from continuum.cli.experiments import provider_of, read
from continuum.cli.privileges import prepare_host
from continuum.cli.session import common, current, json_option, yes_option
from continuum.errors import NotPossibleHere

if TYPE_CHECKING:
    from continuum.experiment.load import Loaded
    from continuum.infrastructure.providers.contract import Check, Provider


@click.command("doctor")
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@click.option("--provider", metavar="NAME", help="Check this provider; otherwise FILE's, or lxc.")
@click.option("--fix", is_flag=True, help="Install the Debian packages that are missing.")
@yes_option
@json_option
@common
def command(file: Path | None, provider: str | None, fix: bool, as_json: bool) -> int:
    """Try everything that this host must have, and say how to mend what is missing.

    Nothing is changed, unless --fix is given. As root, or through sudo, more can be tried.

    Exit codes: 0 all that is needed is there; 3 something is missing.
    """
    session = current()
    loaded = read(session, file, (), provider) if file is not None else None
    name, kind = _provider(loaded, provider)
    if fix:
        prepare_host(session, kind)
    from continuum import workflow  # noqa: PLC0415  slow to import

    checks = workflow.doctor(name, session.events, loaded.experiment if loaded else None)
    failed = [check for check in checks if check.needed and not check.ok]
    if as_json:
        output.write_json({"provider": name, "ok": not failed, "checks": checks})
    else:
        for check in checks:
            _show(check)
        if failed:
            count = len(failed)
            raise NotPossibleHere(
                f'{count} thing{"s" if count != 1 else ""} that provider "{name}" needs '
                f"{'are' if count != 1 else 'is'} missing: "
                f"{', '.join(check.name for check in failed)}",
                hint=next((check.mend for check in failed if check.mend), ""),
            )
        session.say(f'this host has what provider "{name}" needs')
    return NotPossibleHere.exit_code if failed else 0


def _provider(loaded: Loaded | None, name: str | None) -> tuple[str, type[Provider]]:
    from continuum import plugins  # noqa: PLC0415  slow to import

    if loaded is not None:
        return loaded.experiment.infrastructure.provider, provider_of(loaded)
    kind: Any = plugins.load("providers", name or "lxc")
    return name or "lxc", kind


def _show(check: Check) -> None:
    if check.ok:
        word, style = "ok", "good"
    elif check.needed:
        word, style = "missing", "bad"
    else:
        word, style = "absent", "warning"
    mark = output.styled(f"{word:<8}", style)
    output.write(f"{mark} {check.name}: {check.detail}")
    if not check.ok and check.mend:
        output.write(f"         mend it: {check.mend}")
