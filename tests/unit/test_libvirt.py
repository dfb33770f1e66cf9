"""Virtual machines: what they are made of, what they start from, and what is refused."""

from __future__ import annotations

import io
import ipaddress
import json
import os
import stat
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

import made_up_plans
from continuum.errors import NotPossibleHere
from continuum.images import sources
from continuum.images.recipe import Recipe
from continuum.infrastructure.host import machine_files
from continuum.infrastructure.host.keys import KeyPair
from continuum.infrastructure.plan import InfrastructurePlan, MachineSpec
from continuum.infrastructure.providers.libvirt import fit, initramfs, kvm, platforms, seed
from continuum.infrastructure.providers.libvirt.domain import (
    Boot,
    Domain,
    Host,
    Label,
    domain_xml,
    spec_fingerprint,
)
from made_up_plans import CLOUD, EDGE

GOLDEN = Path(__file__).parents[1] / "golden" / "libvirt"
GIB = 2**30
AMD64, ARM64 = platforms.PLATFORMS["amd64"], platforms.PLATFORMS["arm64"]

PLAN = replace(made_up_plans.PLAN, provider="libvirt")
LABEL = Label("offload", "/home/me/state", "0badcafe", "edge-1", "fedcba9876543210")
BOOT = Boot(Path("/cache/disk.qcow2"), Path("/cache/kernel"), Path("/cache/initramfs"))


def golden(name: str, text: str) -> None:
    if os.environ.get("CONTINUUM_UPDATE_FILES"):
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()


def definition(plan: InfrastructurePlan, spec: MachineSpec, host: Host) -> str:
    domain = Domain.of(spec.name, Path("/state/a & b/machines"), plan.identity)
    label = replace(LABEL, machine=spec.name)
    return domain_xml(plan, spec, domain, label=label, boot=BOOT, host=host)


def test_a_machine_with_every_limit_by_kvm() -> None:
    golden(
        "limits-kvm.xml",
        definition(PLAN, EDGE, Host(AMD64, accelerated=True, security_models=("apparmor",))),
    )


def test_emulated_processors_lack_what_is_slow_to_emulate() -> None:
    text = definition(PLAN, EDGE, Host(AMD64, accelerated=False))
    assert '<feature policy="disable" name="avx" />' in text
    by_kvm = definition(PLAN, EDGE, Host(AMD64, accelerated=True, security_models=()))
    assert "<feature policy" not in by_kvm


def test_packets_are_as_large_as_the_way_to_other_hosts_allows() -> None:
    narrow = replace(PLAN, network=replace(PLAN.network, mtu=1450))
    assert '<mtu size="1450" />' in definition(narrow, EDGE, Host(AMD64, accelerated=False))


def test_a_machine_that_carries_containers_in_emulation_on_arm() -> None:
    open_plan = replace(PLAN, network=replace(PLAN.network, internet=True))
    golden(
        "nested-emulated-arm64.xml", definition(open_plan, CLOUD, Host(ARM64, accelerated=False))
    )


def test_a_label_is_read_back_and_others_are_not_ours() -> None:
    import xml.etree.ElementTree as ET

    assert Label.read(ET.tostring(LABEL.element(), encoding="unicode")) == LABEL
    assert Label.read("<other/>") is None
    assert Label.read("no xml") is None


def test_what_makes_a_machine_anew_and_what_does_not() -> None:
    before = spec_fingerprint(PLAN, EDGE, 1)
    pods = ipaddress.IPv4Network("10.1.1.128/25")
    assert spec_fingerprint(PLAN, replace(EDGE, pods=pods), 1) == before
    assert spec_fingerprint(PLAN, replace(EDGE, host="host-2"), 1) == before
    assert spec_fingerprint(PLAN, replace(EDGE, memory=2 * GIB), 1) != before
    assert spec_fingerprint(PLAN, EDGE, 2) != before


# -- what they start from ------------------------------------------------------------------------


def test_the_script_that_the_kernel_starts() -> None:
    golden("init", initramfs.INIT)


@pytest.mark.parametrize("script", [initramfs.INIT, initramfs.TRIAL_INIT])
def test_the_scripts_are_shell(script: str) -> None:
    subprocess.run(["sh", "-n"], input=script.encode(), check=True, timeout=10)


def test_modules_are_loaded_after_those_that_they_need() -> None:
    dependencies = (
        "kernel/virtio/virtio.ko:\n"
        "kernel/virtio/virtio_ring.ko: kernel/virtio/virtio.ko\n"
        "kernel/block/virtio_blk.ko: kernel/virtio/virtio_ring.ko kernel/virtio/virtio.ko\n"
        "kernel/rng/virtio-rng.ko.zst: kernel/virtio/virtio_ring.ko kernel/virtio/virtio.ko\n"
    )
    assert initramfs.load_order(dependencies, ["virtio_blk", "ext4", "virtio_rng"]) == [
        "kernel/virtio/virtio.ko",
        "kernel/virtio/virtio_ring.ko",
        "kernel/block/virtio_blk.ko",
        "kernel/rng/virtio-rng.ko.zst",
    ]


