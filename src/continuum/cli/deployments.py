"""The arguments that name a deployment, and what stands for them when they are left out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from continuum.errors import ContinuumError, NotFound, UsageError

if TYPE_CHECKING:
    from continuum.cli.session import Session
    from continuum.deployment import Deployment
    from continuum.infrastructure.providers.contract import Provider

DEFAULT_PROVIDER = "lxc"


class WithCommand(click.Command):
    """A command whose last part is another one: keeps what stands after `--` apart: click itself would drop the mark."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Split the arguments at the first `--`."""
        place = args.index("--") if "--" in args else len(args)
        ctx.meta["command"] = tuple(args[place + 1 :])
        return super().parse_args(ctx, args[:place])


def names_complete(context: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    """Names of deployments, for the shell's completion."""
    from continuum.deployment import Deployment  # noqa: PLC0415

    del context, parameter
    return [each.name for each in Deployment.all() if each.name.startswith(text)]


def only_one(session: Session) -> Deployment:
    """The deployment that is meant when none is named: the only one there is.

    Raises:
        NotFound: there is none.
        UsageError: there are several.
    """
    from continuum.deployment import Deployment  # noqa: PLC0415

    there = Deployment.all()
    if not there:
        raise NotFound("there is no deployment", hint="continuum up FILE makes one")
    if len(there) > 1:
        names = ", ".join(each.name for each in there)
        raise UsageError("there are several deployments: name one", hint=f"one of: {names}")
    session.say(f'(deployment "{there[0].name}", the only one)')
    return there[0]


def split(session: Session, words: Sequence[str]) -> tuple[Deployment, list[str]]:
    """A deployment and the words after it, where the deployment's name may be left out.

    Raises:
        NotFound: the first word is no deployment, and there is none to stand for it.
        UsageError: there are several that could.
    """
    from continuum.deployment import Deployment  # noqa: PLC0415

    names = [each.name for each in Deployment.all()]
    if words and (words[0] in names or len(names) != 1):
        return Deployment.existing(words[0]), list(words[1:])
    return only_one(session), list(words)


def provider_kinds(names: Sequence[str] | None) -> list[type[Provider]]:
    """The classes of the providers that made these deployments; of all deployments for None.

    Where no plan says who made one that has a folder, or things on this host, it is the default
    provider. One that is not there is left out: it is told where its deployment's turn comes, and
    must not hinder the others'.
    """
    from continuum import folders, plugins  # noqa: PLC0415
    from continuum.deployment import Deployment  # noqa: PLC0415
    from continuum.events import Events  # noqa: PLC0415
    from continuum.infrastructure.execute import stored_plan  # noqa: PLC0415

    default = plugins.load("providers", DEFAULT_PROVIDER)
    leftovers = default(default.settings_type(), Events()).leftovers(folders.state_folder())
    there = [each.name for each in Deployment.all()]
    used: dict[str, None] = {}
    for name in [*there, *leftovers] if names is None else names:
        plan = stored_plan(Deployment.named(name)) if name in there else None
        if plan is not None:
            used[plan.provider] = None
        elif name in there or name in leftovers:
            used[DEFAULT_PROVIDER] = None
    kinds = []
    for name in used:
        with suppress(ContinuumError):
            kinds.append(plugins.load("providers", name))
    return kinds


def selector(session: Session, words: Sequence[str], what: str) -> tuple[Deployment, list[str]]:
    """Like `split`, but at least one word must follow the deployment's name.

    Raises:
        UsageError: none does.
    """
    deployment, rest = split(session, words)
    if not rest:
        raise UsageError(f"name {what}", hint=f"continuum status {deployment.name} shows them")
    return deployment, rest
