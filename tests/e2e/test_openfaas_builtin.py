"""Functions behind our gateway in a real cluster: the example, faults of a run, and OpenFaaS' API:
requests as its specification has them, and its command line."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

import go_programs
from clusters import Cluster
from continuum.artifacts import toolchain
from continuum.artifacts.attempt import Unavailable
from continuum.images import oci
from continuum.machine import run_on_host
from continuum.software.serverless.names import FUNCTIONS, NAMESPACE, PASSWORD_KEY, SECRET
from short_examples import EXAMPLES, run_example, samples

pytestmark = [pytest.mark.e2e, pytest.mark.cluster, pytest.mark.measures]

NAME = "functions"
EXAMPLE = EXAMPLES / NAME / "experiment.toml"
SHORT = (
    *("--set", "benchmark.warmup=1s", "--set", "benchmark.duration=5s"),
    *("--set", "benchmark.answer_timeout=3s", "--set", "software.serverless.starts=0"),
    "--accept-links",
)
IMAGE = "continuum.local/echo:1"
ECHO = Path(__file__).parents[1] / "go" / "echo"


@pytest.fixture(scope="module")
def cluster(shared: Any) -> Cluster:
    said = shared("up", EXAMPLE)
    assert ":31112 (user admin)" in said.err + said.out
    return Cluster(shared, NAME)


@pytest.mark.usefixtures("cluster")
def test_the_example(shared: Any) -> None:
    short = ("benchmark.warmup=2s", "benchmark.duration=6s", "software.serverless.starts=1")
    run, said = run_example(shared, NAME, 30, *short, down=False)
    assert run["table"][0]["samples"] == 60
    starts = {each["kind"]: each["seconds"] for each in run["starts"]}
    assert set(starts) == {"cold", "zero", "out"}
    assert starts["zero"] <= 3.0
    assert run["functions"]["distribution"] == "builtin"
    report = (shared.folder / "out" / "report.html").read_text()
    for text in (report, said):
        assert "It is not OpenFaaS" in " ".join(text.split())
    assert "start from zero" in report


@pytest.mark.usefixtures("cluster")
def test_scaled_to_zero_in_mid_run_the_next_call_starts_it(shared: Any) -> None:
    process = shared.start("run", EXAMPLE, *SHORT, "--results", "zero")
    kubectl = ("kubectl", NAME, "--namespace", FUNCTIONS)
    shared.until_step(process, NAME, "repetition 1 of 1")
    time.sleep(3)  # In the middle of the load, which takes 6 s.
    shared(*kubectl, "scale", "deployment", "worker-1", "--replicas=0")
    ended = shared.end(process)
    assert "Traceback" not in ended.err
    found = samples(shared.folder / "zero")
    assert len(found["status"]) == 60
    # What was being answered while it went may be lost; what came afterwards is answered.
    assert found["status"][-1] == "ok"
    assert found["status"].count("ok") >= 20
    answered = [
        (done - sent) / 1e9
        for sent, done in zip(found["sent_ns"], found["answered_ns"], strict=True)
        if done is not None
    ]
    assert max(answered) > 0.3


@pytest.mark.usefixtures("cluster")
def test_ten_times_the_load_is_in_the_samples_and_the_run_ends(shared: Any) -> None:
    small = ("--set", "benchmark.worker_cpu=0.25", "--set", "benchmark.frequency=75 Hz")
    began = time.monotonic()
    shared("run", EXAMPLE, *SHORT, "--results", "overload", *small, code=1)
    assert time.monotonic() - began < 90
    found = samples(shared.folder / "overload")
    assert len(found["status"]) == 2 * 75 * 6
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


@pytest.mark.usefixtures("cluster")
def test_a_wrong_password_is_told_and_a_right_one_works_again(shared: Any) -> None:
    kubectl = ("kubectl", NAME, "--namespace", NAMESPACE)
    said = shared(*kubectl, "get", "secret", SECRET, "--output", "json").out
    secret = json.loads(said)
    right = secret["data"][PASSWORD_KEY]

    def patched(password: str) -> None:
        change = json.dumps({"data": {PASSWORD_KEY: password}})
        shared(*kubectl, "patch", "secret", SECRET, "--patch", change)

    patched(base64.b64encode(b"wrong").decode())
    try:
        failed = shared("run", EXAMPLE, *SHORT, "--results", "password", code=1)
    finally:
        patched(right)
    assert "is not the one that it was started with" in failed.err
    assert base64.b64decode(right).decode() not in failed.err
    shared("run", EXAMPLE, *SHORT, "--results", "again")


# -- the gateway's API -----------------------------------------------------------------------------


@dataclass
class Gateway:
    """The gateway as a client on this host sees it."""

    url: str
    password: str

    def ask(
        self, method: str, path: str, body: object = None, *, password: str | None = None
    ) -> tuple[int, str]:
        """Status and text of the answer; bodies other than bytes are sent as JSON."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310  ours
            f"{self.url}{path}", data=raw, method=method
        )
        who = f"admin:{self.password if password is None else password}"
        request.add_header("Authorization", f"Basic {base64.b64encode(who.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def deploy(self, name: str, **more: Any) -> None:
        status, text = self.ask(
            "POST", "/system/functions", {"service": name, "image": IMAGE, **more}
        )
        assert status == HTTPStatus.ACCEPTED, text

    def told(self, name: str) -> dict[str, Any]:
        status, text = self.ask("GET", f"/system/function/{name}")
        assert status == HTTPStatus.OK, text
        found: dict[str, Any] = json.loads(text)
        return found

    def scale(self, name: str, replicas: int) -> None:
        status, text = self.ask(
            "POST",
            f"/system/scale-function/{name}",
            {"serviceName": name, "namespace": "openfaas-fn", "replicas": replicas},
        )
        assert status == HTTPStatus.ACCEPTED, text
        wait_for(lambda: self.told(name).get("availableReplicas", 0) == replicas)


def wait_for(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until, "it did not happen within 30 s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A function as a person would bring it: an archive of an image."""
    folder = tmp_path_factory.mktemp("echo")
    try:
        go = toolchain.find("1.21", go_programs.quiet)
    except Unavailable as error:
        pytest.skip(f"no Go here: {error}")
    arguments = ("build", "-trimpath", "-ldflags", "-s -w", "-o", str(folder / "echo"), ".")
    run_on_host(go.command(arguments, {"CGO_ENABLED": "0"}, 300, ECHO)).check()
    layer = oci.layer_of_files({"/echo": oci.File(folder / "echo")}, folder / "layer.tar")
    written = oci.write(
        folder / "image.tar",
        oci.Name("continuum.local/echo", "1", ()),
        [layer],
        oci.Config(entrypoint=("/echo",)),
    )
    return written.archive


def password(cluster: Cluster) -> str:
    (secret,) = (
        each
        for each in cluster.get("secrets", "--namespace=openfaas")
        if each["metadata"]["name"] == "basic-auth"
    )
    assert base64.b64decode(secret["data"]["basic-auth-user"]) == b"admin"
    return base64.b64decode(secret["data"]["basic-auth-password"]).decode()


@pytest.fixture(scope="module")
def gateway(shared: Any, cluster: Cluster, image: Path) -> Gateway:
    for machine in ("cloud-1", "cloud-2"):
        brought = subprocess.run(
            [
                *("ssh", "-F", shared.state / "continuum/deployments" / NAME / "ssh_config"),
                *(machine, "ctr", "--namespace=k8s.io", "images", "import", "-"),
            ],
            input=image.read_bytes(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert brought.returncode == 0, brought.stderr
    address = cluster.addresses()["cloud-1"]
    return Gateway(f"http://{address}:31112", password(cluster))


def test_a_function_from_its_deployment_to_its_removal(gateway: Gateway) -> None:
    on = ["kubernetes.io/hostname=cloud-2"]
    gateway.deploy("walk", constraints=on, envVars={"GREETING": "hi"})
    assert gateway.ask("POST", "/function/walk", b"hello") == (HTTPStatus.OK, "hello")
    # A call is answered as soon as a pod is ready, a moment before the cluster counts it.
    wait_for(lambda: gateway.told("walk").get("availableReplicas") == 1)
    told = gateway.told("walk")
    assert (told["image"], told["namespace"]) == (IMAGE, "openfaas-fn")
    assert (told["replicas"], told["availableReplicas"]) == (1, 1)
    assert told["invocationCount"] == 1
    assert told["constraints"] == on
    _, text = gateway.ask("GET", "/system/functions")
    assert "walk" in [each["name"] for each in json.loads(text)]
    status, lines = gateway.ask("GET", "/system/logs?name=walk")
    assert status == HTTPStatus.OK
    assert [json.loads(line)["text"] for line in lines.splitlines()] == ["listening", "POST /"]
    updated = {"service": "walk", "image": IMAGE, "envVars": {"GREETING": "bye"}}
    assert gateway.ask("PUT", "/system/functions", updated)[0] == HTTPStatus.OK
    wait_for(lambda: gateway.told("walk")["envVars"] == {"GREETING": "bye"})
    removed = gateway.ask("DELETE", "/system/functions", {"functionName": "walk"})
    assert removed[0] == HTTPStatus.OK
    wait_for(lambda: gateway.ask("GET", "/system/function/walk")[0] == HTTPStatus.NOT_FOUND)
    assert gateway.ask("POST", "/function/walk", b"hello")[0] == HTTPStatus.NOT_FOUND


def test_a_function_is_scaled_to_zero_and_started_by_a_call(gateway: Gateway) -> None:
    gateway.deploy("sleeper")
    assert gateway.ask("POST", "/function/sleeper", b"1")[0] == HTTPStatus.OK
    gateway.scale("sleeper", 3)
    gateway.scale("sleeper", 0)
    began = time.monotonic()
    assert gateway.ask("POST", "/function/sleeper", b"2") == (HTTPStatus.OK, "2")
    # 3 s are asked for where nothing else runs: see benchmarks of functions.
    assert time.monotonic() - began < 15
    assert gateway.told("sleeper")["replicas"] == 1


def test_what_goes_wrong_has_its_status(gateway: Gateway) -> None:
    gateway.deploy("crash", envVars={"BEHAVIOUR": "crash"})
    gateway.deploy("absent", constraints=["kubernetes.io/hostname=cloud-2"], labels={"a": "b"})
    assert gateway.ask("POST", "/function/absent/fail", b"")[0] == 500
    assert gateway.ask("POST", "/function/absent/die", b"")[0] == HTTPStatus.BAD_GATEWAY
    status, text = gateway.ask("POST", "/function/crash", b"")
    assert (status, "CrashLoopBackOff" in text) == (HTTPStatus.SERVICE_UNAVAILABLE, True), text
    assert gateway.ask("POST", "/async-function/absent", b"")[0] == HTTPStatus.NOT_IMPLEMENTED
    wrong = gateway.password[::-1] + "x"
    for path in ("/system/functions", "/system/info", "/system/namespaces"):
        assert gateway.ask("GET", path, password=wrong)[0] == HTTPStatus.UNAUTHORIZED


def test_the_rest_of_the_api_answers_as_specified(gateway: Gateway) -> None:
    assert gateway.ask("GET", "/healthz")[0] == HTTPStatus.OK
    told = json.loads(gateway.ask("GET", "/system/info")[1])
    assert told["provider"]["orchestration"] == "kubernetes"
    assert {"provider", "version", "arch"} <= told.keys()
    assert json.loads(gateway.ask("GET", "/system/namespaces")[1]) == ["openfaas-fn"]
    secret = {"name": "key", "namespace": "openfaas-fn", "value": "one"}
    assert gateway.ask("POST", "/system/secrets", secret)[0] == HTTPStatus.CREATED
    assert json.loads(gateway.ask("GET", "/system/secrets")[1]) == [
        {"name": "key", "namespace": "openfaas-fn"}
    ]
    assert gateway.ask("DELETE", "/system/secrets", secret)[0] == HTTPStatus.ACCEPTED
    assert "gateway_functions_seconds" in gateway.ask("GET", "/metrics")[1]


def test_openfaas_own_command_line_works_with_it(gateway: Gateway, tmp_path: Path) -> None:
    program = shutil.which("faas-cli")
    if program is None:
        pytest.skip("faas-cli is not in PATH: it is neither a package nor a Go module to be had")
    environment = {**os.environ, "HOME": str(tmp_path), "OPENFAAS_URL": gateway.url}

    def cli(*arguments: str, text: str = "") -> str:
        ended = subprocess.run(
            [program, *arguments],
            input=text,
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    cli("login", "--username", "admin", "--password-stdin", text=gateway.password)
    cli("deploy", "--image", IMAGE, "--name", "figure")
    cli("ready", "figure")
    assert "figure" in cli("list")
    assert IMAGE in cli("describe", "figure")
    assert cli("invoke", "figure", text="hello") == "hello"
    assert "POST /" in cli("logs", "figure", "--tail=false")
    cli("remove", "figure")


def test_a_second_up_keeps_password_and_functions(
    shared: Any, cluster: Cluster, gateway: Gateway
) -> None:
    gateway.deploy("stays")
    wait_for(lambda: gateway.told("stays").get("availableReplicas") == 1)
    ended = shared("up", EXAMPLE)
    assert "nothing was changed" in ended.out + ended.err
    assert password(cluster) == gateway.password
    assert gateway.told("stays")["availableReplicas"] == 1
