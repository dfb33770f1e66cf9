"""What a machine image holds: a list of install steps, collected from whoever needs them.

The same steps are baked into an image, or carried out on a live machine that is reached by SSH.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from continuum.events import Events
    from continuum.images.containers import ContainerImage

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
    `prepare` is called before, where the files are not in the cache: for what takes long, and tells
    of itself. `traces` are what programs leave elsewhere on machines that outlive the deployment, and
    what goes with the files, unless it was there before them: paths, or `FOLDER/*` for what lies in
    a folder that a package brings. What is called `continuum.*` below `/etc` need not be named.
    """

    name: str
    inputs: str
    write: Callable[[Path, Callable[[str], None]], None]
    prepare: Callable[[Events], None] | None = None
    traces: tuple[str, ...] = ()


@dataclass(frozen=True)
class ContainerImages:
    """Container images that containerd has from its first start, unpacked: nothing is pulled.

    They bring `CONTAINERD` along, which starts where a machine may carry containers.
    """

    images: tuple[ContainerImage, ...]


CONTAINERD = ("containerd", "runc")
"""Debian packages of whoever carries containers."""

InstallStep = DebianPackages | PythonPackages | Units | Tree | ContainerImages


@dataclass(frozen=True)
class Recipe:
    """Install steps without repetitions, in a fixed order, so that equal needs share an image.

    `boots` is False for what is no machine, but what containers are made of: it has neither an
    init nor SSH.
    """

    packages: tuple[str, ...]
    python: tuple[str, ...]
    units: Units
    trees: tuple[Tree, ...]
    container_images: tuple[ContainerImage, ...] = ()
    boots: bool = True

    @classmethod
    def collect(cls, steps: Iterable[InstallStep]) -> Recipe:
        """Merge the steps of all parts of an experiment."""
        packages: set[str] = set()
        python: set[str] = set()
        enabled: set[str] = set()
        disabled: set[str] = set()
        trees: dict[str, Tree] = {}
        images: dict[str, ContainerImage] = {}
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
                case ContainerImages(preloaded):
                    images |= {image.reference: image for image in preloaded}
        if images:
            packages.update(CONTAINERD)
        return cls(
            packages=tuple(sorted(packages)),
            python=tuple(sorted(python)),
            units=Units(tuple(sorted(enabled)), tuple(sorted(disabled - enabled))),
            trees=tuple(trees[name] for name in sorted(trees)),
            container_images=tuple(images[name] for name in sorted(images)),
        )

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits; changes with every input."""
        return fingerprint(
            self.packages,
            self.python,
            [self.units.enabled, self.units.disabled],
            [(tree.name, tree.inputs) for tree in self.trees],
            [image.key for image in self.container_images],
            self.boots,
        )


def fingerprint(*inputs: object) -> str:
    """SHA-256, shortened to 16 hexadecimal digits, of the JSON of the inputs."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()[:16]
