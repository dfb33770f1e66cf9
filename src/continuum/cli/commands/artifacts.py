"""`continuum artifacts list|fetch|export|import`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from continuum.cli import output
from continuum.cli.experiments import provider_of, read
from continuum.cli.privileges import become_root, prepare_host, with_programs
from continuum.cli.session import Session, common, current, json_option, yes_option
from continuum.errors import NotFound, UsageError
from continuum.experiment.units import show_bytes

if TYPE_CHECKING:
    from continuum.artifacts.catalogue import Wanted
    from continuum.artifacts.store import ArtifactStore

_NAMES = click.argument("names", metavar="[NAME[@VERSION]…]", nargs=-1)


@click.group("artifacts", invoke_without_command=True)
@common
@click.pass_context
def command(context: click.Context) -> None:
    """Programs from outside: Kubernetes, KubeEdge and what belongs to them.

    They are fetched when they are needed. These verbs show what is there, fetch in advance, and
    carry it to a host without a network.

    Exit codes: 0 done; 1 a build failed, or an archive is refused; 2 no such artifact; 3 no
    source has it here; 5 there is no such file.
    """
    if context.invoked_subcommand is None:
        output.write(context.get_help())


@command.command("list")
@json_option
@common
def list_(as_json: bool) -> int:
    """Show what there is, what of it is in the cache, and where it came from."""
    session = current()
    store = _store(session)
    from continuum.artifacts import catalogue  # noqa: PLC0415

    tested = [
        catalogue.Wanted(program, project.version)
        for project in catalogue.projects().values()
        for program in project.programs
    ]
    here = {artifact.wanted: artifact for artifact in store.all()}
    rows = [*tested, *(wanted for wanted in here if wanted not in tested)]
    if as_json:
        output.write_json(
            [
                {
                    "name": wanted.name,
                    "version": wanted.version,
                    "architecture": wanted.architecture,
                    "tested": wanted in tested,
                    "cached": wanted in here,
                    "sha256": here[wanted].sha256 if wanted in here else None,
                    "size": here[wanted].size if wanted in here else None,
                    "source": here[wanted].source if wanted in here else None,
                    "checked_by": store.guard(here[wanted]) if wanted in here else None,
                    "sources": _sources(wanted),
                }
                for wanted in rows
            ]
        )
        return 0
    output.write(
        output.table(
            ("artifact", "version", "in the cache", "SHA-256", "checked by", "from"),
            [
                (
                    wanted.name,
                    wanted.version,
                    show_bytes(here[wanted].size) if wanted in here else "-",
                    here[wanted].sha256[:12] if wanted in here else "",
                    store.guard(here[wanted]) if wanted in here else "",
                    here[wanted].source if wanted in here else " or ".join(_sources(wanted)),
                )
                for wanted in rows
            ],
        )
    )
    return 0


@command.command("fetch")
@_NAMES
@yes_option
@json_option
@common
def fetch(names: tuple[str, ...], as_json: bool) -> int:
    """Fetch artifacts into the cache: the named ones, or all.

    NAME is an artifact or a project, as `kubernetes`; VERSION is as 1.34 or v1.34.4.
    """
    session = current()
    store = _store(session)
    wanted = _wanted(store, names)
    found = with_programs(session, lambda: store.fetch_all(wanted))
    session.close()
    if as_json:
        output.write_json(
            [
                {
                    "name": each.name,
                    "version": each.version,
                    "sha256": each.sha256,
                    "size": each.size,
                    "source": each.source,
                    "path": each.path,
                }
                for each in found
            ]
        )
        return 0
    for each in found:
        session.say(f"{each.wanted}: {show_bytes(each.size)}, {each.source}")
    return 0


@command.command("export")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@_NAMES
@click.option("--machine-images", is_flag=True, help="Also the machine images; needs root.")
@click.option(
    "--for",
    "experiment",
    metavar="EXPERIMENT",
    type=click.Path(path_type=Path),
    help="Only what this experiment needs, with its machine image; builds what is missing.",
)
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="With --for: as `up`.")
@click.option("--provider", metavar="NAME", help="With --for: as `up`.")
@click.option("--force", is_flag=True, help="Overwrite FILE if it is there.")
@yes_option
@json_option
@common
def export(  # noqa: PLR0913  one parameter per option of the command line
    *,
    file: Path,
    names: tuple[str, ...],
    machine_images: bool,
    experiment: Path | None,
    settings: tuple[str, ...],
    provider: str | None,
    force: bool,
    as_json: bool,
) -> int:
    """Write artifacts of the cache to a tar archive: the named ones, or all that are there."""
    session = current()
    if file.is_dir() or (file.exists() and not force):
        raise UsageError(f"{file} is there already", hint="name another file, or give --force")
    if not os.access(file.absolute().parent, os.W_OK):
        raise UsageError(f"nothing can be written to {file.absolute().parent}")
    if machine_images:
        become_root(session, "machine images need root")
    store = _store(session)
    from continuum.artifacts import archive  # noqa: PLC0415
    from continuum.images import packed  # noqa: PLC0415

    wanted = _wanted(store, names) if names else []
    if experiment is not None:
        layers, needed = _needs(session, store, experiment, settings, provider)
        wanted = list(dict.fromkeys([*wanted, *needed]))
    else:
        layers = packed.keys() if machine_images else []
        wanted = wanted or [each.wanted for each in store.all()]
    if not wanted and not layers:
        raise NotFound("the cache has no artifacts", hint="continuum artifacts fetch")
    with session.events.step("artifacts", f"write {file}", "the archive") as step:
        manifest = archive.write(store, wanted, file, step.progress, layers=layers)
    session.close()
    if as_json:
        output.write_json({"file": file, "size": file.stat().st_size, "manifest": manifest})
        return 0
    session.say(f"wrote {file}: {_count(manifest)}, {show_bytes(file.stat().st_size)}")
    session.say(f"  on the other host:  continuum artifacts import {file.name}")
    return 0


@command.command("import")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--replace", is_flag=True, help="Take the archive's where the cache has another file."
)
@json_option
@common
def import_(file: Path, replace: bool, as_json: bool) -> int:
    """Bring an archive's artifacts into the cache, each checked by its SHA-256.

    The sums show damage, not who made it: where they came from is what the archive claims.
    """
    session = current()
    store = _store(session)
    from continuum.artifacts import archive  # noqa: PLC0415
    from continuum.images.store import is_built  # noqa: PLC0415

    if not all(is_built(layer.key) for layer in archive.look(file).layers):
        become_root(session, "machine images need root")
    with session.events.step("artifacts", f"read {file}", "the archive") as step:
        manifest, notes = archive.read(store, file, step.progress, replace=replace)
    session.close()
    if as_json:
        output.write_json({"file": file, "manifest": manifest, "notes": notes})
        return 0
    session.say(f"brought {_count(manifest)} into the cache")
    for note in notes:
        session.say(f"  {note}")
    return 0


def _store(session: Session) -> ArtifactStore:
    from continuum.artifacts.store import ArtifactStore  # noqa: PLC0415  slow to import

    return ArtifactStore(session.events)


def _needs(
    session: Session,
    store: ArtifactStore,
    file: Path,
    settings: tuple[str, ...],
    provider: str | None,
) -> tuple[list[str], list[Wanted]]:
    """What another host lacks for an experiment: layers of its machine image, and artifacts.

    Both are in the cache afterwards.
    """
    loaded = read(session, file, settings, provider)
    prepare_host(session, provider_of(loaded))
    from continuum import workflow  # noqa: PLC0415  slow to import
    from continuum.artifacts import catalogue  # noqa: PLC0415
    from continuum.images import packed  # noqa: PLC0415

    plan = workflow.plan(loaded, session.events)
    if plan.provider.capabilities.made_up:
        raise UsageError(
            f"machines of provider {plan.provider.name} have no image",
            hint="--provider names another one",
        )
    image = with_programs(session, lambda: plan.provider.build_image(plan.recipe))
    layers = packed.keys_of(image)
    software = plan.experiment.software
    if software is None or not plan.experiment.in_a_cluster:
        return layers, []
    # Its programs are in the image; this one is the host's own.
    kubectl = catalogue.Wanted("kubectl", store.version("kubernetes", software.kubernetes.version))
    store.fetch_all([kubectl])
    return layers, [kubectl]


def _sources(wanted: Wanted) -> list[str]:
    from continuum.artifacts import catalogue  # noqa: PLC0415
    from continuum.artifacts.store import SOURCES  # noqa: PLC0415

    # An archive of a newer version may have brought what the catalogue does not know.
    known = wanted.name in catalogue.names()
    return [SOURCES[source] for source in wanted.sources()] if known else []


def _wanted(store: ArtifactStore, names: Sequence[str]) -> list[Wanted]:
    """The artifacts that names of artifacts and projects stand for; all when there are none."""
    from continuum.artifacts import catalogue  # noqa: PLC0415

    found = []
    for text in names or catalogue.projects():
        name, _, asked = text.partition("@")
        project = catalogue.projects().get(name) or catalogue.project_of(name)
        version = store.version(project.name, asked or None)
        programs = project.programs if name == project.name else (name,)
        found += [catalogue.Wanted(program, version) for program in programs]
    return list(dict.fromkeys(found))


def _count(manifest: object) -> str:
    parts = []
    for what, word in (("artifacts", "artifact"), ("layers", "machine image layer")):
        count = len(getattr(manifest, what))
        if count:
            parts.append(f"{count} {word}{'s' if count != 1 else ''}")
    return ", ".join(parts) or "nothing"
