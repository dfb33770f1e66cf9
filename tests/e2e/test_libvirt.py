"""Virtual machines on this host: the example, a disk that does not boot, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from continuum.benchmark.samples import read_links
from run_reasons import defects

pytestmark = pytest.mark.e2e

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "virtual-machines" / "experiment.toml"
NAME = "virtual-machines"
QUICK = ("--set", "benchmark.duration=10s", "--set", "benchmark.frequency=0.1Hz")


def _virsh(*arguments: str) -> str:
    ended = subprocess.run(
        ["virsh", "--quiet", "--connect", "qemu:///system", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def _domain(shared: Any, machine: str) -> str:
    """The virtual machine of one of the test's own machines; others may have some too."""
    folder = shared.state / "continuum" / "deployments" / NAME / "machines"
    return str(next(folder.glob(f"ctm-*-{machine}")).name)


def test_three_machines_run_a_benchmark_over_links_of_their_own_kernels(
    shared: Any, tmp_path: Path
) -> None:
    # In software emulation a busy host delays packets by more than links are allowed to be off.
    ended = shared("run", EXAMPLE, *QUICK, "--accept-links", "--results", tmp_path / "out")
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert defects(run) == []
    assert (run["provider"], run["emulator"], run["quota_covers"]) == ("libvirt", "netem", "core")
    assert run["clock"]["one_clock"] is False
    assert run["table"][0]["ok"] > 0
    assert {"libvirt", "kernel (in machines)"} < set(run["versions"])
    emulated = "software emulation" in run["versions"]["virtual machines run by"]
    assert any("not the hardware's" in note for note in run["notes"]) is emulated
    assert "link check" in ended.err
    # Each link delays. By how much a guest that is emulated in software, beside other tests, is
    # late itself has no bound, so there is none here: the next test reads the links back.
    delays: dict[tuple[str, str], list[float]] = {}
    asked: dict[tuple[str, str], float] = {}
    for each in read_links(tmp_path / "out" / "links.parquet").to_pylist():
        if each["quantity"] == "delay_ms" and each["measured"] is not None:
            ends = (each["from_machine"], each["to_machine"])
            asked[ends] = each["asked"]
            delays.setdefault(ends, []).append(each["measured"])
    assert len(delays) == 6
    assert all(min(delays[each]) > asked[each] * 0.9 for each in delays), delays


def test_a_second_up_changes_nothing_and_machines_are_as_asked(shared: Any) -> None:
    again = shared("up", EXAMPLE, *QUICK)
    assert "nothing to change" in (again.out + again.err).lower()
    status = json.loads(shared("status", NAME, "--json").out)[0]
    assert [each["state"] for each in status["machines"]] == ["running"] * 3
    assert status["links_in_force"] == status["links_asked"] == 6
    seen = shared("exec", NAME, "edge-1", "--", "nproc")
    assert seen.out.splitlines()[-1].endswith("2")
    kernels = shared("exec", NAME, "cloud-1", "--", "uname", "-r").out
    assert "cloud" in kernels or "virtual" in kernels or "generic" in kernels
    definition = _virsh("dumpxml", _domain(shared, "cloud-1"))
    assert "<quota>15000</quota>" in definition
    assert "urn:continuum:machine:1" in definition
    disk = next(shared.state.glob(f"continuum/deployments/{NAME}/machines/*-cloud-1/disk.qcow2"))
    assert disk.exists()


def test_a_machine_that_cannot_boot_is_told_with_what_its_console_said(shared: Any) -> None:
    domain = _domain(shared, "cloud-1")
    _virsh("destroy", domain)
    machine = shared.state / "continuum" / "deployments" / NAME / "machines" / domain
    size = (machine / "disk.qcow2").stat().st_size
    with (machine / "disk.qcow2").open("r+b") as disk:
        disk.seek(2**16)
        disk.write(bytes(size - 2**16))
    ended = shared("up", EXAMPLE, *QUICK, code=1)
    assert "SSH does not answer on cloud-1 (1 of 3 machines" in ended.err
    assert "the machine's disk cannot be mounted" in ended.err
    assert "it has switched itself off" in ended.err


def test_down_leaves_nothing_and_libvirt_stopped(shared: Any) -> None:
    identity = _domain(shared, "edge-1").split("-")[1]
    shared("down", NAME)
    for folder in ("/etc/libvirt/qemu", "/run/libvirt/qemu", "/var/log/libvirt/qemu"):
        assert not list(Path(folder).glob(f"ctm-{identity}-*"))
    others = any(Path("/etc/libvirt/qemu").glob("ctm-*"))
    assert others or not list(Path("/run/continuum").glob("*.pid"))
