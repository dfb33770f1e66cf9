"""A host without a network: what an archive brings is enough, and without one it is said what lacks.

The other host is this one in namespaces of its own: a network that leads nowhere, and empty folders.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.cluster]

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT = 240
QUICK = 60
"""Seconds in which it is found out that nothing can be had."""

NAME = "offline"
CLUSTER = f"""
name = "{NAME}"

[tiers.cloud]
machines = 2
cores = 2
memory = "2 GiB"

[software]
manager = "kubernetes"
execution_model = "container"
"""
MACHINE = """
name = "offline-machine"

[tiers.edge]
memory = "256 MiB"
"""

# A system folder of its own shows the interfaces of its own network; control groups stay.
_OTHER_HOST = """\
import subprocess, sys
for command in (
    ("ip", "link", "set", "lo", "up"),
    ("mount", "--rbind", "/sys/fs/cgroup", sys.argv[1]),
    ("mount", "-t", "sysfs", "sysfs", "/sys"),
    ("mount", "--rbind", sys.argv[1], "/sys/fs/cgroup"),
):
    subprocess.run(command, check=True)
print("ready", flush=True)
sys.stdin.read()
"""


@dataclass
class OtherHost:
    """Programs of this host where the network ends at its own interfaces."""

    holder: subprocess.Popen[str]
    folder: Path
    more: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, limit: float = LIMIT) -> subprocess.CompletedProcess[str]:
        """Run a program there."""
        spaces = (f"--{name}=/proc/{self.holder.pid}/ns/{file}" for name, file in SPACES.items())
        return subprocess.run(
            ("nsenter", *spaces, *command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
            env={
                **os.environ,
                "XDG_CACHE_HOME": str(self.folder / "cache"),
                "XDG_STATE_HOME": str(self.folder / "state"),
                "PYTHONPATH": str(REPOSITORY / "src"),
                "NO_COLOR": "1",
                **self.more,
            },
        )

    def __call__(self, *arguments: str | Path, code: int = 0, limit: float = LIMIT) -> str:
        """Run `continuum` there, and check its exit code; returns what it said."""
        ended = self.run(sys.executable, "-m", "continuum", *map(str, arguments), limit=limit)
        assert "Traceback" not in ended.stderr
        assert ended.returncode == code, f"exit {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout + ended.stderr

    def packets_without_a_way(self) -> int:
        """How many packets were to leave for another network."""
        names, values = (
            line.split()[1:]
            for line in self.run("cat", "/proc/net/snmp").stdout.splitlines()
            if line.startswith("Ip:")
        )
        return int(dict(zip(names, values, strict=True))["OutNoRoutes"])


SPACES = {"net": "net", "mount": "mnt"}


@pytest.fixture
def other(tmp_path: Path) -> Iterator[OtherHost]:
    groups = tmp_path / "groups"
    groups.mkdir()
    new = ("unshare", "--net", "--mount", "--propagation=private")
    with subprocess.Popen(
        (*new, sys.executable, "-c", _OTHER_HOST, str(groups)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        host = OtherHost(holder, tmp_path / "other")
        try:
            yield host
            host("down", "--all")
        finally:
            left = host.run("ip", "-brief", "link").stdout.split()
            holder.communicate("")
            if host.folder.exists():
                shutil.rmtree(host.folder)
    assert left[0] == "lo"
    assert len(left) == 4, left


# With empty caches the archive's images are built first, beside those of the other lane.
@pytest.mark.timeout(1500)
def test_an_archive_is_all_that_a_cluster_needs(
    continuum: Any, other: OtherHost, write: Callable[[str], Path], tmp_path: Path
) -> None:
    file, archive = write(CLUSTER), tmp_path / "all.tar"
    continuum("artifacts", "export", archive, "--for", file)
    other("artifacts", "import", archive)
    archive.unlink()
    other("up", file)
    nodes = json.loads(other.run(*_kubectl(), "get", "nodes", "--output=json").stdout)["items"]
    assert {node["metadata"]["name"] for node in nodes} == {"cloud-1", "cloud-2"}
    pods = json.loads(other.run(*_kubectl(), "get", "pods", "-A", "--output=json").stdout)["items"]
    assert any(each["metadata"]["name"].startswith("coredns") for each in pods)
    assert "nothing was changed" in other("up", file)
    assert other.packets_without_a_way() == 0


def _kubectl() -> tuple[str, ...]:
    return (sys.executable, "-m", "continuum", "kubectl", NAME)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            CLUSTER,
            (
                "not in the cache, and not to be had here: kubelet v1.34.4, kubeadm v1.34.4",
                "pause debian",
                "etcd, coredns: official release: github.com cannot be reached",
                "build from Go modules: ",
                "pause: Debian package: catatonit: ",
            ),
        ),
        (
            MACHINE,
            (
                "the machine image is not in the cache, and this host's package sources",
                "apt-get update",
            ),
        ),
    ],
    ids=["cluster", "machine"],
)
def test_without_an_archive_it_is_said_what_lacks_and_how_to_bring_it(
    other: OtherHost, write: Callable[[str], Path], text: str, said: tuple[str, ...]
) -> None:
    for name in ("GOMODCACHE", "GOCACHE"):
        other.more[name] = str(other.folder / name)
    file = write(text)
    ending = other("up", file, code=3, limit=QUICK)
    for words in (*said, "artifacts export FILE --for EXPERIMENT", "artifacts import FILE"):
        assert words in ending
    assert "a defect" not in ending
