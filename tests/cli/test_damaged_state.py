"""Damage in a deployment's folder is named, hinders no other deployment, and can be removed."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import BENCHMARK, Cli, Write
from continuum import folders
from continuum.infrastructure.providers.libvirt import Libvirt
from continuum.infrastructure.providers.lxc import Lxc
from damages import DEEP, damage
from time_limit import time_limit

COUNT = int(os.environ.get("CONTINUUM_TEST_DAMAGES", "80"))
SEED = int(os.environ.get("CONTINUUM_TEST_SEED", "15"))
LIMIT = 20.0
"""Seconds after which a command hangs."""

DEFECTLESS = set(range(7))

STATE = ".state/continuum/deployments"


@pytest.fixture(autouse=True)
def _no_machines_of_other_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep others' machines: where no plan says who made a deployment, every provider on this host removes what it made."""
    for kind in (Lxc, Libvirt):
        monkeypatch.setattr(kind, "destroy", lambda *_: None)
        monkeypatch.setattr(kind, "leftovers", lambda *_: [])
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_any_damage_ends_in_no_defect_and_can_be_removed(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    damaged, other = write(rest=BENCHMARK), write("other")
    state, kept, outside = tmp_path / STATE, tmp_path / "kept", tmp_path / "outside"
    assert cli("run", damaged, "--results", tmp_path / "results").code == 0
    assert cli("up", other).code == 0
    shutil.copytree(state, kept)
    outside.mkdir()
    (outside / "file").write_text("theirs")
    rng = random.Random(SEED)
    wrong: list[str] = []
    for number in range(COUNT):
        shutil.rmtree(state)
        shutil.copytree(kept, state)
        done = [damage(rng, state / "paper", outside)]
        if folders.is_own_folder(state / "paper") and rng.random() < 0.3:
            done.append(damage(rng, state / "paper", outside))
        with time_limit(LIMIT, "a command"):
            problems = [
                *_status(cli),
                *_ends(cli, {0}, "plan", other),
                *_ends(cli, DEFECTLESS, "plan", damaged),
                # It waits for a second look.
                *(_ends(cli, DEFECTLESS, "watch", "paper", "--once") if number % 20 == 7 else ()),
                *_ends(cli, DEFECTLESS, "up", rng.choice((damaged, other))),
                *_ends(cli, {0} if os.path.lexists(state / "paper") else {5}, "down", "paper"),
            ]
        if os.path.lexists(state / "paper"):
            problems.append("it is still there")
        if [(each.name, each.read_text()) for each in outside.iterdir()] != [("file", "theirs")]:
            problems.append("what a link led to is not as it was")
        wrong += [f"{number} {done}: {problem}" for problem in problems]
    assert wrong == [], f"seed {SEED}"


def _status(cli: Cli) -> Iterator[str]:
    ending = cli("status")
    if ending.code not in {0, 1} or "other (fake): 3 of 3 machines running" not in ending.stdout:
        yield f"status: {ending}"


def _ends(cli: Cli, codes: set[int], *words: object) -> Iterator[str]:
    ending = cli(*words)
    if ending.code not in codes:
        yield f"{words[0]}: {ending}"


def test_a_damaged_file_is_named_by_status(cli: Cli, write: Write, tmp_path: Path) -> None:
    cli("up", write())
    folder = tmp_path / STATE / "paper"
    (folder / "machines/edge-1/machine.json").write_bytes(DEEP)
    (folder / "plan/infrastructure.json").unlink()
    (folder / "plan/infrastructure.json").mkdir()
    (status,) = cli("status", "--json").json
    assert (
        f"{folder}/plan/infrastructure.json is damaged: it is a folder, not a file"
        in (status["damaged"])
    )
    ending = cli("up", write())
    assert ending.code == 1
    assert "plan/infrastructure.json is damaged: it is a folder" in ending.stderr
    assert "continuum down paper removes the deployment" in ending.stderr
    (folder / "plan/infrastructure.json").rmdir()
    assert cli("up", write()).code == 0
    assert "damaged" not in cli("status").stdout


def test_a_deployment_that_is_a_link_is_removed_as_one(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    cli("up", write("other"))
    outside = tmp_path / "outside"
    shutil.copytree(tmp_path / STATE / "other", outside)
    before = sorted(outside.rglob("*"))
    (tmp_path / STATE / "paper").symlink_to(outside)
    for verb in (
        ("up", write()),
        ("plan", write()),
        ("run", write()),
        ("exec", "paper", "all", "--", "true"),
    ):
        ending = cli(*verb)
        assert (ending.code, "paper is damaged: it is a symbolic link" in ending.stderr) == (
            1,
            True,
        )
    assert "it is a symbolic link, not a folder" in cli("status").stdout
    assert cli("down", "--all").code == 0
    assert sorted(outside.rglob("*")) == before
    assert list((tmp_path / STATE).iterdir()) == []
