"""Container images in machine images: whatever happens while they are put there."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from continuum.errors import StepFailed
from continuum.events import Event, Events, StepProgress
from continuum.images import build, containers, oci, preloaded, store
from continuum.images.recipe import ContainerImages, Recipe
from continuum.testing import host_state

pytestmark = pytest.mark.e2e

MARK = "/.containers-"


def image(name: str, size: int = 2**20) -> containers.ContainerImage:
    content = oci.File(os.urandom(16) * (size // 16))
    whole = oci.Name(f"{containers.REPOSITORY}/{name}", os.urandom(8).hex())
    return containers.of_files(name, whole, lambda: {"/big": content}, oci.Config())


@pytest.fixture
def recipe_of() -> Iterator[Callable[..., Recipe]]:
    """Recipes whose layers leave the shared cache again."""
    made: list[Recipe] = []

    def make(*images: containers.ContainerImage) -> Recipe:
        made.append(Recipe.collect([ContainerImages(images)]))
        return made[-1]

    yield make
    for recipe in made:
        store.remove(store.images_folder() / layer_of(recipe))
        (store.images_folder() / f".{layer_of(recipe)}.lock").unlink(missing_ok=True)
        (store.images_folder() / f"{build.fingerprint_of(recipe)}.json").unlink(missing_ok=True)


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


def test_a_build_that_is_killed_leaves_nothing_and_the_next_one_ends(
    recipe_of: Callable[..., Recipe],
) -> None:
    made = recipe_of(image("e2e-a"), image("e2e-b", 300 * 2**20))
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


def test_what_another_layer_has_is_shared_with_it_and_no_more(
    recipe_of: Callable[..., Recipe],
) -> None:
    common, old, new = image("e2e-common"), image("e2e-old"), image("e2e-new")
    first = build.build(recipe_of(common, old), Events()).layers[0]
    told: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, StepProgress):
            told.append(event.detail)

    second = build.build(recipe_of(common, new), Events([hear])).layers[0]
    assert [each for each in told if each.startswith("unpacked")] == [f"unpacked {new.reference}"]

    def content(layer: Path) -> dict[bytes, int]:
        found = layer.glob(f"{preloaded.LAYERS.lstrip('/')}/layers/*/big")
        return {path.read_bytes(): path.stat().st_ino for path in found}

    before, after = content(first), content(second)
    assert len(before) == len(after) == 2
    (shared,) = before.keys() & after.keys()
    assert before[shared] == after[shared]
    links = list((second / preloaded.SKELETON.lstrip("/")).rglob("*"))
    inside = {str(path.readlink()) for path in links if path.is_symlink()}
    assert all((second / target.lstrip("/")).exists() for target in inside)


def test_what_is_no_image_is_refused_with_containerds_words(
    recipe_of: Callable[..., Recipe],
) -> None:
    def write(target: Path, _: Path, __: containers.Progress) -> oci.Image:
        target.write_bytes(b"no archive")
        return oci.Image("continuum.local/broken:1", "", target)

    name = oci.Name("continuum.local/broken", os.urandom(8).hex())
    broken = containers.ContainerImage("broken", name, None, write)
    with pytest.raises(StepFailed, match="container images could not be put") as caught:
        build.build(recipe_of(broken), Events())
    assert "continuum.local/broken" in caught.value.where
    assert "ctr" in caught.value.output
