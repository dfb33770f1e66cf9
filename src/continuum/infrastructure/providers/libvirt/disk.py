"""What virtual machines of one image boot from: a disk, a kernel, and what the kernel starts from.

Made once from the image's layers, kept beside them in the cache under the hash of its inputs. Each
machine has a disk of its own over it, which holds what the machine has written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from continuum.errors import NotFound, StepFailed
from continuum.events import Events
from continuum.images import isolated, store
from continuum.images.recipe import fingerprint
from continuum.images.store import Layer
from continuum.infrastructure.providers.libvirt import initramfs
from continuum.infrastructure.providers.libvirt.domain import Boot
from continuum.machine import Command, run_on_host

LAYOUT = 1
"""Raise when what this module writes changes for the same inputs."""

SIZE = "64G"
"""Of a machine's disk; it takes room on the host only for what is written."""

_LIMIT = 900.0
_DISK, _KERNEL, _INITRAMFS, _TRIAL = "disk.qcow2", "kernel", "initramfs", "trial"

Progress = Callable[[str, float | None], None]


def build(image: str, events: Events) -> None:
    """Make what machines of that image boot from, unless it is in the cache."""
    made_as = key(image)
    if store.is_built(made_as):
        return
    layers = store.find(image).layers

    def make(root: Path, progress: Progress) -> dict[str, Any]:
        return _make(root, layers, progress)

    with events.step(
        "infrastructure", "image: disk", "a file system of the image's layers"
    ) as step:
        step.changed = store.ensure(Layer(made_as, "disk of virtual machines", make), step.progress)


def find(image: str) -> Boot:
    """What machines of that image boot from.

    Raises:
        NotFound: it is not in the cache.
    """
    if not store.is_built(key(image)):
        raise NotFound(
            f"the disk of machine image {image} is not in the cache", hint="continuum up"
        )
    root = _root(image)
    return Boot(root / _DISK, root / _KERNEL, root / _INITRAMFS)


def trial(image: str) -> tuple[Path, Path]:
    """Kernel and archive of a trial whether this host runs guests."""
    return _root(image) / _KERNEL, _root(image) / _TRIAL


def kernel_version(image: str) -> str:
    """Version of the kernel that machines of that image run."""
    version: str = store.record(key(image))["kernel"]
    return version


def make_overlay(base: Path, disk: Path) -> None:
    """A machine's own disk: empty, over the image's."""
    temporary = disk.with_name(f".{disk.name}.new")
    arguments = ("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base))
    run_on_host(Command((*arguments, str(temporary)))).check(
        f"the disk {disk} cannot be made", hint="continuum doctor --provider libvirt"
    )
    temporary.replace(disk)


def key(image: str) -> str:
    """Where it lies in the cache, as a layer does."""
    scripts = [initramfs.INIT, initramfs.TRIAL_INIT, list(initramfs.DRIVERS)]
    return f"disk-{fingerprint(LAYOUT, SIZE, scripts, image)}"


def _root(image: str) -> Path:
    return store.images_folder() / key(image) / "root"


def _make(root: Path, layers: tuple[Path, ...], progress: Progress) -> dict[str, Any]:
    # The kernel is a Debian package like others: it is in the lowest layer.
    system = layers[-1]
    kernel = _newest(system / "boot", "vmlinuz-*")
    version = kernel.name.removeprefix("vmlinuz-")
    (root / _KERNEL).write_bytes(kernel.read_bytes())
    (root / _INITRAMFS).write_bytes(initramfs.make(system, version))
    (root / _TRIAL).write_bytes(initramfs.make_trial(system))
    progress("writing the file system", 0.1)
    raw = root.parent / "raw"
    point = root.parent / "point"
    _run(
        (
            *(sys.executable, "-m", "continuum.images.merged"),
            *(":".join(str(layer) for layer in layers), str(point)),
            *("mkfs.ext4", "-q", "-F", "-L", "continuum", "-d", str(point)),
            *("-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"),
            *(str(raw), SIZE),
        ),
        "the file system of the machine image cannot be written",
        root,
    )
    progress("packing the disk", 0.7)
    _run(
        ("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(root / _DISK)),
        "the disk of the machine image cannot be packed",
        root,
    )
    raw.unlink()
    store.remove(point)
    return {"kernel": version}


def _run(program: tuple[str, ...], failure: str, root: Path) -> None:
    command = isolated.in_own_namespaces(program, _LIMIT, store.temporary_files(root))
    run_on_host(command).check(failure, hint="continuum doctor --provider libvirt")


def _newest(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise StepFailed(
            "the machine image has no kernel", where=str(folder), hint="remove the folder's layer"
        )
    return found[-1]
