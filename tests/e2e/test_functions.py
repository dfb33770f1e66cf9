"""Workers as functions on machines of this host: 1.x's file, and an own one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from continuum.images import containers, oci
from continuum.images.recipe import Recipe, Tree
from doc_files import write_files_of
from run_reasons import defects
from short_examples import samples

pytestmark = [pytest.mark.e2e, pytest.mark.cluster]

CORPUS = Path(
    os.environ.get("CONTINUUM_CORPUS", Path(__file__).parents[3] / "shared/continuum-1.x")
)
SHORT = ("--set", "benchmark.warmup=1s", "--set", "benchmark.duration=4s")

FAULTS = """\
import http.server, os, runpy, sys, time
behaviour = os.environ.get("BEHAVIOUR", "")
if behaviour == "crash":
    sys.exit("cannot start")
send_response = http.server.BaseHTTPRequestHandler.send_response
def sent(self, status, message=None):
    if self.command == "POST" and behaviour == "late":
        time.sleep(3)
    send_response(self, 500 if self.command == "POST" and behaviour == "broken" else status)
http.server.BaseHTTPRequestHandler.send_response = sent
runpy.run_path("/function.py")
"""


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the files of Continuum 1.x are not here")
def test_a_file_of_1_x_runs_unchanged(continuum: Any, results: Any) -> None:
    continuum(
        "run",
        CORPUS / "bench_openfaas.cfg",
        *("--provider", "lxc", "--results", "out", "--down"),
        *("--set", "software.serverless.distribution=builtin", *SHORT),
        *("--set", "software.serverless.starts=1", "--accept-links"),
    )
    run = results()
    assert defects(run) == []
    assert run["table"][0]["samples"] == run["table"][0]["ok"] == 40


def save_image(folder: Path) -> None:
    """As a Dockerfile and `docker save` would: a system with Python, and the programs."""
    programs = {"function.py": (folder / "function.py").read_text(), "faults.py": FAULTS}

    def put(root: Path, _: object) -> None:
        for name, content in programs.items():
            (root / name).write_text(content)

    tree = Tree("e2e-own-function", json.dumps(programs), put)
    config = oci.Config(command=("python3", "-u", "/faults.py"))
    image = containers.of_recipe("e2e-function", Recipe.collect([tree]), config)
    saved = containers.archive(image, folder / "saved", lambda *_: None)
    saved.archive.rename(folder / "function.tar")


def test_an_own_function_as_its_page_shows_it_and_as_it_fails(
    continuum: Any, results: Any, tmp_path: Path
) -> None:
    write_files_of("execution-model-function.md", tmp_path)
    save_image(tmp_path)
    (tmp_path / "function.py").unlink()
    continuum("run", "experiment.toml", "--results", "out", *SHORT)
    run = results()
    assert defects(run) == []
    assert {each["kind"] for each in run["starts"]} == {"cold", "zero", "out"}
    assert set(samples(tmp_path / "out")["agrees"]) == {True}

    def sabotaged(behaviour: str) -> Any:
        settings = (
            *("--set", f"benchmark.container.environment.BEHAVIOUR={behaviour}", *SHORT),
            *("--set", "software.serverless.starts=0", "--set", "benchmark.answer_timeout=1s"),
        )
        return continuum("run", "experiment.toml", "--results", behaviour, *settings, code=1)

    failed = sabotaged("crash")
    assert "worker-1 ended before it was ready" in failed.err
    assert "cannot start" in failed.err
    sabotaged("broken")
    found = samples(tmp_path / "broken")
    assert set(found["status"]) == {"error"}
    assert all("500" in each for each in found["error"])
    sabotaged("late")
    assert "ok" not in set(samples(tmp_path / "late")["status"])
