"""How long a cluster takes until a pod answers through a Service by its name, and where it goes.

    benchmarks/run cluster [--repeat 3] [--seconds 20] [--edges 2 20] [--only up harness kubeedge]

Needs root. Everything is in the cache first: a run that is not counted builds what is missing. Then
`up` of one control plane and two workers, and two pods: the one on the second worker asks the one on
the first by the name of its Service, and notes when it was answered. Its clock is the host's.

The steps of `up` come from the deployment's journal, those of its software from Ansible's log, and
the stages of `kubeadm init` from the times of what it writes on the control machine.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from continuum import plugins
from continuum.benchmark.samples import read_samples

LAUNCHER = str(Path(__file__).resolve().parents[1] / "continuum")
LIMIT = 900
NAME = "cluster"

UP_TARGET, UP_LIMIT, UP_MOONSHOT = 20.0, 30.0, 12.0
AGAIN_TARGET = 5.0
ADDED_TARGET_MS = 5.0
EDGE_TARGETS = {2: 30.0, 20: 120.0}
PEERS = {"k3d": 19.9, "kind": 33.0, "minikube": 50.8}
"""Seconds that they publish or that were published of them, on larger machines than this may be."""

KUBERNETES = """
name = "cluster"
[tiers.cloud]
machines = 3
cores = 2
memory = "2 GiB"
[software]
manager = "kubernetes"
execution_model = "container"
"""

KUBEEDGE = """
name = "cluster"
[tiers.cloud]
cores = 2
memory = "2 GiB"
[tiers.edge]
machines = {edges}
memory = "1 GiB"
[software]
manager = "kubeedge"
execution_model = "container"
"""

HARNESS = """
name = "cluster"
[tiers.cloud]
machines = {clouds}
cores = 2
memory = "2 GiB"
[tiers.endpoint]
cores = 1
quota = 0.5
memory = "1 GiB"
[software]
manager = "{manager}"
execution_model = "{model}"
[benchmark]
application = "image_classification"
workers = "cloud"
frequency = "5 Hz"
warmup = "3 s"
duration = "{seconds} s"
"""

ANSWER = """
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("", 8000), Answer).serve_forever()
"""

# Not longer: a packet that comes before the Service is there is lost, and sent again after 1 s.
ASK = """
import time, urllib.request
while True:
    try:
        urllib.request.urlopen("http://answer.default.svc.cluster.local/", timeout=0.2).read()
    except OSError:
        time.sleep(0.02)
    else:
        break
print(time.time())
"""

SAY_WHEN = """
import time
print(time.time(), flush=True)
time.sleep(3600)
"""


@dataclass(frozen=True)
class Continuum:
    """The command line, with a state folder of its own."""

    folder: Path

    def __call__(self, *arguments: str, text: str | None = None) -> str:
        """Run a command that has to succeed; what it says."""
        ended = subprocess.run(
            [LAUNCHER, *arguments],
            cwd=self.folder,
            env={**os.environ, "XDG_STATE_HOME": str(self.folder)},
            input=text,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        if ended.returncode != 0:
            sys.exit(f"{' '.join(arguments)} ended with {ended.returncode}\n{ended.stderr}")
        return ended.stdout + (ended.stderr if arguments[0] == "up" else "")

    @property
    def deployment(self) -> Path:
        """Its folder."""
        return self.folder / "continuum" / "deployments" / NAME

    def write(self, experiment: str) -> str:
        """The experiment as a file."""
        path = self.folder / "experiment.toml"
        path.write_text(experiment)
        return str(path)

    def apply(self, objects: list[dict[str, Any]]) -> None:
        """Make objects of the cluster."""
        path = self.folder / "objects.json"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        self("kubectl", NAME, "apply", f"--filename={path}")

    def said(self, name: str) -> float:
        """The time that a pod has written; a pod that is Ready may not have got to it yet."""
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            said = self("kubectl", NAME, "logs", name)
            if said.strip():
                return float(said)
            time.sleep(0.5)
        sys.exit(f"pod {name} says nothing")

    def image(self) -> str:
        """An image that every node has: the one that holds pods together."""
        told = self("kubectl", NAME, "get", "nodes", "--output=json")
        for node in json.loads(told)["items"]:
            for image in node["status"]["images"]:
                for name in image["names"]:
                    if "/pause:" in name:
                        return str(name)
        sys.exit("no node has the image `pause`")


def pod(name: str, machine: str, image: str, program: str) -> dict[str, Any]:
    """A pod that carries out a Python program on one machine, by the machine's own Python."""
    folders = {"/usr": "/usr", "/lib": "/usr/lib", "/lib64": "/usr/lib64"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"benchmark": name}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": machine},
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "program",
                    "image": image,
                    "command": ["/usr/bin/python3", "-I", "-S", "-c", program],
                    "volumeMounts": [
                        {"name": f"folder-{number}", "mountPath": path, "readOnly": True}
                        for number, path in enumerate(folders)
                    ],
                }
            ],
            "volumes": [
                {"name": f"folder-{number}", "hostPath": {"path": path}}
                for number, path in enumerate(folders.values())
            ],
        },
    }


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "answer"},
    "spec": {"selector": {"benchmark": "answer"}, "ports": [{"port": 80, "targetPort": 8000}]},
}


