"""What an interrupted call has left behind, named for the person."""

from __future__ import annotations

import os

from continuum.cli import output
from continuum.deployment import Deployment
from continuum.errors import ContinuumError
from continuum.events import Events
from continuum.journal import Entry


def name_what_was_created(name: str) -> None:
    """Say on standard error which things of a deployment exist, and what can be done about it."""
    deployment = Deployment.named(name)
    if not deployment.folder.is_dir():
        output.say(f'interrupted; nothing of deployment "{name}" is left')
        return
    output.say(f'interrupted; of deployment "{name}" this was created:')
    output.say(f"  folder:   {deployment.folder}")
    machines = _machines(deployment)
    if machines:
        output.say(f"  machines: {', '.join(machines)}")
    step = _unfinished(deployment.journal.entries())
    if step:
        output.say(f"  last step: {step}, not finished")
    output.say("  what to do: the same command again goes on from here")
    output.say(f"              continuum down {name} removes it")


def _unfinished(entries: list[Entry]) -> str:
    """The last step of this call that did not finish; the report after it may have."""
    ends = {(each.phase, each.step): each.state for each in entries if each.process == os.getpid()}
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
        provider = kind(kind.settings_type.model_validate(plan.settings), Events())
        return [f"{state.name} ({state.state})" for state in provider.states(deployment)]
    except (ContinuumError, OSError, ValueError):
        return []
