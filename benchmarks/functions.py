"""How long a function takes to start, and what the gateway adds to a call.

    benchmarks/run functions [--starts 5] [--calls 200]

Needs root. A cluster of two cloud machines with the distribution `builtin`; images and programs are
cached first. Starts are those that a run measures. For the gateway, the same photo is sent to a
function by turns through the gateway and straight to its pod, from this host, on two connections that
stay open: the figures differ by nothing but the way.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "src"), str(REPOSITORY)]

from benchmarks.shared.deployments import LAUNCHER, addresses, run  # noqa: E402

from continuum.software.serverless import names, openfaas  # noqa: E402  path set above
from continuum_runtime.openfaas import Gateway  # noqa: E402

LIMIT = 900
NAME = "functions-benchmark"
FUNCTION = "called"
FROM_ZERO_TARGET_SECONDS = 3.0
GATEWAY_TARGET_MS = 3.0
MEANINGS = {"cold": "deployed to first answer", "zero": "from zero replicas", "out": "scaled out"}

EXPERIMENT = """
name = "{name}"
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
starts = {starts}
[benchmark]
application = "image_classification"
workers = "cloud"
warmup = "1 s"
duration = "2 s"
"""


def kubectl(state: Path, *arguments: str) -> dict[str, Any]:
    """What `kubectl get` finds."""
    said = subprocess.run(
        [LAUNCHER, "kubectl", NAME, "get", "--output=json", *arguments],
        env={**os.environ, "XDG_STATE_HOME": str(state)},
        capture_output=True,
        timeout=LIMIT,
        check=True,
    )
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def photo() -> bytes:
    """A photo of noise, about as large as those of the application."""
    content = io.BytesIO()
    Image.effect_noise((320, 240), 64).convert("RGB").save(content, "JPEG", quality=90)
    return content.getvalue()


class Way:
    """A connection that stays open, and how long each call on it took."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=30)
        self._path = path
        self.milliseconds: list[float] = []

    def call(self, content: bytes) -> None:
        """One call, whose answer must be a good one."""
        began = time.monotonic()
        self._connection.request("POST", self._path, content)
        answer = self._connection.getresponse()
        said = answer.read()
        self.milliseconds.append((time.monotonic() - began) * 1000)
        if answer.status != http.HTTPStatus.OK:
            sys.exit(f"{self._path}: status {answer.status}: {said[:200]!r}")


def deploy(state: Path) -> tuple[str, str]:
    """Deploy a function; the addresses of the gateway's machine and of the function's pod."""
    (node, *_) = kubectl(state, "nodes")["items"]
    images = [name for image in node["status"]["images"] for name in image["names"]]
    image = next(each for each in images if "/image-classification-function:" in each)
    secret = kubectl(state, "secret", names.SECRET, f"--namespace={names.NAMESPACE}")
    control = addresses(state, NAME)["cloud-1"]
    password = base64.b64decode(secret["data"][names.PASSWORD_KEY]).decode()
    gateway = Gateway(control, names.NODE_PORT, names.USER, password)
    wanted = {"service": FUNCTION, "image": image, "envVars": {"CONTINUUM_THREADS": "1"}}
    status, said = gateway.call("POST", "/system/functions", wanted, seconds=30)
    if status >= http.HTTPStatus.BAD_REQUEST:
        sys.exit(f"the function cannot be deployed: status {status}: {said!r}")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        status, _ = gateway.invoke(FUNCTION, photo(), seconds=30)
        if status == http.HTTPStatus.OK:
            selector = f"--selector={names.FUNCTION_LABEL}={FUNCTION}"
            (pod,) = kubectl(state, "pods", f"--namespace={names.FUNCTIONS}", selector)["items"]
            return control, pod["status"]["podIP"]
        time.sleep(0.2)
    sys.exit(f"the function does not answer: status {status}")


def show_starts(results: Path) -> None:
    """Print the starts that a run has measured."""
    print("\nstarts of a function, median of all, s")
    starts = json.loads((results / "run.json").read_text())["starts"]
    for kind, meaning in MEANINGS.items():
        found = sorted(each["seconds"] for each in starts if each["kind"] == kind)
        middle = statistics.median(found)
        target = f"at most {FROM_ZERO_TARGET_SECONDS:g}; " if kind == "zero" else ""
        print(f"  {meaning:28} {middle:7.2f}  ({target}{found[0]:.2f} to {found[-1]:.2f})")


def measure_gateway(state: Path, calls: int) -> None:
    """Print what the gateway adds."""
    control, pod = deploy(state)
    through = Way(control, names.NODE_PORT, f"/function/{FUNCTION}")
    straight = Way(pod, openfaas.FUNCTION_PORT, "/")
    content = photo()
    for _ in range(calls):
        through.call(content)
        straight.call(content)
    rest = slice(calls // 10, None)  # The first ones warm both up.
    both = [statistics.median(each.milliseconds[rest]) for each in (through, straight)]
    added = statistics.median(
        a - b for a, b in zip(through.milliseconds[rest], straight.milliseconds[rest], strict=True)
    )
    print("\na call with a photo, one after the other, median, ms")
    print(f"  through the gateway          {both[0]:7.2f}")
    print(f"  straight to the pod          {both[1]:7.2f}")
    print(f"  the gateway adds, in pairs   {added:7.2f}  (at most {GATEWAY_TARGET_MS:g})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=5, help="how often each start is measured")
    parser.add_argument("--calls", type=int, default=200, help="on each way")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        file = state / "experiment.toml"
        file.write_text(EXPERIMENT.format(name=NAME, starts=options.starts))
        try:
            run(state, "run", str(file), "--results", str(state / "results"), limit=LIMIT)
            show_starts(state / "results")
            measure_gateway(state, options.calls)
        finally:
            run(state, "down", "--all", limit=LIMIT)


if __name__ == "__main__":
    main()
