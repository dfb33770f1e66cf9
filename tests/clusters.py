"""What tests ask of a cluster, by the program that `continuum kubectl` becomes."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from continuum.cli.commands import kubectl
from continuum.deployment import Deployment
from continuum.events import Events

REPLY = "it answers"
LIMIT = 120

_SERVER = f"""\
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{REPLY}")
http.server.HTTPServer(("", 8000), Answer).serve_forever()
"""

# A node knows a service's pods a moment after these are ready.
_ASK = """\
import sys, time, urllib.request
until = time.monotonic() + 10
while True:
    try:
        print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode(), end="")
        break
    except OSError:
        if time.monotonic() > until:
            raise
        time.sleep(0.1)
"""

# Milliseconds of a round trip: a TCP connection is there after one. The least of ten.
_ROUND_TRIP = """\
import socket, sys, time
found = []
for _ in range(10):
    began = time.perf_counter()
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10).close()
    found.append(time.perf_counter() - began)
print(min(found) * 1000)
"""


def pod(name: str, machine: str, image: str) -> dict[str, Any]:
    """A pod on one machine that does what its image does."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"test": name}},
        "spec": {
            "hostname": "pod",
            "nodeSelector": {"kubernetes.io/hostname": machine},
            "tolerations": [{"operator": "Exists"}],
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "server", "image": image}],
        },
    }


def server(name: str, machine: str, image: str) -> dict[str, Any]:
    """A pod on one machine that answers HTTP at port 8000."""
    made = pod(name, machine, image)
    made["spec"]["containers"][0]["command"] = ["python3", "-c", _SERVER]
    return made


def service(name: str, pod: str) -> dict[str, Any]:
    """A service at port 80 that one pod answers."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"test": pod}, "ports": [{"port": 80, "targetPort": 8000}]},
    }


@dataclass
class Cluster:
    """A deployment's cluster; `line` is the command line of the tests on real machines."""

    line: Any
    name: str
    limit: int = LIMIT
    """Seconds until pods are ready."""

    def kubectl(self, *arguments: str, code: int | None = 0) -> str:
        """One call; what it says."""
        ended = subprocess.run(
            [self._program, *arguments],
            env={**os.environ, "KUBECONFIG": str(self._deployment.kubeconfig)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT + self.limit,
            check=False,
        )
        if code is not None:
            assert ended.returncode == code, f"{arguments}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    @property
    def _deployment(self) -> Deployment:
        return Deployment(self.name, self.line.state / "continuum" / "deployments")

    @cached_property
    def _program(self) -> Path:
        """Found once: tests ask often, and looking for it takes longer than a call."""
        return kubectl.program_of(Events(), self._deployment)

    def get(self, kind: str, *more: str) -> list[dict[str, Any]]:
        """Objects of a kind."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "--output=json", *more))[
            "items"
        ]
        return found

    def apply(self, *objects: dict[str, Any]) -> None:
        """Make objects, and wait until pods among them are ready."""
        path = self.line.folder / "objects.json"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        self.kubectl("apply", "--validate=false", f"--filename={path}")
        pods = [f"pod/{each['metadata']['name']}" for each in objects if each["kind"] == "Pod"]
        if pods:
            self.kubectl("wait", "--for=condition=Ready", f"--timeout={self.limit}s", *pods)

    def image(self, name: str = "image-classification") -> str:
        """A container image that the nodes have, by its name; the application's unless told."""
        (node, *_) = self.get("nodes")
        names = [each for image in node["status"]["images"] for each in image["names"]]
        found: str = next(each for each in names if f"/{name}:" in each)
        return found

    def in_pod(self, pod: str, program: str, *arguments: str) -> str:
        """What a Python program says in a pod."""
        said: str = self.kubectl("exec", pod, "--", "python3", "-c", program, *arguments)
        return said.strip()

    def ask(self, pod: str, address: str) -> str:
        """What an address answers to a pod."""
        return self.in_pod(pod, _ASK, address)

    def round_trip(self, pod: str, address: str, port: int) -> float:
        """Milliseconds from a pod to a port and back."""
        return float(self.in_pod(pod, _ROUND_TRIP, address, str(port)))

    def round_trip_of_machine(self, machine: str, address: str, port: int) -> float:
        """Milliseconds from a machine to a port and back."""
        words = ("python3", "-c", _ROUND_TRIP, address, str(port))
        return float(self.line("exec", self.name, machine, "--", *words).out)

    def addresses(self) -> dict[str, str]:
        """Of the machines, by their names."""
        (deployment,) = json.loads(self.line("status", self.name, "--json").out)
        return {each["name"]: each["address"] for each in deployment["machines"]}

    def results(self, folder: str) -> dict[str, Any]:
        """What `run.json` says in a results folder."""
        found: dict[str, Any] = json.loads((self.line.folder / folder / "run.json").read_text())
        return found

    def nodes(self) -> dict[str, bool]:
        """Whether each node is Ready, by its name."""
        return {
            node["metadata"]["name"]: any(
                each["type"] == "Ready" and each["status"] == "True"
                for each in node["status"]["conditions"]
            )
            for node in self.get("nodes")
        }

    def await_nodes(self, *names: str) -> None:
        """Wait until exactly these nodes are there, and Ready."""
        until = time.monotonic() + LIMIT
        while (found := self.nodes()) != dict.fromkeys(names, True):
            assert time.monotonic() < until, found
            time.sleep(0.5)