def test_the_archive_is_as_the_kernel_reads_it() -> None:
    """Records of newc: a header of 110 bytes, the name, the content, each padded to four bytes."""
    entries = [
        initramfs.Entry("bin", None, 0o755),
        initramfs.Entry("bin/odd", b"12345", 0o755),
        initramfs.Entry("empty", b"", 0o644),
    ]
    packed = initramfs.archive(entries)
    found, at = [], 0
    while at < len(packed):
        assert packed[at : at + 6] == b"070701"
        numbers = [int(packed[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, length = numbers[1], numbers[6], numbers[11]
        name = packed[at + 110 : at + 109 + length].decode()
        start = at + 110 + length + -(110 + length) % 4
        found.append((name, mode, packed[start : start + size]))
        at = start + size + -size % 4
    assert found == [
        ("bin", stat.S_IFDIR | 0o755, b""),
        ("bin/odd", stat.S_IFREG | 0o755, b"12345"),
        ("empty", stat.S_IFREG | 0o644, b""),
        ("TRAILER!!!", 0, b""),
    ]


def test_the_seed_holds_a_machines_own_files() -> None:
    key = KeyPair(b"secret", "ssh-ed25519 AAA")
    files = machine_files.files(PLAN, EDGE, key, "ssh-ed25519 BBB", "")
    disk = seed.seed(files)
    assert len(disk) % 512 == 0
    assert disk == seed.seed(dict(reversed(list(files.items()))))
    with tarfile.open(fileobj=io.BytesIO(disk)) as archive:
        listing = "".join(
            f"{entry.mode:04o} {entry.uid}:{entry.gid} {entry.size:>4} {entry.name}\n"
            for entry in archive.getmembers()
        )
    golden("seed", listing)


def test_the_kernel_is_a_package_of_the_image_like_others() -> None:
    recipe = platforms.with_kernel(Recipe.collect([]))
    kernel = platforms.kernel_package(sources.read().distribution, sources.architecture())
    assert {kernel, "kmod", "busybox-static"} < set(recipe.packages)
    assert platforms.with_kernel(recipe) == recipe
    assert platforms.kernel_package("debian", "arm64") == "linux-image-cloud-arm64"
    assert platforms.kernel_package("ubuntu", "amd64") == "linux-image-virtual"


# -- what is refused -----------------------------------------------------------------------------


def test_machines_that_fit_are_not_refused() -> None:
    fit.refuse(PLAN, 4 * GIB)
    fit.refuse(PLAN, None)


def test_more_memory_than_the_host_has_is_refused_with_what_would_fit() -> None:
    with pytest.raises(NotPossibleHere) as raised:
        fit.refuse(PLAN, 3 * GIB)
    error = raised.value
    assert "3.00 GiB" in error.message or "3 GiB" in error.message
    assert "1 × 2 GiB (cloud), 1 × 1 GiB (edge)" in error.where
    assert error.hint == ("--set tiers.cloud.memory=1600MiB --set tiers.edge.memory=768MiB")
    smaller = {"cloud": 1600 * 2**20, "edge": 768 * 2**20}
    fitting = tuple(replace(spec, memory=smaller[spec.tier]) for spec in PLAN.machines)
    fit.refuse(replace(PLAN, machines=fitting), 3 * GIB)


def test_where_smaller_machines_would_not_boot_fewer_are_advised() -> None:
    many = tuple(replace(EDGE, name=f"edge-{n}", memory=512 * 2**20) for n in range(1, 41))
    plan = replace(PLAN, machines=many)
    with pytest.raises(NotPossibleHere) as raised:
        fit.refuse(plan, 8 * GIB)
    assert raised.value.hint == "--set tiers.edge.machines=13"
    fit.refuse(replace(plan, machines=many[:13]), 8 * GIB)


def test_a_machine_too_small_to_boot_is_refused() -> None:
    tiny = replace(PLAN, machines=(replace(EDGE, memory=128 * 2**20),))
    with pytest.raises(NotPossibleHere, match="a virtual machine needs") as raised:
        fit.refuse(tiny, 8 * GIB)
    assert raised.value.hint == "--set tiers.edge.memory=256MiB"


def test_a_host_with_another_processor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "architecture", lambda: "riscv64")
    with pytest.raises(NotPossibleHere, match="riscv64"):
        platforms.here()


# -- KVM -----------------------------------------------------------------------------------------


def _qemu(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    program = folder / AMD64.emulator
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("program", "works", "reason"),
    [
        (f"echo booting; echo {initramfs.ALIVE}", True, "a guest booted"),
        ("echo 'failed to initialize kvm' >&2; exit 1", False, "failed to initialize kvm"),
        ("echo early; exec sleep 60", False, "did not boot within"),
    ],
)
def test_a_trial_shows_whether_the_processor_runs_guests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, works: bool, reason: str
) -> None:
    _qemu(tmp_path, monkeypatch, program)
    monkeypatch.setattr(kvm, "LIMIT", 0.5)
    found = kvm.attempt(AMD64, tmp_path / "kernel", tmp_path / "archive")
    assert found.works is works
    assert reason in found.reason


def test_what_was_found_out_counts_until_the_host_restarts(tmp_path: Path) -> None:
    device, kept = tmp_path / "kvm", tmp_path / "kept"
    assert kvm.known(device, kept).works is False
    device.touch()
    assert kvm.known(device, kept).works is None
    boot = kvm.BOOT_ID.read_text().strip()
    for works in (True, False):
        kept.write_text(json.dumps({"boot": boot, "works": works, "reason": "tried"}))
        assert kvm.known(device, kept) == kvm.Kvm(works, "tried")
    kept.write_text(json.dumps({"boot": "another", "works": True, "reason": "tried"}))
    assert kvm.known(device, kept).works is None
    kept.write_text("damaged")
    assert kvm.known(device, kept).works is None
