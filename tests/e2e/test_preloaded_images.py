"""Container images in machine images: whatever happens while they are put there."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from continuum.errors import StepFailed
from continuum.events import Event, Events, StepProgress
from continuum.images import build, containers, oci, store
from continuum.images.recipe import ContainerImages, Recipe
from continuum.testing import host_state

pytestmark = pytest.mark.e2e

MARK = "/.containers-"


def image(name: str, size: int) -> containers.ContainerImage:
    content = oci.File(os.urandom(16) * (size // 16))
    whole = oci.Name(f"{containers.REPOSITORY}/{name}", os.urandom(8).hex())
    return containers.of_files(name, whole, lambda: {"/big": content}, oci.Config())


@pytest.fixture
def made() -> Iterator[Recipe]:
    """A recipe whose layer and archives leave the shared cache again."""
    images = (image("e2e-a", 2**20), image("e2e-b", 300 * 2**20))
    wanted = Recipe.collect([ContainerImages(images)])
    yield wanted
    for key in (layer_of(wanted), *(image.key for image in images)):
        store.remove(store.images_folder() / key)
        (store.images_folder() / f".{key}.lock").unlink(missing_ok=True)
    (store.images_folder() / f"{build.fingerprint_of(wanted)}.json").unlink(missing_ok=True)


def layer_of(recipe: Recipe) -> str:
    key = build._plan(recipe).containers_key
    assert key is not None
    return key


def left() -> set[str]:
    """Mounts and programs of a build; others on this host may come and go meanwhile."""
    found = {each for each in host_state.snapshot()["mounts"] if MARK in each}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            title = path.read_bytes().decode(errors="replace")
            found |= {title} if MARK in title else set()
    return found


def killed_when_half_done(wanted: Recipe) -> None:
    """Build in a process of its own, which kills itself when the first image is in."""
    child = os.fork()
    if child == 0:

        def die(event: Event) -> None:
            if isinstance(event, StepProgress) and event.detail.startswith("unpacked"):
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            build.build(wanted, Events([die]))
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


def test_a_build_that_is_killed_leaves_nothing_and_the_next_one_ends(made: Recipe) -> None:
    before = left()
    killed_when_half_done(made)
    end = time.monotonic() + 20
    while left() - before:
        assert time.monotonic() < end, left() - before
        time.sleep(0.05)
    key = layer_of(made)
    assert not store.is_built(key)
    assert build.build(made, Events()).layers[0].parent.name == key
    references = [image.reference for image in made.container_images]
    assert store.record(key)["container_images"] == references
    assert not (store.images_folder() / f".{key}.building").exists()


def test_what_is_no_image_is_refused_with_containerds_words(made: Recipe) -> None:
    broken = made.container_images[0]
    containers.archive(broken, lambda *_: None).archive.write_bytes(b"no archive")
    with pytest.raises(StepFailed, match="container images could not be put") as caught:
        build.build(made, Events())
    assert broken.reference in caught.value.where
    assert "ctr" in caught.value.output
