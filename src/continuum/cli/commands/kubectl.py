"""`continuum kubectl [NAME] ARGUMENTS…`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from continuum.cli.deployments import only_one
from continuum.cli.session import common, current
from continuum.errors import NotFound

if TYPE_CHECKING:
    from pathlib import Path

    from continuum.cli.session import Session
    from continuum.deployment import Deployment
    from continuum.events import Events


@click.command(
    "kubectl",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("words", metavar="[NAME] ARGUMENTS…", nargs=-1, type=click.UNPROCESSED)
@common
def command(words: tuple[str, ...]) -> int:
    """Run kubectl, of the cluster's own version, as its administrator.

    NAME may be left out when there is one deployment. Everything after it is kubectl's.

    Exit codes: those of kubectl; 3 it cannot be had here; 5 no such deployment, or no cluster.
    """
    from continuum.infrastructure.execute import past_proxies, stored_plan  # noqa: PLC0415

    session = current()
    deployment, arguments = _split(session, words)
    kubeconfig = deployment.kubeconfig
    if not kubeconfig.exists():
        raise NotFound(
            f'deployment "{deployment.name}" has no cluster',
            where=str(kubeconfig),
            hint='software.manager = "kubernetes" or "kubeedge" makes one; continuum up FILE',
        )
    program = program_of(session.events, deployment)
    session.close()
    sys.stdout.flush()
    sys.stderr.flush()
    plan = stored_plan(deployment)
    direct = past_proxies(plan, os.environ) if plan else {}
    environment = {**os.environ, **direct, "KUBECONFIG": str(kubeconfig)}
    os.execve(program, ["kubectl", *arguments], environment)  # noqa: S606  no shell is wanted


def _split(session: Session, words: tuple[str, ...]) -> tuple[Deployment, list[str]]:
    """The deployment and kubectl's arguments: its words are no names of deployments."""
    from continuum.deployment import Deployment  # noqa: PLC0415

    with_cluster = [each for each in Deployment.all() if each.kubeconfig.exists()]
    if words and words[0] in {each.name for each in Deployment.all()}:
        return Deployment.existing(words[0]), list(words[1:])
    if len(with_cluster) == 1:
        return with_cluster[0], list(words)
    return only_one(session), list(words)


def program_of(events: Events, deployment: Deployment) -> Path:
    """Where kubectl of a cluster's own version is; it is fetched unless it is here.

    Raises:
        NotPossibleHere: it cannot be had.
    """
    from continuum.artifacts.catalogue import Wanted  # noqa: PLC0415  slow to import
    from continuum.artifacts.store import ArtifactStore  # noqa: PLC0415

    store = ArtifactStore(events)
    version = store.version("kubernetes", deployment.kubernetes_version())
    (artifact,) = store.fetch_all([Wanted("kubectl", version)])
    if not os.access(artifact.path, os.X_OK):
        artifact.path.chmod(0o755)
    return artifact.path
