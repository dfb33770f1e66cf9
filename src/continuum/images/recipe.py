"""What a machine image holds: a list of install steps, collected from whoever needs them.

The same steps are baked into an image, or carried out on a live machine that is reached by SSH.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

PYTHON_FOLDER = "/opt/continuum/python"
"""Where `PythonPackages` lie in a machine; programs of ours run with it on their PYTHONPATH."""

RUNTIME_FOLDER = "/opt/continuum/runtime"
"""Where the package `continuum_runtime` lies in a machine, for PYTHONPATH."""

DATA_FOLDER = "/opt/continuum/data"
"""Where applications put what they read: models, photos."""


@dataclass(frozen=True)
class DebianPackages:
    """Packages from the host's own Debian or Ubuntu sources, without recommended ones."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class PythonPackages:
    """Requirements (PEP 508) installed for the machine's own Python into `PYTHON_FOLDER`."""

    requirements: tuple[str, ...]


@dataclass(frozen=True)
class Units:
    """systemd units of installed packages to switch on or off."""

    enabled: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tree:
    """Files written by `write(root, progress)` under the machine's root folder.

    `inputs` is everything that decides the content, as text: the same inputs give the same files.
    """

    name: str
    inputs: str
    write: Callable[[Path, Callable[[str], None]], None]


InstallStep = DebianPackages | PythonPackages | Units | Tree


@dataclass(frozen=True)
class Recipe:
    """Install steps without repetitions, in a fixed order, so that equal needs share an image."""

    packages: tuple[str, ...]
    python: tuple[str, ...]
    units: Units
    trees: tuple[Tree, ...]

    @classmethod
    def collect(cls, steps: Iterable[InstallStep]) -> Recipe:
        """Merge the steps of all parts of an experiment."""
        packages: set[str] = set()
        python: set[str] = set()
        enabled: set[str] = set()
        disabled: set[str] = set()
        trees: dict[str, Tree] = {}
        for step in steps:
            match step:
                case DebianPackages(names):
                    packages.update(names)
                case PythonPackages(requirements):
                    python.update(requirements)
                case Units(on, off):
                    enabled.update(on)
                    disabled.update(off)
                case Tree(name):
                    trees[name] = step
        return cls(
            packages=tuple(sorted(packages)),
            python=tuple(sorted(python)),
            units=Units(tuple(sorted(enabled)), tuple(sorted(disabled - enabled))),
            trees=tuple(trees[name] for name in sorted(trees)),
        )

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits; changes with every input."""
        return fingerprint(
            self.packages,
            self.python,
            [self.units.enabled, self.units.disabled],
            [(tree.name, tree.inputs) for tree in self.trees],
        )


def fingerprint(*inputs: object) -> str:
    """SHA-256, shortened to 16 hexadecimal digits, of the JSON of the inputs."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()[:16]
