"""`continuum open`: a tunnel that holds until Ctrl-C, and what it says where there is none.

The `ssh` of these tests forwards for real, to a server of this host that stands for the machine's;
the tests on machines use the real one.
"""

from __future__ import annotations

import http.cookiejar
import http.server
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from command_line import Cli, Process, Write, started
from continuum import live
from continuum.cli import tunnel
from continuum.cli.commands.open import laptop_command
from continuum.deployment import Deployment

METRICS = "[software]\nobservability = true\n"

_SSH = f"""\
#!{sys.executable}
import os, select, socket, sys, threading
words = sys.argv[1:]
folder = os.environ["SSH_FOLDER"]
with open(os.path.join(folder, "arguments"), "a") as file:
    file.write("\\0".join(words) + "\\n")
if os.path.exists(os.path.join(folder, "down")):
    print("ssh: connect to host edge-1 port 22: No route to host", file=sys.stderr)
    sys.exit(255)
if "-L" not in words:
    print(open(os.path.join(folder, "status")).read())
    sys.exit(3)
here = words[words.index("-L") + 1].split(":")[0]
listening = socket.socket(socket.AF_UNIX)
listening.bind(here)
listening.listen()

def copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass

def serve():
    while True:
        near, _ = listening.accept()
        try:
            far = socket.create_connection(("127.0.0.1", int(os.environ["FAR_PORT"])))
        except OSError:
            near.close()
            continue
        for pair in ((near, far), (far, near)):
            threading.Thread(target=copy, args=pair, daemon=True).start()

threading.Thread(target=serve, daemon=True).start()
while data := os.read(0, 100):
    os.write(1, data)
    if os.path.exists(os.path.join(folder, "cut")):
        print("Connection to edge-1 closed by remote host.", file=sys.stderr)
        sys.exit(255)
"""


@dataclass
class Far:
    """The machine's side: its port, and files that change what its `ssh` does."""

    folder: Path
    port: int
    status: int = 200
    asked: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    """Jobs of which Prometheus has a target, at one question after the other."""

    def arguments(self) -> list[list[str]]:
        """What ssh was called with, each time."""
        lines = (self.folder / "arguments").read_text().splitlines()
        return [line.split("\0") for line in lines]


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    """A web server that stands for Prometheus or Grafana, and an `ssh` that leads to it."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ssh").write_text(_SSH)
    (programs / "ssh").chmod(0o755)
    (tmp_path / "status").write_text("active (running)")
    found = Far(tmp_path, 0)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            job = found.targets.pop(0) if "/targets" in self.path else "machines"
            told = {"data": {"activeTargets": [{"labels": {"job": job}}]}}
            content = json.dumps(told).encode()
            self.send_response(found.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_address[1]
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        monkeypatch.setenv("SSH_FOLDER", str(tmp_path))
        monkeypatch.setenv("FAR_PORT", str(found.port))
        monkeypatch.delenv("SSH_CONNECTION", raising=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def up(cli: Cli, write: Write) -> Deployment:
    """A deployment `paper` on paper, with metrics, that looks as one whose machines have SSH."""
    assert cli("up", write(rest=METRICS)).code == 0
    deployment = Deployment.existing("paper")
    for path in (deployment.folder / "plan").glob("*.json"):
        path.write_text(path.read_text().replace('"fake"', '"lxc"'))
    deployment.ssh_config.write_text("Host edge-1\n")
    return deployment


def line(process: Process) -> str:
    """The first line of standard output, as soon as it is there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.process.poll() is None:
        text = (process.folder / "stdout").read_text()
        if "\n" in text:
            return text.splitlines()[0]
        time.sleep(0.02)
    raise AssertionError((process.folder / "stderr").read_text())


def free_port() -> str:
    return str(tunnel.any_port())


def status(address: str) -> int:
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310  on this host
        return int(answer.status)


