"""Container images of single programs from the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from continuum.artifacts.catalogue import Wanted, identity
from continuum.images import containers, oci

if TYPE_CHECKING:
    from continuum.artifacts.store import ArtifactStore

PROGRAMS = "/usr/local/bin"
"""Where the program lies in its image."""

_ARGUMENTS: dict[str, tuple[str, ...]] = {"pause": ("-P",)}


def program_image(store: ArtifactStore, wanted: Wanted) -> containers.ContainerImage:
    """The image of one program that needs nothing beside itself: one layer, one file.

    Its reference is known at once; the program is fetched when the archive is written. It is also
    tagged with the program's version, since kubeadm asks for its images by versions.
    """
    path = f"{PROGRAMS}/{wanted.name}"

    def files() -> Mapping[str, oci.File]:
        return {path: oci.File(store.fetch_all([wanted])[0].path)}

    return containers.of_files(
        str(wanted),
        oci.Name(f"{containers.REPOSITORY}/{wanted.name}", identity(wanted), (wanted.version,)),
        files,
        oci.Config(
            entrypoint=(path, *_ARGUMENTS.get(wanted.name, ())),
            architecture=wanted.architecture,
        ),
    )
