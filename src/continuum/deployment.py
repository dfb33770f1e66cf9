"""A deployment: an experiment that has been brought up, its name and its folder.

experiment.json      the resolved experiment; origin.json: the file that it is from
plan/                everything that *configure* wrote
journal.jsonl        what was begun and finished; `lock` says who changes it now
ssh/                 key made for this deployment, host keys, known_hosts
ssh_config           `ssh -F` this
kubeconfig           how kubectl reaches its cluster, when it has one
machines/            what the provider keeps of its machines
logs/                full logs of commands
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from continuum import folders, lock, state_file
from continuum.errors import NotFound, StepFailed
from continuum.experiment.names import NAME
from continuum.journal import Journal
from continuum.state_file import Damaged

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment

KUBECONFIG = "kubeconfig"
EXPERIMENT_FILE = "experiment.json"


@dataclass(frozen=True)
class Deployment:
    """Name and folder. Making the object touches nothing."""

    name: str
    root: Path
    given_identity: str = ""
    """Where it is carried by a host that it was not begun on: the one that it has there."""
    host: str = ""
    """And how that host is reached."""

    @classmethod
    def named(cls, name: str) -> Deployment:
        """The deployment of that name in the caller's state folder, whether it exists or not."""
        return cls(name, folders.state_folder())

    @classmethod
    def existing(cls, name: str, *, damaged: bool = False) -> Deployment:
        """The deployment of that name; `damaged`: also when its folder is none.

        Raises:
            NotFound: there is none.
            StepFailed: something else stands where its folder should be.
        """
        found = cls.named(name) if NAME.fullmatch(name) else None
        if found is None or not os.path.lexists(found.folder):
            names = ", ".join(each.name for each in cls.all()) or "none"
            raise NotFound(f'no deployment "{name[:60]}"', hint=f"there are: {names}")
        if not damaged:
            found.refuse_damage()
        return found

    @classmethod
    def all(cls) -> list[Deployment]:
        """Every deployment in the caller's state folder, by name; see `damage`."""
        root = folders.state_folder()
        if not root.is_dir():
            return []
        return [
            cls(entry.name, root) for entry in sorted(root.iterdir()) if NAME.fullmatch(entry.name)
        ]

    @classmethod
    def half_removed(cls) -> list[str]:
        """Names of which there may be no more than a lock, or a folder on its way out."""
        return [name for name in lock.traces(folders.state_folder()) if NAME.fullmatch(name)]

    def damage(self) -> Damaged | None:
        """Something that stands where the deployment's folder should be, as a link or a file."""
        try:
            mode = self.folder.lstat().st_mode
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(mode):
            return None
        return Damaged(self.folder, f"it is {state_file.kind(mode)}, not a folder")

    def refuse_damage(self) -> None:
        """Raise where what is written would go through a link, or nowhere.

        Raises:
            StepFailed: something else stands where the deployment's folder should be.
        """
        damage = self.damage()
        if damage is not None:
            raise StepFailed(str(damage), hint=f"continuum down {self.name} removes that alone")

    @property
    def folder(self) -> Path:
        """Where everything of this deployment lies."""
        return self.root / self.name

    @cached_property
    def identity(self) -> str:
        """8 hexadecimal digits, the same for the same name in the same state folder."""
        if self.given_identity:
            return self.given_identity
        return hashlib.sha256(str(self.folder.absolute()).encode()).hexdigest()[:8]

    @cached_property
    def journal(self) -> Journal:
        """The deployment's journal."""
        return Journal(self.folder)

    @property
    def ssh_config(self) -> Path:
        """Configuration for `ssh -F`."""
        return self.folder / "ssh_config"

    def ssh_command(self, machine: str) -> str:
        """The command that opens a shell on a machine."""
        return shlex.join(["ssh", "-F", str(self.ssh_config), machine])

    def write(self, path: str, content: bytes | str) -> Path:
        """Write a file under the deployment's folder, for its owner alone; returns its path."""
        whole = self.folder / path
        folders.write_private_file(whole, content, self.folder)
        return whole

    def cluster_command(self) -> str:
        """The command that speaks with its cluster; "" when it has none."""
        return f"continuum kubectl {self.name} get pods -A" if self.kubeconfig.exists() else ""

    @property
    def kubeconfig(self) -> Path:
        """How `kubectl` reaches its cluster; there once the cluster has been up."""
        return self.folder / KUBECONFIG

    def kubernetes_version(self) -> str | None:
        """The version of Kubernetes that the kept experiment asks for, None for the tested one.

        Raises:
            NotFound: the deployment has none, or not as this version keeps it.
        """
        found = state_file.read_json(self._experiment_path, state_file.OBJECT)
        try:
            kept = state_file.undamaged(found) or {}
            version = ((kept["software"] or {}).get("kubernetes") or {}).get("version")
        except (KeyError, TypeError, AttributeError) as error:
            raise self._without_experiment(found) from error
        return version if isinstance(version, str) else None

    def experiment(self) -> Experiment:
        """The resolved experiment as it was kept.

        Raises:
            NotFound: the deployment has none, or not as this version keeps it.
        """
        from continuum.experiment.model import Experiment  # noqa: PLC0415  slow to import
        from continuum.experiment.units import trusted_numbers  # noqa: PLC0415

        with trusted_numbers():
            found = state_file.read_json(self._experiment_path, TypeAdapter(Experiment))
        if isinstance(found, Experiment):
            return found
        raise self._without_experiment(found)

    @property
    def _experiment_path(self) -> Path:
        return self.folder / EXPERIMENT_FILE

    def _without_experiment(self, found: object) -> NotFound:
        return NotFound(
            f'deployment "{self.name}" was not brought up whole, or by another version',
            where=str(self._experiment_path),
            output=found.reason if isinstance(found, Damaged) else "",
            hint="continuum up FILE",
        )

    def save_experiment(self, experiment: Experiment) -> None:
        """Keep the resolved experiment."""
        self.write(
            EXPERIMENT_FILE,
            json.dumps(experiment.model_dump(mode="json", by_alias=True), indent=2) + "\n",
        )
