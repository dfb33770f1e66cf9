"""Containers on plain machines: what they start from, and both runtimes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from continuum.deployment import Deployment
from continuum.errors import StepFailed
from continuum.events import Events
from continuum.experiment.model import Experiment, Software, Tier
from continuum.images import containers, oci
from continuum.images.container_runtime import NAMESPACE
from continuum.images.preloaded import LAYERS
from continuum.images.recipe import ContainerImages, Recipe
from continuum.images.runtime import runtime_tree
from continuum.infrastructure.configure import Surroundings, configure
from continuum.infrastructure.providers.contract import PluginSettings
from continuum.infrastructure.providers.lxc import Lxc
from continuum.machine import Command, Machine, Result
from continuum.software.contract import ProcessSpec
from continuum.software.execution_models.plain_container import PlainContainer
from continuum.testing.software import ExecutionModelContract
from side_by_side import nothing_left
from waiting import within

pytestmark = pytest.mark.e2e

OWN_COMMAND = ("python3", "-c", "print('the image says so')")


@cache
def image() -> containers.ContainerImage:
    recipe = Recipe.collect([runtime_tree()])
    return containers.of_recipe("e2e-worker", recipe, oci.Config(command=OWN_COMMAND))


class Up:
    """One machine that carries containers, and an endpoint of the same image that does not."""

    def __init__(self, runtime: Literal["containerd", "docker"], state: Path) -> None:
        tier = Tier.model_validate({"memory": "1 GiB"})
        self.experiment = Experiment(
            name="plain-containers",
            tiers={"edge": tier, "endpoint": tier},
            software=Software(execution_model="container", runtime=runtime),
        )
        self.deployment = Deployment(self.experiment.name, state)
        self.provider = Lxc(PluginSettings(), Events())
        self.model = PlainContainer(self.experiment)
        steps = [*self.model.install(), ContainerImages((image(),))]
        surroundings = Surroundings(
            deployment=self.deployment.name,
            identity=self.deployment.identity,
            image=self.provider.build_image(Recipe.collect(steps)),
            host_cores=2,
            blocks_in_use=self.provider.blocks_in_use(),
        )
        plan = configure(self.experiment, surroundings, {})
        self.provider.create_network(self.deployment, plan)
        self.provider.create(self.deployment, plan, lambda _: None)
        self.machines = {each.name: each for each in self.provider.machines(self.deployment, plan)}

    @property
    def edge(self) -> Machine:
        return self.machines["edge-1"]

    def run(self, *arguments: str) -> Result:
        return self.edge.run(Command(arguments))


class Contract(ExecutionModelContract):
    """The contract, and what only containers must hold."""

    runtime: ClassVar[Literal["containerd", "docker"]]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _up(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with nothing_left():
            cls.up = Up(cls.runtime, tmp_path_factory.mktemp("state"))
            yield
            cls.up.provider.destroy(cls.up.deployment)

    up: ClassVar[Up]

    def subject(self) -> PlainContainer:
        return self.up.model

    def machine(self) -> Machine:
        return self.up.edge

    def process(self, program: str, *arguments: str) -> ProcessSpec:
        process = super().process(program, *arguments)
        return dataclasses.replace(process, image=image().reference)

    def containers(self) -> list[str]:
        """Names of the containers that are there, also of those that do not run."""
        raise NotImplementedError

    def test_the_container_goes_with_its_unit(self) -> None:
        process = self.process("import time; time.sleep(600)")
        self.subject().start(self.machine(), process)
        assert within(20, lambda: len(self.containers()) == 1)
        self.subject().stop(self.machine(), process)
        assert self.containers() == []

    def test_a_killed_client_takes_its_container_along_and_blocks_nothing(self) -> None:
        process = self.process("import time; time.sleep(600)")
        self.subject().start(self.machine(), process)
        assert within(20, lambda: len(self.containers()) == 1)
        self.up.run("systemctl", "kill", "--signal=KILL", "continuum-contract.service").check()
        assert self.await_state(process, "failed") == "failed"
        assert within(20, lambda: self.containers() == [])
        again = self.process("print('again')")
        self.subject().start(self.machine(), again)
        assert self.await_state(again, "ended") == "ended"

    def test_a_container_that_is_killed_has_failed(self) -> None:
        process = self.process("import time; time.sleep(600)")
        self.subject().start(self.machine(), process)
        assert within(20, lambda: len(self.containers()) == 1)
        assert within(20, lambda: self.up.run("pkill", "-KILL", "-f", "sleep.600").exit_code == 0)
        assert self.await_state(process, "failed") == "failed"

    def test_without_arguments_the_image_decides(self) -> None:
        process = dataclasses.replace(self.process(""), arguments=(), working_directory="")
        self.subject().start(self.machine(), process)
        assert self.await_state(process, "ended", "failed") == "ended"
        assert "the image says so" in self.subject().log(self.machine(), process)

    def test_it_has_the_machines_network_and_its_limits(self) -> None:
        folder = "/var/lib/continuum/run/contract"
        process = dataclasses.replace(
            self.process("import socket; print(socket.gethostname(), open('/etc/hosts').read())"),
            cpu=0.5,
            memory=100 * 2**20,
            output=f"{folder}/said",
        )
        self.subject().start(self.machine(), process)
        assert self.await_state(process, "ended", "failed") == "ended"
        assert self.up.edge.address in self.machine().get(process.output).decode()

    def test_an_image_that_is_not_there_is_named(self) -> None:
        process = dataclasses.replace(self.process(""), image="continuum.local/not:there")
        try:
            self.subject().start(self.machine(), process)
        except StepFailed as error:
            told = error.output
        else:
            assert self.await_state(process, "failed") == "failed"
            told = self.subject().log(self.machine(), process)
        assert "continuum.local/not:there" in told

    def test_without_an_image_it_is_refused(self) -> None:
        process = dataclasses.replace(self.process(""), image="")
        with pytest.raises(StepFailed, match="no container image"):
            self.subject().start(self.machine(), process)

    def test_what_it_writes_reaches_no_other_and_not_the_image(self) -> None:
        write = "open('/etc/written', 'w').write('x'); import os; os.remove('/etc/issue')"
        look = "import os; print(os.path.exists('/etc/written'), os.path.exists('/etc/issue'))"
        for program in (write, look):
            process = self.process(program)
            self.subject().start(self.machine(), process)
            assert self.await_state(process, "ended", "failed") == "ended"
        assert "False True" in self.subject().log(self.machine(), process)
        shared = self.up.run("find", LAYERS, "-name", "written").check()
        assert shared.text == ""

    def test_machines_that_carry_no_containers_do_not_pay_for_them(self) -> None:
        endpoint = self.up.machines["endpoint-1"]
        for unit in ("containerd.service", f"{self.runtime}.service"):
            shown = endpoint.run(Command(("systemctl", "is-active", unit)))
            assert shown.text == "inactive", unit


class TestContainerd(Contract):
    """Debian's containerd."""

    runtime = "containerd"

    def containers(self) -> list[str]:
        client = ("ctr", f"--namespace={NAMESPACE}")
        what = (("containers", "list", "--quiet"), ("tasks", "list", "--quiet"))
        found = [self.up.run(*client, *each).check().text.splitlines() for each in what]
        return sorted({name for names in found for name in names})

    def test_its_images_are_whole_unpacked_and_copied_by_nobody(self) -> None:
        shown = self.up.run("ctr", f"--namespace={NAMESPACE}", "images", "check").check().text
        lines = [line for line in shown.splitlines()[1:] if line.startswith(image().reference)]
        assert len(lines) == 1
        assert "complete" in lines[0]
        assert lines[0].split()[-1] == "true"
        used = self.up.run("du", "--summarize", "--bytes", "/var/lib/containerd").check().text
        assert int(used.split()[0]) < 2 * 2**20

    def test_they_are_still_there_after_a_restart(self) -> None:
        self.up.run("systemctl", "restart", "containerd.service").check()
        self.test_its_images_are_whole_unpacked_and_copied_by_nobody()


class TestDocker(Contract):
    """Debian's docker.io; it takes over the image from containerd."""

    runtime = "docker"

    def containers(self) -> list[str]:
        shown = self.up.run("docker", "ps", "--all", "--format={{.Names}}").check()
        return shown.text.splitlines()
