"""Workers as functions on machines of this host: the example, 1.x's file, an own one, and faults."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from continuum.images import containers, oci
from continuum.images.recipe import Recipe, Tree
from continuum.software.serverless.names import FUNCTIONS, NAMESPACE, PASSWORD_KEY, SECRET
from doc_files import write_files_of

pytestmark = [pytest.mark.e2e, pytest.mark.cluster]

CORPUS = Path(
    os.environ.get("CONTINUUM_CORPUS", Path(__file__).parents[3] / "shared/continuum-1.x")
)
NAME = "functions-faults"
EXPERIMENT = f"""
name = "{NAME}"

[tiers.cloud]
machines = 2
cores = 2
memory = "2 GiB"

[tiers.endpoint]
machines = 1
memory = "512 MiB"

[software]
manager = "kubernetes"
execution_model = "function"

[software.serverless]
distribution = "builtin"
starts = 0

[benchmark]
application = "image_classification"
workers = "cloud"
warmup = "1 s"
duration = "5 s"
answer_timeout = "3 s"
"""
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


def samples(folder: Path) -> dict[str, list[Any]]:
    run = json.loads((folder / "run.json").read_text())
    assert (folder / "samples.parquet").exists(), run["reasons"]
    found: dict[str, list[Any]] = pq.read_table(folder / "samples.parquet").to_pydict()
    return found


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
    assert run["status"] == "done", run["reasons"]
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
    assert run["status"] == "done", run["reasons"]
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


@pytest.fixture(scope="module")
def deployment(shared: Any) -> Any:
    """A cluster with a gateway; returns the command line, which stands beside its file."""
    path: Path = shared.folder / "experiment.toml"
    path.write_text(EXPERIMENT)
    said = shared("up", path)
    assert ":31112 (user admin)" in said.err + said.out
    return shared


def test_scaled_to_zero_in_mid_run_the_next_call_starts_it(deployment: Any) -> None:
    process = deployment.start("run", "experiment.toml", "--results", "zero")
    kubectl = ("kubectl", NAME, "--namespace", FUNCTIONS)
    deployment.until_step(process, NAME, "repetition 1 of 1")
    time.sleep(3)  # In the middle of the load, which takes 6 s.
    deployment(*kubectl, "scale", "deployment", "worker-1", "--replicas=0")
    ended = deployment.end(process)
    assert "Traceback" not in ended.err
    found = samples(deployment.folder / "zero")
    assert len(found["status"]) == 30
    # What was being answered while it went may be lost; what came afterwards is answered.
    assert found["status"][-1] == "ok"
    assert found["status"].count("ok") >= 10
    answered = [
        (done - sent) / 1e9
        for sent, done in zip(found["sent_ns"], found["answered_ns"], strict=True)
        if done is not None
    ]
    assert max(answered) > 0.3


def test_ten_times_the_load_is_in_the_samples_and_the_run_ends(deployment: Any) -> None:
    small = ("--set", "benchmark.worker_cpu=0.25", "--set", "benchmark.frequency=150 Hz")
    began = time.monotonic()
    deployment("run", "experiment.toml", "--results", "overload", *small, code=1)
    assert time.monotonic() - began < 90
    found = samples(deployment.folder / "overload")
    assert len(found["status"]) == 150 * 6
    assert set(found["status"]) - {"ok"}
    # Later ones are answered when nobody waits for them any more: first come, first served.
    assert found["status"].count("ok") > 0
    latencies = [
        done - due
        for due, done, status in zip(
            found["intended_ns"], found["answered_ns"], found["status"], strict=True
        )
        if status == "ok"
    ]
    assert max(latencies) > 1e9, "a queue shows in the latencies"


def test_a_wrong_password_is_told_and_a_right_one_works_again(deployment: Any) -> None:
    kubectl = ("kubectl", NAME, "--namespace", NAMESPACE)
    said = deployment(*kubectl, "get", "secret", SECRET, "--output", "json").out
    secret = json.loads(said)
    right = secret["data"][PASSWORD_KEY]

    def patched(password: str) -> None:
        change = json.dumps({"data": {PASSWORD_KEY: password}})
        deployment(*kubectl, "patch", "secret", SECRET, "--patch", change)

    patched(base64.b64encode(b"wrong").decode())
    try:
        failed = deployment("run", "experiment.toml", "--results", "password", *SHORT, code=1)
    finally:
        patched(right)
    assert "is not the one that it was started with" in failed.err
    assert base64.b64decode(right).decode() not in failed.err
    deployment("run", "experiment.toml", "--results", "again", *SHORT)
