"""Whose processes count as ours, by what the kernel says of them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from continuum.infrastructure.host import processes
from continuum.infrastructure.links import process
from continuum.infrastructure.providers.lxc import containers
from waiting import within

IDENTITY = "0badcafe"
MONITOR = f"[lxc monitor] /state/continuum/deployments/paper/machines ctm-{IDENTITY}-edge-1"


def of(tmp_path: Path, uids: str, numbers: str) -> Path:
    """A folder as /proc, with one process."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text(f"Name:\tx\nUid:\t{uids}\nNSpid:\t{numbers}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("uids", "numbers", "ours"),
    [
        ("0\t0\t0\t0", "7", True),
        ("1000\t1000\t1000\t1000", "7", False),
        # A program that is root's for whoever starts it.
        ("1000\t0\t0\t0", "7", False),
        # In a container on this host.
        ("0\t0\t0\t0", "7\t3", False),
        ("2052456448\t2052456448\t2052456448\t2052456448", "7\t1", False),
    ],
)
def test_owner_and_namespace_tell(tmp_path: Path, uids: str, numbers: str, ours: bool) -> None:
    expected = ours or (uids == "\t".join([str(os.geteuid())] * 4) and numbers == "7")
    assert processes.may_be_ours(7, of(tmp_path, uids, numbers)) is expected
    assert not processes.may_be_ours(8, tmp_path)


@contextmanager
def titled(*words: str, user: int | None) -> Iterator[int]:
    """A program that waits under such a title: for its input, or for a pipe of its second word's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        os.mkfifo(Path(folder, IDENTITY), 0o644)
        with subprocess.Popen(
            words, executable="/bin/cat", user=user, stdin=subprocess.PIPE, cwd=folder
        ) as started:
            try:
                yield started.pid
            finally:
                started.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_title_alone_makes_nobody_ours() -> None:
    nobody = 65534
    for user, expected in ((nobody, False), (None, True)):
        with titled(process.MODULE, IDENTITY, user=user) as number:
            assert await_title(number, process.MODULE)
            assert (number in process.find(IDENTITY)) is expected
        # Nor is root's own process a machine, which LXC has put into no group.
        with titled(MONITOR, user=user) as number:
            assert await_title(number, MONITOR)
            assert number not in [each.monitor for each in containers.running()]


def await_title(number: int, title: str) -> bool:
    path = Path(f"/proc/{number}/cmdline")
    return within(10, lambda: path.read_text().split("\0")[0] == title)
