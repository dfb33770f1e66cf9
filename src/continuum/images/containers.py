"""Container images: known by the hash of what decides their content before they are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from continuum import folders
from continuum.events import Event, Events, StepProgress
from continuum.images import oci
from continuum.images.recipe import PYTHON_FOLDER, RUNTIME_FOLDER, fingerprint
from continuum.images.sources import architecture

if TYPE_CHECKING:
    from continuum.images.recipe import Recipe

REPOSITORY = "continuum.local"
"""First part of our images' names; no server has this name, so nothing is ever pulled from it."""

_LAYOUT = 3
"""Raise when what this module writes changes for the same inputs."""

# What a container has no use for.
_LEFT_OUT = ("boot", "dev", "proc", "run", "sys", "usr/share/doc", "var/cache", "var/log")

Progress = Callable[[str, float | None], None]


@dataclass(frozen=True)
class ContainerImage:
    """A container image before it is written.

    Attributes:
        title: what it is, as `etcd v3.6.8`.
        name: with the hash of what decides its content as its tag.
        inputs: what decides its content beside its name, as JSON has it.
        write: writes its archive to the first path, with the second one, a folder, for what it
            needs meanwhile, and tells how far it is.
    """

    title: str
    name: oci.Name
    inputs: Any
    write: Callable[[Path, Path, Progress], oci.Image]

    @property
    def key(self) -> str:
        """Hash of all that decides its content and its names."""
        return fingerprint(_LAYOUT, asdict(self.name), self.inputs)

    @property
    def reference(self) -> str:
        """Its whole name, as `continuum.local/etcd:0f3e…`; known before it is written."""
        return f"{self.name.repository}:{self.name.tag}"

    @property
    def names(self) -> tuple[str, ...]:
        """All its whole names, this one first."""
        tags = dict.fromkeys((self.name.tag, *self.name.more_tags))
        return tuple(f"{self.name.repository}:{tag}" for tag in tags)


def of_files(
    title: str, name: oci.Name, files: Callable[[], Mapping[str, oci.File]], config: oci.Config
) -> ContainerImage:
    """An image of single files in one layer; `files` is called when they are needed."""

    def write(target: Path, work: Path, progress: Progress) -> oci.Image:
        del progress
        layer = oci.layer_of_files(files(), work / "layer.tar")
        return oci.write(target, name, [layer], config)

    return ContainerImage(title, name, asdict(config), write)


def of_recipe(name: str, recipe: Recipe, config: oci.Config) -> ContainerImage:
    """An image made of the same layers as a machine of that recipe: programs as machines have them.

    The layers are built when they are needed. Python finds our packages as it does in machines.

    Raises:
        NotPossibleHere: this host has no sources for packages.
    """
    from continuum.images import build  # noqa: PLC0415  it carries out what is described here

    content = replace(recipe, container_images=(), boots=False)
    environment = {"PYTHONPATH": f"{RUNTIME_FOLDER}:{PYTHON_FOLDER}", **config.environment}

    whole = oci.Name(f"{REPOSITORY}/{name}", fingerprint(_LAYOUT, build.fingerprint_of(content)))
    config = replace(config, environment=environment, architecture=architecture())

    def write(target: Path, work: Path, progress: Progress) -> oci.Image:
        def tell(event: Event) -> None:
            if isinstance(event, StepProgress):
                progress(event.detail, event.fraction)

        built = build.build(content, Events([tell]))
        layers = [
            oci.layer_of_folder(path, work / f"layer-{number}.tar", keep=_wanted)
            for number, path in enumerate(reversed(built.layers))
        ]
        return oci.write(target, whole, layers, config)

    return ContainerImage(name, whole, asdict(config), write)


def archive(image: ContainerImage, folder: Path, progress: Progress) -> oci.Image:
    """The image's archive, written into the folder now.

    Raises:
        StepFailed: what it is made of cannot be built or read.
        NotPossibleHere: what it is made of cannot be had here.
    """
    progress(f"writing {image.reference}", None)
    work = folders.make_folder(folder / f"{image.key}.layers")
    written = image.write(folder / f"{image.key}.tar", work, progress)
    folders.remove_tree(work)
    return written


def _wanted(path: str) -> bool:
    return path not in _LEFT_OUT and not path.startswith("tmp/")
