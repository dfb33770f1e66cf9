"""Container images in the cache: written once, by the hash of what decides their content."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from continuum import folders
from continuum.images import oci, store
from continuum.images.recipe import PYTHON_FOLDER, RUNTIME_FOLDER, fingerprint
from continuum.images.sources import architecture

REPOSITORY = "continuum.local"
"""First part of our images' names; no server has this name, so nothing is ever pulled from it."""

_LAYOUT = 1
"""Raise when what this module writes changes for the same inputs."""

_ARCHIVE = "image.tar"

# What a container has no use for.
_LEFT_OUT = ("boot", "dev", "proc", "run", "sys", "tmp", "usr/share/doc", "var/cache", "var/log")

Progress = Callable[[str, float | None], None]


@dataclass(frozen=True)
class ContainerImage:
    """A container image before it is written.

    Attributes:
        title: what it is, as `etcd v3.6.8`.
        name: with the hash of what decides its content as its tag.
        config: how it starts.
        layers: writes them into a folder, the lowest first; called when it is not in the cache.
    """

    title: str
    name: oci.Name
    config: oci.Config
    layers: Callable[[Path], Sequence[oci.Layer]]

    @property
    def key(self) -> str:
        """Its folder in the cache of images."""
        return f"container-{fingerprint(_LAYOUT, asdict(self.name), asdict(self.config))}"

    @property
    def reference(self) -> str:
        """Its whole name, as `continuum.local/etcd:0f3e…`; known before it is written."""
        return f"{self.name.repository}:{self.name.tag}"


def of_files(
    title: str, name: oci.Name, files: Callable[[], Mapping[str, oci.File]], config: oci.Config
) -> ContainerImage:
    """An image of single files in one layer; `files` is called when they are needed."""
    return ContainerImage(
        title,
        name,
        config,
        lambda folder: (oci.layer_of_files(files(), folder / "layer.tar"),),
    )


def of_machine_layers(name: str, layers: Sequence[Path], config: oci.Config) -> ContainerImage:
    """An image made of layers of machine images, the lowest first: programs as machines have them.

    `layers` are root folders in the cache. Python finds our packages as it does in machines.
    """
    keys = [path.parent.name for path in layers]
    environment = {"PYTHONPATH": f"{RUNTIME_FOLDER}:{PYTHON_FOLDER}", **config.environment}

    def write(folder: Path) -> list[oci.Layer]:
        return [
            oci.layer_of_folder(path, folder / f"layer-{number}.tar", keep=_wanted)
            for number, path in enumerate(layers)
        ]

    return ContainerImage(
        name,
        oci.Name(f"{REPOSITORY}/{name}", fingerprint(_LAYOUT, keys)),
        oci.Config(
            entrypoint=config.entrypoint,
            command=config.command,
            environment=environment,
            working_directory=config.working_directory,
            architecture=architecture(),
        ),
        write,
    )


def archive(image: ContainerImage, progress: Progress) -> oci.Image:
    """The image's archive in the cache; written now, unless it is there."""

    def make(root: Path, tell: Progress) -> dict[str, Any]:
        tell(f"writing {image.reference}", None)
        work = folders.make_folder(root.parent / "layers")
        written = oci.write(root / _ARCHIVE, image.name, image.layers(work), image.config)
        folders.remove_tree(work)
        return {"name": written.name, "digest": written.digest}

    store.ensure(store.Layer(image.key, image.title, make), progress)
    record = store.record(image.key)
    return oci.Image(
        record["name"], record["digest"], store.images_folder() / image.key / "root" / _ARCHIVE
    )


def _wanted(path: str) -> bool:
    return path not in _LEFT_OUT