@dataclass(frozen=True)
class Up:
    """One `up`: seconds until it ended and until the pod had its answer, and what took them."""

    up: float
    answered: float
    steps: list[tuple[str, float]]
    tasks: list[tuple[str, float]]
    init: list[tuple[str, float]]


def kubernetes_up(continuum: Continuum, image: str) -> Up:
    """From nothing to an answer; the deployment stays."""
    file = continuum.write(KUBERNETES)
    began = time.time()
    continuum("up", file)
    up = time.time() - began
    continuum.apply(
        [
            pod("answer", "cloud-2", image, ANSWER),
            SERVICE,
            pod("ask", "cloud-3", image, ASK),
        ]
    )
    continuum(
        *("kubectl", NAME, "wait", "--for=jsonpath={.status.phase}=Succeeded"),
        *("--timeout=120s", "pod/ask"),
    )
    answered = continuum.said("ask") - began
    return Up(
        up,
        answered,
        steps(continuum.deployment),
        tasks(continuum.deployment),
        stages(continuum.deployment, began),
    )


def steps(deployment: Path) -> list[tuple[str, float]]:
    """The steps of the last command and their seconds, by the journal."""
    entries = [json.loads(line) for line in (deployment / "journal.jsonl").read_text().splitlines()]
    begun: dict[str, float] = {}
    found = []
    for entry in entries:
        if entry["state"] == "started":
            begun[entry["step"]] = entry["at"]
        elif entry["step"] in begun:
            found.append((entry["step"], entry["at"] - begun[entry["step"]]))
    return found


def tasks(deployment: Path) -> list[tuple[str, float]]:
    """Ansible's tasks and their seconds."""
    log = (deployment / "logs" / "ansible.log").read_text()
    return [
        (name, float(took))
        for took, name in re.findall(r"^TOOK ([\d.]+) s: (.*)$", log, re.MULTILINE)
    ]


def stages(deployment: Path, began: float) -> list[tuple[str, float]]:
    """When `kubeadm init` had done what, in seconds since `up` began."""
    (machine,) = (deployment / "machines").glob("*-cloud-1")
    upper = machine / "upper"
    written = {
        "first certificate": upper / "etc/kubernetes/pki/ca.crt",
        "last certificate": upper / "etc/kubernetes/pki/sa.pub",
        "kubeconfigs": upper / "etc/kubernetes/scheduler.conf",
        "static pods": upper / "etc/kubernetes/manifests/kube-scheduler.yaml",
        "kubelet's settings": machine / "disk/kubelet/config.yaml",
        "kubelet finalised": upper / "etc/kubernetes/kubelet.conf",
        "control plane whole": upper / "etc/kubernetes/continuum-initialised",
    }
    found = {name: path.lstat().st_mtime for name, path in written.items() if path.exists()}
    for program in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        logs = sorted(upper.glob(f"var/log/pods/kube-system_{program}-*/{program}/0.log"))
        if logs and (line := logs[0].read_text().partition(" ")[0]):
            found[f"{program} runs"] = dt.datetime.fromisoformat(line[:26] + "Z").timestamp()
    return [(name, at - began) for name, at in sorted(found.items(), key=lambda pair: pair[1])]


def again(continuum: Continuum) -> float:
    """Seconds of an `up` that has nothing to do."""
    began = time.monotonic()
    told = continuum("up", continuum.write(KUBERNETES))
    took = time.monotonic() - began
    if "nothing was changed" not in told:
        sys.exit(f"the second `up` changed something:\n{told}")
    return took


def kubeedge_up(continuum: Continuum, edges: int) -> tuple[float, float]:
    """Seconds of `up`, and until a pod runs on every edge machine."""
    file = continuum.write(KUBEEDGE.format(edges=edges))
    began = time.time()
    continuum("up", file)
    up = time.time() - began
    image = continuum.image()
    names = [f"edge-{number + 1}" for number in range(edges)]
    continuum.apply([pod(name, name, image, SAY_WHEN) for name in names])
    continuum(
        *("kubectl", NAME, "wait", "--for=condition=Ready", "--timeout=300s"),
        *(f"pod/{name}" for name in names),
    )
    return up, max(map(continuum.said, names)) - began