def refused_without_the_token(address: str, far: Far) -> None:
    """Nothing gets through to the machine but by the token, or by the cookie that it is given."""
    place = address[: -len(urlsplit(address).path)]
    for path in ("/secret", "/secret?token=x", f"{urlsplit(address).path[:-1]}/secret", "//secret"):
        with pytest.raises(urllib.error.HTTPError, match="403") as refused:
            status(f"{place}{path}")
        refused.value.close()
    assert not any("secret" in path for path in far.asked)
    asked = urllib.request.Request(f"{address}/page", headers={"Accept": "text/html"})  # noqa: S310
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    with browser.open(asked, timeout=10) as answer:
        assert answer.url == f"{place}/page"
    assert "/page" in far.asked


def is_refused(address: str) -> bool:
    port = urlsplit(address).port
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("target", ["prometheus", "grafana"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_holds_until_it_is_ended_and_leaves_nothing(
    up: Deployment, far: Far, tmp_path: Path, target: str, number: signal.Signals
) -> None:
    port = free_port()
    with started(tmp_path / "call", "open", target, "--port", port) as call:
        address = line(call)
        assert address.startswith(f"http://localhost:{port}/")
        assert status(f"{address}/somewhere") == 200
        assert "/somewhere" in far.asked
        refused_without_the_token(address, far)
        # Everybody on the host may read arguments, and a folder that all may write to.
        secret = urlsplit(address).path.strip("/")
        assert all(secret not in word for words in far.arguments() for word in words)
        assert list(Path("/tmp").glob("continuum-*/near")) == []  # noqa: S108
        call.signal(number)
        ended = call.ends()
    assert ended.code == 0
    assert ended.stdout == f"{address}\n"
    assert re.search(rf"ssh -N -L \d+:localhost:{port} \S+@\S+", ended.stderr)
    assert is_refused(address)
    (words,) = far.arguments()
    assert words[:2] == ["-F", str(up.ssh_config)]
    # Over a connection that is shared the tunnel would outlive its command.
    assert "ControlPath=none" in words
    assert words[-2:] == ["edge-1", "cat"]


def test_even_killed_it_leaves_no_ssh(up: Deployment, far: Far, tmp_path: Path) -> None:
    assert up.folder.is_dir()
    with started(tmp_path / "call", "open", "prometheus", "--port", free_port()) as call:
        address = line(call)
        call.process.kill()
        call.process.wait()
        deadline = time.monotonic() + 10
        while not is_refused(address):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert far.asked


def test_another_port_is_taken_and_told_where_one_is_not_free(
    up: Deployment, far: Far, tmp_path: Path
) -> None:
    assert up.folder.is_dir()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with started(tmp_path / "call", "open", "prometheus", "--port", str(port)) as call:
            address = line(call)
            assert urlsplit(address).port != port
            assert status(address) == 200
            call.signal(signal.SIGINT)
            ended = call.ends()
    assert ended.code == 0
    assert f"port {port} of this host is not free" in ended.stderr
    assert far.asked


@pytest.mark.parametrize(
    ("status", "asked"),
    [("done", ["application", "application", "machines"]), (live.RUNNING, [])],
)
def test_what_is_left_of_a_run_that_is_over_is_waited_for(
    up: Deployment, far: Far, tmp_path: Path, status: str, asked: list[str]
) -> None:
    run = live.LiveRun("paper-1", "out", os.getpid(), time.time(), status)
    live.Teller(up.folder, run)
    far.targets = list(asked)
    with started(tmp_path / "call", "open", "prometheus", "--port", free_port()) as call:
        line(call)
        call.signal(signal.SIGINT)
        ended = call.ends()
    assert ended.code == 0
    assert ("knows that the last run is over" in ended.stderr) is bool(asked)
    assert far.targets == []
    assert len([path for path in far.asked if "/targets" in path]) == len(asked)


def test_json_holds_the_same(up: Deployment, far: Far, tmp_path: Path) -> None:
    assert up.folder.is_dir()
    port = free_port()
    with started(tmp_path / "call", "open", "grafana", "paper", "--json", "--port", port) as call:
        line(call)
        call.signal(signal.SIGINT)
        ended = call.ends()
    assert ended.json["url"].startswith(f"http://localhost:{port}/")
    assert ended.json["machine"] == "edge-1"
    assert "password admin" in ended.stderr
    assert far.asked


def test_a_machine_that_is_down(up: Deployment, far: Far, cli: Cli) -> None:
    (far.folder / "down").touch()
    ended = cli("open", "prometheus")
    assert ended.code == 4
    assert "machine edge-1 cannot be reached" in ended.stderr
    assert "No route to host" in ended.stderr
    assert f"ssh -F {up.ssh_config} edge-1" in ended.stderr


def test_a_connection_that_goes_is_told(up: Deployment, far: Far, tmp_path: Path) -> None:
    assert up.folder.is_dir()
    (far.folder / "cut").touch()
    with started(tmp_path / "call", "open", "prometheus", "--port", free_port()) as call:
        ended = call.ends()
    assert ended.code == 4
    assert "closed by remote host" in ended.stderr


def test_what_does_not_answer_is_told_with_its_state(up: Deployment, far: Far, cli: Cli) -> None:
    assert up.folder.is_dir()
    far.status = 503
    (far.folder / "status").write_text("prometheus.service: failed, no space left on device")
    ended = cli("open", "prometheus", "--wait", "0.5")
    assert ended.code == 1
    assert "Prometheus on edge-1 does not answer" in ended.stderr
    assert "no space left on device" in ended.stderr
    assert not ended.stdout
    assert far.arguments()[-1][-1].endswith("prometheus.service")


def test_grafana_that_could_not_be_had(up: Deployment, far: Far, cli: Cli) -> None:
    assert up.folder.is_dir()
    far.status = 503
    (far.folder / "status").write_text("Unit grafana.service could not be found.")
    ended = cli("open", "grafana", "--wait", "600")
    assert ended.code == 3
    assert "Grafana is not on edge-1" in ended.stderr
    assert "continuum open prometheus paper" in ended.stderr


@pytest.mark.parametrize(
    ("target", "what"), [("grafana", "collects no metrics"), ("gateway", "has no functions")]
)
def test_a_deployment_without_it(cli: Cli, write: Write, target: str, what: str) -> None:
    assert cli("up", write()).code == 0
    ended = cli("open", target)
    assert ended.code == 5
    assert what in ended.stderr
    assert "[software.serverless]" in ended.stderr or "observability = true" in ended.stderr


def test_machines_without_ssh(cli: Cli, write: Write) -> None:
    assert cli("up", write(rest=METRICS)).code == 0
    ended = cli("open", "prometheus")
    assert ended.code == 3
    assert "have no SSH" in ended.stderr


def test_an_unknown_target_and_an_unknown_deployment(cli: Cli) -> None:
    assert cli("open", "kibana").code == 2
    assert cli("open", "grafana", "nobody").code == 5


def test_the_line_for_a_laptop_names_the_host_as_it_was_reached() -> None:
    reached = {"SSH_CONNECTION": "10.1.1.9 50000 10.1.1.2 22", "SUDO_USER": "ada"}
    assert laptop_command(3000, 40123, reached) == "ssh -N -L 3000:localhost:40123 ada@10.1.1.2"
    assert laptop_command(3000, 3000, {}).endswith(f"@{socket.gethostname()}")


def test_a_port_is_free_only_on_both_addresses() -> None:
    port = tunnel.any_port()
    assert tunnel.is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not tunnel.is_free(port)
    if socket.has_dualstack_ipv6():
        with socket.create_server(("::1", port), family=socket.AF_INET6):
            assert not tunnel.is_free(port)


@pytest.mark.parametrize("seconds", ["nan", "inf", "601", "-1"])
def test_a_wait_that_is_no_time_is_refused(cli: Cli, seconds: str) -> None:
    ending = cli("open", "grafana", "--wait", seconds)
    assert ending.code == 2
    assert "--wait" in ending.stderr
