"""Damage in a deployment's folder, file by file: for `status`, which names it."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from continuum import state_file
from continuum.deployment import EXPERIMENT_FILE, KUBECONFIG
from continuum.errors import NotFound
from continuum.infrastructure import configure, proofs
from continuum.infrastructure.execute import PLAN_FILE
from continuum.infrastructure.links import process
from continuum.state_file import Damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from continuum.deployment import Deployment

_FOLDERS = ("plan", "ssh", "machines", "links", "logs")
_FILES = ("lock", "live.json", "ssh_config", KUBECONFIG)
_TABLES: dict[str, TypeAdapter[Any]] = {
    PLAN_FILE: configure.PLAN,
    proofs.FILE: proofs.PROOFS,
    "live.json": state_file.OBJECT,
    process.CONFIGURATION: state_file.OBJECT,
}


def damage(deployment: Deployment) -> list[Damaged]:
    """All files of a deployment that are there and are not what they should be."""
    whole = deployment.damage()
    if whole is not None:
        return [whole]
    found = list(_other_kinds(deployment))
    paths = {each.path for each in found}
    found += [
        each
        for each in (*_tables(deployment), deployment.journal.damage())
        # Of what is within a damaged folder, the folder itself is enough.
        if isinstance(each, Damaged) and paths.isdisjoint((each.path, *each.path.parents))
    ]
    return found


def _tables(deployment: Deployment) -> Iterator[object]:
    for name, schema in _TABLES.items():
        yield state_file.read_json(deployment.folder / name, schema)
    path = deployment.folder / EXPERIMENT_FILE
    kept = state_file.read_bytes(path)
    if isinstance(kept, bytes):
        try:
            deployment.experiment()
        except NotFound as error:
            yield Damaged(path, f"{error.output}; or another version wrote it")
    else:
        yield kept


def _other_kinds(deployment: Deployment) -> Iterator[Damaged]:
    """Links, FIFOs and the like where folders or files should be."""
    for names, expected, word in (
        (_FOLDERS, stat.S_ISDIR, "folder"),
        (_FILES, stat.S_ISREG, "file"),
    ):
        for name in names:
            path = deployment.folder / name
            try:
                mode = path.lstat().st_mode
            except OSError:
                continue
            if not expected(mode):
                yield Damaged(path, f"it is {state_file.kind(mode)}, not a {word}")