def added(continuum: Continuum, manager: str, model: str, seconds: float) -> list[float]:
    """Milliseconds that each request takes beyond its processing."""
    clouds = 1 if manager == "none" else 2
    experiment = HARNESS.format(manager=manager, model=model, clouds=clouds, seconds=seconds)
    results = continuum.folder / f"results-{model}"
    continuum("run", continuum.write(experiment), "--results", str(results), "--down")
    rows = read_samples(results / "samples.parquet").to_pylist()
    return [
        (row["answered_ns"] - row["intended_ns"] - row["finished_ns"] + row["started_ns"]) / 1e6
        for row in rows
        if row["status"] == "ok" and not row["warmup"]
    ]


def verdict(value: float, target: float, most: float | None = None) -> str:
    """Whether a target is reached."""
    if value <= target:
        return f"at most {target:g}: reached"
    return f"at most {target:g}: missed" + (
        f", but within {most:g}" if most is not None and value <= most else ""
    )


def show_up(found: list[Up], second: float) -> None:
    """Figures of `up`, and where the time of the median one goes."""
    middle = sorted(found, key=lambda each: each.answered)[len(found) // 2]
    all_of_them = ", ".join(f"{each.answered:.1f}" for each in found)
    print("\none control plane and two workers, everything cached")
    print(
        f"  a pod answers by its Service's name  {middle.answered:7.2f} s  "
        f"({verdict(middle.answered, UP_TARGET, UP_LIMIT)}; moonshot {UP_MOONSHOT:g}; "
        f"all runs: {all_of_them})"
    )
    print(f"  of which `up`                        {middle.up:7.2f} s")
    for name, value in PEERS.items():
        print(f"  {name + ', as published':36} {value:7.2f} s  (on a larger machine)")
    print(
        f"  `up` again, no task changed          {second:7.2f} s  ({verdict(second, AGAIN_TARGET)})"
    )
    print("  the steps of `up`, s")
    for name, took in middle.steps:
        print(f"    {name:58} {took:6.2f}")
    print("  the tasks of its software, s")
    for name, took in middle.tasks:
        if took >= 0.1:
            print(f"    {name:58} {took:6.2f}")
    print("  what is there when, s since `up` began")
    for name, at in middle.init:
        print(f"    {name:58} {at:6.2f}")


def measure_up(continuum: Continuum, repeat: int) -> None:
    """The part `up`."""
    continuum("up", continuum.write(KUBERNETES))
    image = continuum.image()
    continuum("down", NAME)
    found = []
    for number in range(repeat):
        found.append(kubernetes_up(continuum, image))
        if number + 1 < repeat:
            continuum("down", NAME)
    second = statistics.median(again(continuum) for _ in range(3))
    continuum("down", NAME)
    show_up(found, second)


def measure_harness(continuum: Continuum, seconds: float) -> None:
    """The part `harness`."""
    process = statistics.median(added(continuum, "none", "process", seconds))
    in_pod = statistics.median(added(continuum, "kubernetes", "container", seconds))
    print("\nlatency minus processing, median, without emulated links")
    print(f"  worker as a process                  {process:7.2f} ms")
    print(f"  worker as a pod                      {in_pod:7.2f} ms")
    print(
        f"  added                                {in_pod - process:7.2f} ms  "
        f"({verdict(in_pod - process, ADDED_TARGET_MS)})"
    )


def measure_kubeedge(continuum: Continuum, edges: list[int]) -> None:
    """The part `kubeedge`."""
    print("\nKubeEdge, everything cached")
    if "kubeedge" not in plugins.names("managers"):
        print("  is not in this version")
        return
    continuum("up", continuum.write(KUBEEDGE.format(edges=1)))
    continuum("down", NAME)
    for count in edges:
        up, running = kubeedge_up(continuum, count)
        continuum("down", NAME)
        target = EDGE_TARGETS.get(count)
        print(
            f"  {count} edge machines, a pod runs on each{'':{6 - len(str(count))}}{running:7.2f} s  "
            f"(`up` {up:.2f}{'; ' + verdict(running, target) if target else ''})"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="how often `up` is measured")
    parser.add_argument("--seconds", type=float, default=20.0, help="load for the harness's part")
    parser.add_argument("--edges", type=int, nargs="+", default=[2, 20])
    parts = ["up", "harness", "kubeedge"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        continuum = Continuum(Path(folder))
        try:
            if "up" in told.only:
                measure_up(continuum, told.repeat)
            if "harness" in told.only:
                measure_harness(continuum, told.seconds)
            if "kubeedge" in told.only:
                measure_kubeedge(continuum, told.edges)
        finally:
            continuum("down", "--all")


if __name__ == "__main__":
    main()
