"""The execution model `container` on plain machines: the commands that it gives."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pytest

from continuum.errors import StepFailed
from continuum.experiment.model import Software
from continuum.images.recipe import Recipe
from continuum.machine import Command, Result
from continuum.secret import Secret
from continuum.software.contract import ProcessSpec
from continuum.software.execution_models.container import Container
from continuum.software.execution_models.plain_container import PlainContainer
from continuum.testing.software import DeadMachine, small_experiment

RUN = "/var/lib/continuum/run/worker-1"
WORKER = ProcessSpec(
    name="worker-1",
    machine="edge-1",
    arguments=("python3", "-m", "worker", "$HOME"),
    environment={"A": "x y $B"},
    files={f"{RUN}/settings": b"1"},
    cpu=0.75,
    memory=2**28,
    ready_file=f"{RUN}/ready",
    working_directory=RUN,
    image="continuum.local/worker:0123",
)


class Answering(DeadMachine):
    """Every command succeeds, but those that begin with one of these words."""

    def __init__(self, *failing: str) -> None:
        super().__init__()
        self.failing = failing
        self.ran: list[tuple[str, ...]] = []
        self.puts: dict[str, tuple[bytes, int]] = {}

    def run(self, command: Command) -> Result:
        self.ran.append(command.arguments)
        fails = " ".join(command.arguments).startswith(self.failing) if self.failing else False
        return Result(command, int(fails), b"", b"not there", 0.0, self.name)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        self.puts[path] = (content, mode)


def model(runtime: Literal["containerd", "docker"]) -> PlainContainer:
    return PlainContainer(small_experiment(Software(execution_model="container", runtime=runtime)))


def started(runtime: Literal["containerd", "docker"], process: ProcessSpec = WORKER) -> list[str]:
    machine = Answering()
    model(runtime).start(machine, process)
    return list(machine.ran[-1])


def test_containerds_client_runs_in_the_unit() -> None:
    unit, program = split(started("containerd"))
    assert not any("CPUQuota" in word or "MemoryMax" in word for word in unit)
    assert "--property=After=containerd.service" in unit
    assert "--property=AssertControlGroupController=cpu" in unit
    assert f'--property=ExecStartPre="/bin/mkdir" "-p" "{RUN}"' in unit
    assert not any(word.startswith("--setenv") for word in unit)
    assert program == [
        "/usr/bin/ctr",
        "--namespace=k8s.io",
        "run",
        "--rm",
        "--net-host",
        "--cpu-period=20000",
        "--cpu-quota=15000",
        f"--memory-limit={2**28}",
        f"--cwd={RUN}",
        f"--mount=type=bind,src={RUN},dst={RUN},options=rbind:rw",
        "--mount=type=bind,src=/usr/bin/tini-static,dst=/continuum-init,options=bind:ro",
        "--env=A=x y $$B",
        "continuum.local/worker:0123",
        "continuum-worker-1-${INVOCATION_ID}",
        "/continuum-init",
        "--",
        "python3",
        "-m",
        "worker",
        "$$HOME",
    ]


def test_dockers_client_runs_in_the_unit() -> None:
    unit, program = split(started("docker"))
    assert "--property=After=docker.service" in unit
    assert program == [
        "/usr/bin/docker",
        "run",
        "--rm",
        "--init",
        "--pull=never",
        "--network=host",
        "--name=continuum-worker-1-${INVOCATION_ID}",
        "--log-driver=none",
        "--cpu-period=20000",
        "--cpu-quota=15000",
        f"--memory={2**28}",
        f"--memory-swap={2**28}",
        f"--workdir={RUN}",
        f"--mount=type=bind,source={RUN},target={RUN}",
        "--env=A=x y $$B",
        "--entrypoint=python3",
        "continuum.local/worker:0123",
        "-m",
        "worker",
        "$$HOME",
    ]


def split(command: list[str]) -> tuple[list[str], list[str]]:
    end = command.index("--")
    return command[:end], command[end + 1 :]


@pytest.mark.parametrize("runtime", ["containerd", "docker"])
def test_the_container_is_removed_after_the_unit_whatever_its_end(runtime: Any) -> None:
    unit, _ = split(started(runtime))
    (after,) = [word for word in unit if word.startswith("--property=ExecStopPost=")]
    assert after.startswith('--property=ExecStopPost=-"/usr/bin/python3" "-I" "-S" "-c" ')
    assert "continuum-worker-1-${INVOCATION_ID}" in after
    assert "\n" not in after


@pytest.mark.parametrize("runtime", ["containerd", "docker"])
def test_without_arguments_and_limits_the_image_decides(runtime: Any) -> None:
    bare = ProcessSpec("w", "edge-1", (), working_directory="", image="a:1")
    _, program = split(started(runtime, bare))
    assert program[-2:] in (["a:1", "continuum-w-${INVOCATION_ID}"], ["--log-driver=none", "a:1"])
    assert not any(
        word.startswith(("--cpu", "--memory", "--cwd", "--workdir", "--entrypoint", "--mount"))
        for word in program
    )


@pytest.mark.parametrize("runtime", ["containerd", "docker"])
def test_secret_variables_come_by_a_file(runtime: Any) -> None:
    process = dataclasses.replace(WORKER, secrets={"TOKEN": Secret('a=b "$c')})
    machine = Answering()
    model(runtime).start(machine, process)
    assert "--env-file=/run/continuum/secrets/worker-1" in machine.ran[-1]
    assert not any("a=b" in word for words in machine.ran for word in words)
    assert machine.puts["/run/continuum/secrets/worker-1"] == (b'TOKEN=a=b "$c\n', 0o600)
    two = dataclasses.replace(WORKER, secrets={"TOKEN": Secret("one\ntwo")})
    with pytest.raises(StepFailed, match='the value of "TOKEN" has several lines'):
        model(runtime).start(machine, two)


def test_docker_takes_over_an_image_once() -> None:
    machine = Answering("/usr/bin/docker image inspect")
    model("docker").start(machine, WORKER)
    programs = [words[:4] for words in machine.ran[:4]]
    assert programs == [
        ("/usr/bin/docker", "image", "inspect", "--format={{.Id}}"),
        ("/usr/bin/ctr", "--namespace=k8s.io", "images", "export"),
        ("/usr/bin/docker", "load", "--quiet", "--input=/var/lib/docker/continuum-image.tar"),
        ("rm", "-f", "/var/lib/docker/continuum-image.tar"),
    ]
    known = Answering()
    model("docker").start(known, WORKER)
    assert not any("load" in words for words in known.ran)


def test_an_image_that_docker_cannot_have_is_an_error() -> None:
    machine = Answering("/usr/bin/docker image inspect", "/usr/bin/ctr")
    with pytest.raises(StepFailed, match=r"continuum\.local/worker:0123") as caught:
        model("docker").start(machine, WORKER)
    assert "not there" in caught.value.output


def test_a_process_without_an_image_is_refused() -> None:
    with pytest.raises(StepFailed, match="no container image") as caught:
        model("containerd").start(Answering(), dataclasses.replace(WORKER, image=""))
    assert "process" in caught.value.hint


def test_it_is_the_model_container_where_there_is_no_cluster() -> None:
    experiment = small_experiment(Software(execution_model="container", runtime="docker"))
    packages = Recipe.collect(Container(experiment).install()).packages
    assert {"containerd", "docker.io", "runc"} <= set(packages)
    machine = Answering()
    Container(experiment).start(machine, WORKER)
    assert "/usr/bin/docker" in machine.ran[-1]
