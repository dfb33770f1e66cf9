"""Debian 13 as a host: a system container of it, with systemd, in which the README's commands run.

It has Python 3.13, LXC 6, systemd 257 and iptables 1.8.11, whatever the host of the tests has; its
kernel is the host's. The container's home lies on the host's disk, and is kept between runs of the
tests: the environment and the machine image are made there once, as on a host of a person's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from continuum import folders
from continuum.machine import Command, Machine
from continuum.testing.stand_ins import StandIns
from run_reasons import OF_THE_HOST
from side_by_side import nothing_left

ASKED_BY = "CONTINUUM_TEST_DEBIAN_13"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        ASKED_BY not in os.environ, reason=f"a host to be furnished first; {ASKED_BY}=1 runs it"
    ),
]

REPOSITORY = Path(__file__).resolve().parents[2]
RELEASE = "trixie"
HOME = "/var/lib/lxc/home"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
SITE = "/root/certificates.crt"
"""Not where Debian's package of certificates puts its own, which comes with what is missing."""

LIMIT = 1200.0
README_ASKED_BY = "CONTINUUM_TEST_README"

SMALL = """
name = "small"
[tiers.edge]
memory = "512 MiB"
[tiers.endpoint]
memory = "256 MiB"
[[network.links]]
between = ["endpoint", "edge"]
delay = "10 ms"
rate = "50 Mbit/s"
[benchmark]
application = "image_classification"
frequency = "5 Hz"
repetitions = 1
warmup = "1 s"
duration = "5 s"
"""


class Debian13:
    """The container as a host: a clone of this repository in root's home."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a program in the clone, and check its exit code; both its outputs."""
        entered = ("env", "--chdir=/root/continuum", *arguments)
        ended = self.machine.run(Command(entered, timeout=LIMIT))
        output = ended.text + ended.stderr.decode(errors="replace")
        assert ended.exit_code == code, output
        assert "Traceback" not in output
        return output


@pytest.fixture(scope="module")
def debian_13(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debian13]:
    with nothing_left():
        stand_ins = StandIns(
            tmp_path_factory.mktemp("debian-13"), 1, release=RELEASE, internet=True
        )
        kept = folders.cache_folder() / "tests" / f"home-{RELEASE}"
        home = stand_ins.disk(1) / Path(HOME).name
        try:
            if kept.exists():
                kept.rename(home)
            machine = stand_ins.machines[0]
            _furnish(machine)
            yield Debian13(machine)
        finally:
            stand_ins.stop(1)
            shutil.rmtree(home / "local", ignore_errors=True)
            if home.exists():
                folders.make_folder(kept.parent)
                home.rename(kept)
            stand_ins.remove()


def _furnish(machine: Machine) -> None:
    """Equipment of a person's host: a clone, a home on a disk, and the site's certificates for pip."""
    tracked = subprocess.run(
        ("git", "ls-files", "-z"), cwd=REPOSITORY, stdout=subprocess.PIPE, check=True
    ).stdout
    clone = subprocess.run(
        ("tar", "--create", "--null", "--files-from=-"),
        cwd=REPOSITORY,
        input=tracked,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    folder = "/root/continuum"
    for arguments in (
        ("mkdir", "-p", folder, f"{HOME}/cache", f"{HOME}/local"),
        ("ln", "-s", f"{HOME}/cache", "/root/.cache"),
        ("ln", "-s", f"{HOME}/local", "/root/.local"),
    ):
        machine.run(Command(arguments)).check()
    machine.run(Command(("tar", "-x", "-C", folder), input=clone, timeout=60)).check()
    settings = {}
    if CERTIFICATES.exists():
        machine.put(CERTIFICATES.read_bytes(), SITE)
        settings["cert"] = SITE
    if "PIP_INDEX_URL" in os.environ:
        settings["index-url"] = os.environ["PIP_INDEX_URL"]
    lines = [f"{name} = {value}\n" for name, value in settings.items()]
    machine.put(("[global]\n" + "".join(lines)).encode(), "/etc/pip.conf", mode=0o600)


def test_it_is_debian_13(debian_13: Debian13) -> None:
    said = debian_13.run("cat", "/etc/os-release") + debian_13.run("systemctl", "--version")
    assert f"VERSION_CODENAME={RELEASE}" in said
    assert "systemd 257" in said
    assert "Python 3.13" in debian_13.run("python3", "--version")
    assert debian_13.run("lxc-start", "--version").startswith("6.")


def test_the_main_job(debian_13: Debian13) -> None:
    debian_13.machine.put(SMALL.encode(), "/root/continuum/small.toml")
    accept = ",".join(sorted(OF_THE_HOST))
    debian_13.run(
        "./continuum", "run", "small.toml", "--yes", "--results", "out", "--accept", accept
    )
    run: dict[str, Any] = json.loads(debian_13.machine.get("/root/continuum/out/run.json"))
    assert run["table"][0]["samples"] == run["table"][0]["ok"] == 25
    shown = json.loads(debian_13.run("./continuum", "status", "small", "--json"))[0]
    assert shown["links_in_force"] == shown["links_asked"] == 2
    debian_13.run("./continuum", "down", "small")
    left = debian_13.run("ip", "-oneline", "link")
    assert "ct" not in [line.split(": ")[1][:2] for line in left.splitlines()]


@pytest.mark.skipif(
    README_ASKED_BY not in os.environ,
    reason=f"minutes, from an empty cache; {README_ASKED_BY}=1 runs it too",
)
def test_the_commands_of_the_readme(debian_13: Debian13) -> None:
    debian_13.run("sh", "-c", "rm -rf /root/.cache/*")
    began = time.monotonic()
    example = "examples/edge-offload/experiment.toml"
    accept = ",".join(sorted(OF_THE_HOST))
    debian_13.run("./continuum", "run", example, "--yes", "--accept", accept)
    debian_13.run("./continuum", "down", "edge-offload")
    print(f"both commands: {time.monotonic() - began:.0f} s")  # noqa: T201  a figure for the docs
