"""The experiment file that a deployment's name belongs to, so that no other file changes it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from continuum import state_file
from continuum.errors import UsageError

if TYPE_CHECKING:
    from continuum.deployment import Deployment

FILE = "origin.json"


def recorded(deployment: Deployment) -> Path | None:
    """The file that the deployment was brought up from; None when nothing says so."""
    content = state_file.kept(deployment.folder / FILE, state_file.OBJECT) or {}
    told = content.get("file")
    return Path(told) if isinstance(told, str) else None


def record(deployment: Deployment, file: Path | None) -> None:
    """Keep the file, by its path without links; of a text that is in no file nothing is kept."""
    if file is not None and file.is_file():
        told = json.dumps({"file": os.fsdecode(file.resolve())}, indent=1)
        deployment.write(FILE, told + "\n")


def other_file(deployment: Deployment, file: Path | None) -> Path | None:
    """The file that the name belongs to, when it is there and another one than `file`."""
    owner = recorded(deployment)
    if owner is None or file is None:
        return None
    try:
        return None if owner.samefile(file) else owner
    except (OSError, ValueError):
        return None  # One of them is gone: it was renamed, moved or removed.


def refuse_other_file(deployment: Deployment, file: Path | None) -> None:
    """Keep a deployment from an experiment file that only has the same name.

    Raises:
        UsageError: it was brought up from another file, which is still there.
    """
    owner = other_file(deployment, file)
    if owner is None or file is None:
        return
    raise UsageError(
        f'the name "{deployment.name}" belongs to another experiment file',
        where=f"{file.resolve()}; the deployment is that of {owner}",
        hint=(
            "give this experiment another `name`, or add --take-over to change the deployment of "
            "the other file into this one's"
        ),
    )


def renamed_from(deployment: Deployment, file: Path | None) -> Path | None:
    """The file that the deployment was brought up from, when that is gone and `file` is there."""
    owner = recorded(deployment)
    if owner is None or file is None or not file.is_file():
        return None
    return None if os.path.lexists(owner) else owner
