"""Machine images: layers that LXC stacks with overlay, so that a small change rebuilds little.

    base         Debian or Ubuntu packages, from the host's own sources, by mmdebstrap
    python       Python packages for the image's own Python
    tree         the files of one `Tree`, one layer each
    containers   container images, unpacked

A layer's key is the hash of all its inputs. The versions that came out are in its record.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continuum import folders
from continuum.errors import NotPossibleHere, StepFailed
from continuum.events import Events
from continuum.images import base, isolated, preloaded, sources, store
from continuum.images.recipe import PYTHON_FOLDER, Recipe, Tree, fingerprint
from continuum.images.store import ImagePaths, Layer
from continuum.machine import run_on_host, stream_on_host

PIP_LIMIT = 900.0
COMPILE_LIMIT = 300.0
_LAYOUT = 1
"""Raise when what this module writes changes for the same inputs."""

Progress = Callable[[str, float | None], None]


@dataclass(frozen=True)
class _Plan:
    """What would be built for a recipe here: keys, the lowest layer first."""

    host: sources.HostSources
    base_key: str
    python_key: str | None
    trees: tuple[tuple[str, Tree], ...]
    containers_key: str | None
    release: str

    @property
    def keys(self) -> list[str]:
        """Keys of all layers, the topmost first."""
        trees = [key for key, _ in reversed(self.trees)]
        return [key for key in (self.containers_key, *trees, self.python_key, self.base_key) if key]

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.keys)


def _plan(recipe: Recipe, host: sources.HostSources | None = None) -> _Plan:
    host = host or sources.read()
    base_inputs = [base.LAYOUT, host.inputs(), base.packages(recipe), recipe.units]
    base_key = f"base-{fingerprint(*base_inputs)}"
    # What is compiled for the image's Python depends on the release alone.
    python = [_LAYOUT, host.distribution, host.suite, host.architecture]
    images = [image.key for image in recipe.container_images]
    # Databases of containerd are written by the release's version.
    release = fingerprint(*python, preloaded.STORE_LAYOUT)
    return _Plan(
        host,
        base_key,
        f"python-{fingerprint(*python, recipe.python)}" if recipe.python else None,
        tuple(
            (f"{tree.name}-{fingerprint(*python, tree.name, tree.inputs)}", tree)
            for tree in recipe.trees
        ),
        f"containers-{fingerprint(release, preloaded.LAYOUT, images)}" if images else None,
        release,
    )


def fingerprint_of(recipe: Recipe) -> str:
    """The fingerprint that `build` would return here; builds nothing, needs no privileges."""
    return _plan(recipe).fingerprint


def build(recipe: Recipe, events: Events, host: sources.HostSources | None = None) -> ImagePaths:
    """Build the layers that are not in the cache, from the sources of this host by default.

    Raises:
        NotPossibleHere: a layer is missing and we are not root, or the host has no sources, or
            nothing can be fetched here.
        StepFailed: packages could not be had, or the disk is full; with the last output.
    """
    plan = _plan(recipe, host)
    layers = [Layer(plan.base_key, "Debian packages", _base(recipe, plan.host))]
    if plan.python_key:
        layers.append(Layer(plan.python_key, "Python packages", _python(recipe, plan.base_key)))
    _prepare(plan, events)
    for key, tree in plan.trees:
        layers.append(Layer(key, tree.name.replace("_", " "), _tree(tree, plan.base_key)))
    if plan.containers_key:
        make = _containers(recipe, plan)
        layers.append(Layer(plan.containers_key, "container images", make))
    folders.make_folder(store.images_folder(), folders.PRIVATE_FOLDER)
    for layer in layers:
        if store.is_built(layer.key):
            continue
        base.need_root()
        step_name = f"image: {layer.title}"
        with events.step("infrastructure", step_name, "packages and files") as step:
            step.changed = store.ensure(layer, step.progress)
    return store.save(plan.fingerprint, plan.keys)


def _prepare(plan: _Plan, events: Events) -> None:
    """Fetch what takes long; one error names all that cannot be had."""
    missing = []
    for key, tree in plan.trees:
        if tree.prepare is not None and not store.is_built(key):
            try:
                tree.prepare(events)
            except NotPossibleHere as error:
                missing.append(error)
    if missing:
        first, *more = missing
        first.message = "\n".join([first.message, *(error.message for error in more)])
        first.output = "\n".join([first.output, *(error.output for error in more)])
        raise first


def _base(recipe: Recipe, host: sources.HostSources) -> Callable[[Path, Progress], dict[str, Any]]:
    def make(root: Path, progress: Progress) -> dict[str, Any]:
        return base.make(root, recipe, host, progress)

    return make


def _python(recipe: Recipe, base_key: str) -> Callable[[Path, Progress], dict[str, Any]]:
    def make(root: Path, progress: Progress) -> dict[str, Any]:
        target = root / PYTHON_FOLDER.lstrip("/")
        target.mkdir(parents=True)
        version = store.record(base_key)["python"]
        install_python(recipe.python, target, version, store.temporary_files(root), progress)
        progress("compiling", 0.8)
        _compile(root, base_key)
        _like_the_base(root, base_key)
        found = sorted(path.name.removesuffix(".dist-info") for path in target.glob("*.dist-info"))
        packages = dict(name.split("-", 1) for name in found)
        return {"python": version, "packages": packages}

    return make


def install_python(  # noqa: PLR0913  what, where, for what, and whom to tell
    requirements: tuple[str, ...],
    target: Path,
    version: str,
    temporary: Path,
    progress: Progress,
    *,
    platforms: Sequence[str] = (),
) -> None:
    """Install requirements into a folder, for the Python of a machine with that version.

    `platforms` are what wheels may be made for, as `manylinux_2_28_aarch64`; this host's when empty.

    Raises:
        NotPossibleHere: no index can be reached.
        StepFailed: some cannot be had, or not for that Python.
    """
    arguments = (
        sys.executable,
        "-m",
        "pip",
        "install",
        f"--target={target}",
        # Goes before one in a `pip.conf`, which does not go together with a target.
        "--prefix=",
        f"--python-version={version}",
        "--implementation=cp",
        *(f"--platform={platform}" for platform in platforms),
        "--only-binary=:all:",
        "--no-compile",
        "--no-input",
        "--disable-pip-version-check",
        "--no-warn-conflicts",
        "--root-user-action=ignore",
        "--progress-bar=off",
        *requirements,
    )
    try:
        for line in stream_on_host(isolated.dying_with_us(arguments, PIP_LIMIT, temporary)):
            if line.startswith(("Collecting ", "  Downloading ", "Installing ")):
                progress(" ".join(line.split()[:2]), None)
    except StepFailed as error:
        if sources.is_unreachable(error.output):
            raise NotPossibleHere(
                "Python packages of the machine image are not in the cache, "
                "and no index that has them can be reached",
                where=", ".join(requirements),
                output="\n".join(error.output.splitlines()[-3:]),
                hint=f"`pip config list` shows where this host looks; {sources.HOW_TO_BRING}",
            ) from error
        raise StepFailed(
            "Python packages for the machine image could not be installed",
            where=error.where,
            output=error.output,
            hint="check pip's configuration on this host (`pip config list`) and the network",
        ) from error


def _tree(tree: Tree, base_key: str) -> Callable[[Path, Progress], dict[str, Any]]:
    def make(root: Path, progress: Progress) -> dict[str, Any]:
        def tell(detail: str) -> None:
            progress(detail, None)

        tree.write(root, tell)
        _compile(root, base_key)
        _like_the_base(root, base_key)
        return {"inputs": tree.inputs}

    return make


def _containers(recipe: Recipe, plan: _Plan) -> Callable[[Path, Progress], dict[str, Any]]:
    def make(root: Path, progress: Progress) -> dict[str, Any]:
        below = store.images_folder() / plan.base_key / "root"
        return preloaded.make(root, recipe.container_images, below, plan.release, progress)

    return make


def _compile(root: Path, base_key: str) -> None:
    """Compile Python files with the image's Python, so that a machine's first import is quick."""
    with_code = sorted({f"/{path.parent.relative_to(root)}" for path in root.rglob("*.py")})
    if not with_code:
        return
    building = root.parent
    inside = (
        sys.executable,
        "-m",
        "continuum.images.inside",
        str(store.images_folder() / base_key / "root"),
        str(root),
        str(building / "work"),
        str(building / "point"),
    )
    compile_all = ("python3", "-m", "compileall", "-q", "-l", *with_code)
    result = run_on_host(isolated.in_own_namespaces((*inside, *compile_all), COMPILE_LIMIT))
    # Status 1: some file is not valid for this Python, as test data of packages often is.
    if result.exit_code not in (0, 1) or not any(root.rglob("*.pyc")):
        result.check("Python files of the machine image could not be compiled")
    store.remove(building / "work")
    store.remove(building / "point")


def _like_the_base(root: Path, base_key: str) -> None:
    """Give all to root, and folders that the base has too the mode that they have there.

    In a stack of layers the topmost folder's owner and mode count, whoever's umask made it.
    """
    below = store.images_folder() / base_key / "root"
    for path in (root, *root.rglob("*")):
        os.chown(path, 0, 0, follow_symlinks=False)
        if path.is_symlink():
            continue
        same = below / path.relative_to(root)
        if path.is_dir():
            path.chmod(same.stat().st_mode & 0o7777 if same.is_dir() else 0o755)
        else:
            path.chmod(path.stat().st_mode | 0o444)
