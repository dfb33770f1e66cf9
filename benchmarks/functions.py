"""How long a function takes to start, and what the gateway adds to a call.

    benchmarks/run functions [--starts 5] [--calls 200]

Needs root. The cluster of `examples/functions`, whose run measures the starts. For the gateway, the
same photo is sent to a function by turns through the gateway and straight to its pod, from this host,
on two connections that stay open: the figures differ by nothing but the way.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "src"), str(REPOSITORY)]

from benchmarks.shared.deployments import run  # noqa: E402

from continuum import existing  # noqa: E402  path set above
from continuum.events import Events  # noqa: E402
from continuum.software.managers.kubernetes.kubectl import Kubectl  # noqa: E402
from continuum.software.serverless import names, openfaas  # noqa: E402

LIMIT = 900
EXAMPLE = str(REPOSITORY / "examples" / "functions" / "experiment.toml")
NAME = "functions"
FUNCTION = "called"
FROM_ZERO_TARGET_SECONDS = 3.0
GATEWAY_TARGET_MS = 3.0
MEANINGS = {"cold": "deployed to first answer", "zero": "from zero replicas", "out": "scaled out"}


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


def deploy() -> tuple[str, str]:
    """Deploy a function; the addresses of the gateway's machine and of the function's pod."""
    (control,) = existing.machines(NAME, ["cloud-1"], Events())
    kubectl = Kubectl(control)
    (node, *_) = kubectl.get("nodes")
    images = [name for image in node["status"]["images"] for name in image["names"]]
    image = next(each for each in images if "/image-classification-function:" in each)
    api = openfaas.Api(control, openfaas.credentials(kubectl))
    api.deploy({"service": FUNCTION, "image": image, "envVars": {"CONTINUUM_THREADS": "1"}})
    kubectl.run(
        *("wait", f"--namespace={names.FUNCTIONS}", "--for=condition=Available"),
        *("--timeout=60s", f"deployment/{FUNCTION}"),
        limit=LIMIT,
    ).check("the function is not there")
    selector = f"{names.FUNCTION_LABEL}={FUNCTION}"
    (pod,) = kubectl.get("pods", namespace=names.FUNCTIONS, selector=selector)
    return control.address, pod["status"]["podIP"]


def show_starts(results: Path) -> None:
    """Print the starts that a run has measured."""
    print("\nstarts of a function, median of all, s")
    starts = json.loads((results / "run.json").read_text())["starts"]
    for kind, meaning in MEANINGS.items():
        found = sorted(each["seconds"] for each in starts if each["kind"] == kind)
        middle = statistics.median(found)
        target = f"at most {FROM_ZERO_TARGET_SECONDS:g}; " if kind == "zero" else ""
        print(f"  {meaning:28} {middle:7.2f}  ({target}{found[0]:.2f} to {found[-1]:.2f})")


def measure_gateway(calls: int) -> None:
    """Print what the gateway adds."""
    control, pod = deploy()
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
        os.environ["XDG_STATE_HOME"] = folder
        shorter = ("benchmark.warmup=1s", "benchmark.duration=2s")
        settings = (*shorter, f"software.serverless.starts={options.starts}")
        try:
            run(
                state,
                *("run", EXAMPLE, "--accept-links", "--results", str(state / "results")),
                *(word for each in settings for word in ("--set", each)),
                limit=LIMIT,
            )
            show_starts(state / "results")
            measure_gateway(options.calls)
        finally:
            run(state, "down", "--all", limit=LIMIT)


if __name__ == "__main__":
    main()
