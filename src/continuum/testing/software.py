"""Contract tests of services, resource managers and execution models.

Inherit one in a test module, give it the thing to test, and pytest runs the rest:

    class TestMine(ServiceContract):
        def subject(self) -> Service:
            return Mine()
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from continuum import plugins
from continuum.errors import NotFound, StepFailed
from continuum.experiment.model import Experiment, Software, Tier
from continuum.images.recipe import InstallStep, Recipe
from continuum.infrastructure.plan import InfrastructurePlan, MachineSpec, NetworkPlan
from continuum.machine import Command, Machine, Result
from continuum.secret import Secret
from continuum.software.contract import (
    ExecutionModel,
    ProcessSpec,
    ResourceManager,
    RolePlay,
    Service,
)

_PLUGIN_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


def small_experiment(software: Software | None = None) -> Experiment:
    """Two edge machines and a cloud machine."""
    return Experiment(
        name="contract",
        tiers={"cloud": Tier(machines=1), "edge": Tier(machines=2)},
        software=software or Software(),
    )


def small_plan(experiment: Experiment) -> InfrastructurePlan:
    """The machines of an experiment, with addresses, as phase 1 would plan them."""
    tiers = {
        tier: ipaddress.IPv4Network(f"10.20.{number}.0/24")
        for number, tier in enumerate(experiment.tiers)
    }
    # In a cluster, as many pods as fit beside a few machines.
    pods = {tier: list(block.subnets(new_prefix=28))[1:] for tier, block in tiers.items()}
    nodes = experiment.node_machines if experiment.in_a_cluster else ()
    machines = tuple(
        MachineSpec(
            name=name,
            tier=tier,
            pods=pods[tier][number] if name in nodes else None,
            address=str(block[number + 1]),
            mac=f"02:00:00:00:{block[0].packed[2]:02x}:{number + 1:02x}",
            cores=experiment.tiers[tier].cores,
            quota=experiment.tiers[tier].quota,
            memory=experiment.tiers[tier].memory,
        )
        for tier, block in tiers.items()
        for number, name in enumerate(experiment.machine_names(tier))
    )
    whole = ipaddress.IPv4Network("10.20.0.0/16")
    return InfrastructurePlan(
        deployment=experiment.name,
        identity="00000000",
        provider="fake",
        image="0",
        machines=machines,
        network=NetworkPlan("ctm00000000", whole, "10.20.255.254", tiers),
    )


class DeadMachine(Machine):
    """Every command fails and no file is there."""

    def __init__(self, name: str = "edge-1") -> None:
        self.name = name
        self.tier = name.rpartition("-")[0]
        self.address = "10.20.1.1"

    def run(self, command: Command) -> Result:
        """Fail."""
        return Result(command, 1, b"", b"no", 0.0, self.name)

    def stream(self, command: Command) -> Iterator[str]:
        """Fail."""
        self.run(command).check()
        yield from ()

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Fail."""
        del content, mode
        raise StepFailed(f"cannot write {path}", where=self.name)

    def get(self, path: str) -> bytes:
        """Fail."""
        raise NotFound(f"no file {path}", where=self.name)


def _described(steps: Iterable[InstallStep]) -> tuple[object, ...]:
    recipe = Recipe.collect(steps)
    trees = tuple((tree.name, tree.inputs) for tree in recipe.trees)
    return (recipe.packages, recipe.python, recipe.units, trees)


def _check_plays(plays: tuple[RolePlay, ...], allowed: tuple[str, ...]) -> None:
    for play in plays:
        assert play.machines, "a role needs machines"
        assert set(play.machines) <= set(allowed)
        assert set(play.per_machine) <= set(play.machines)
        assert (play.roles / play.role / "tasks" / "main.yml").is_file()
        names = {*play.variables, *(name for own in play.per_machine.values() for name in own)}
        for name in names:
            assert name.startswith(f"{play.role}_"), "variables of all roles share one space"


class ServiceContract(ABC):
    """What every service must hold, without machines."""

    @abstractmethod
    def subject(self) -> Service:
        """The service."""

    def experiment(self) -> Experiment:
        """An experiment that the service is for."""
        return small_experiment()

    def test_has_a_name_for_experiments(self) -> None:
        """Its name can stand in an experiment."""
        assert _PLUGIN_NAME.fullmatch(self.subject().name)

    def test_the_same_service_makes_the_same_image(self) -> None:
        """Install steps depend on nothing but the version."""
        assert _described(self.subject().install()) == _described(self.subject().install())

    def test_trees_stay_below_the_root(self, tmp_path: Path) -> None:
        """Trees write into the image, not onto the host."""
        root = tmp_path / "image" / "root"
        root.mkdir(parents=True)
        for tree in Recipe.collect(self.subject().install()).trees:
            tree.write(root, lambda _: None)
        assert list(root.parent.iterdir()) == [root]

    def test_roles_are_there_and_reach_only_the_machines_asked_for(self) -> None:
        """Configure is pure; every role has tasks and variables named after it."""
        experiment = self.experiment()
        plan = small_plan(experiment)
        machines = ("edge-2",)
        plays = self.subject().configure(experiment, plan, machines)
        _check_plays(plays, machines)
        assert plays == self.subject().configure(experiment, plan, machines)

    def test_is_not_ready_where_nothing_answers(self) -> None:
        """Ready says no, and does not raise, where every command fails."""
        assert self.subject().ready(DeadMachine()) is False

    def test_logs_are_systemd_units(self) -> None:
        """Logs are names of units."""
        assert all("." in unit and "/" not in unit for unit in self.subject().logs)


class ResourceManagerContract(ABC):
    """What every resource manager must hold, without machines."""

    @abstractmethod
    def subject(self) -> ResourceManager:
        """The manager."""

    def experiment(self) -> Experiment:
        """An experiment that the manager carries."""
        return small_experiment(Software(manager=self.subject().name))

    def test_has_a_name_for_experiments(self) -> None:
        """Its name can stand in an experiment."""
        assert _PLUGIN_NAME.fullmatch(self.subject().name)

    def test_carries_its_experiment(self) -> None:
        """It does not skip the experiment that it is for."""
        assert self.subject().skip(self.experiment()) is None

    def test_the_same_manager_makes_the_same_image(self) -> None:
        """Install steps depend on nothing but the version."""
        experiment = self.experiment()
        assert _described(self.subject().install(experiment)) == _described(
            self.subject().install(experiment)
        )

    def test_roles_are_there_and_reach_only_machines_of_the_plan(self) -> None:
        """Configure is pure; every role has tasks and variables named after it."""
        experiment = self.experiment()
        plan = small_plan(experiment)
        plays = self.subject().configure(experiment, plan)
        _check_plays(plays, tuple(machine.name for machine in plan.machines))
        assert plays == self.subject().configure(experiment, plan)

    def test_execution_models_exist(self) -> None:
        """It carries at least one execution model, and only known ones."""
        models = self.subject().execution_models
        assert models
        assert [plugins.problem_with("execution_models", model) for model in models] == [
            None for _ in models
        ]


class ExecutionModelContract(ABC):
    """What every execution model must hold, on a real machine that has Python."""

    limit = 30.0
    """Seconds to wait for a state."""

    @abstractmethod
    def subject(self) -> ExecutionModel:
        """The execution model."""

    @abstractmethod
    def machine(self) -> Machine:
        """A machine that runs."""

    def process(self, program: str, *arguments: str) -> ProcessSpec:
        """A process that carries out a Python program."""
        return ProcessSpec(
            name="contract",
            machine=self.machine().name,
            arguments=("python3", "-c", program, *arguments),
        )

    def await_state(self, process: ProcessSpec, *wanted: str) -> str:
        """Wait for one of the states; the last one seen is returned, whatever it is."""
        return self._await(
            lambda: self.subject().state(self.machine(), process), lambda state: state in wanted
        )

    def await_log(self, process: ProcessSpec, wanted: str) -> str:
        """Wait until a word is in the log, which may come after the end; returns the log."""
        return self._await(
            lambda: self.subject().log(self.machine(), process), lambda log: wanted in log
        )

    def _await(self, look: Callable[[], str], holds: Callable[[str], bool]) -> str:
        end = time.monotonic() + self.limit
        while True:
            began = time.monotonic()
            seen = look()
            if holds(seen) or began > end:
                return seen
            # A look may need much of the processor, which what is awaited needs too.
            time.sleep(max(0.05, time.monotonic() - began))

    def teardown_method(self) -> None:
        """Stop the process, also when a test failed."""
        self.subject().stop(self.machine(), self.process(""))

    def test_what_was_never_started_is_absent_and_can_be_stopped(self) -> None:
        """Stopping what is not there succeeds."""
        process = self.process("pass")
        assert self.subject().state(self.machine(), process) == "absent"
        self.subject().stop(self.machine(), process)

    def test_ends_well(self) -> None:
        """Exit status 0 is `ended`; what it said is in the log."""
        process = self.process("print('said')")
        self.subject().start(self.machine(), process)
        assert self.await_state(process, "ended", "failed") == "ended"
        assert "said" in self.await_log(process, "said")

    def test_ends_badly(self) -> None:
        """Any other exit status is `failed`; what it said is in the log."""
        process = self.process("raise SystemExit('oh no')")
        self.subject().start(self.machine(), process)
        assert self.await_state(process, "ended", "failed") == "failed"
        assert "oh no" in self.subject().log(self.machine(), process)

    def test_is_ready_when_its_file_is_there_and_absent_when_stopped(self) -> None:
        """A ready file of an earlier run does not count."""
        folder = "/var/lib/continuum/run/contract"
        process = dataclasses.replace(
            self.process(_READY_WHEN_TOLD, folder), ready_file=f"{folder}/ready"
        )
        self.machine().put(b"of an earlier run", f"{folder}/ready")
        self.subject().start(self.machine(), process)
        assert self.await_state(process, "starting") == "starting"
        self.machine().put(b"", f"{folder}/go")
        assert self.await_state(process, "ready") == "ready"
        self.subject().stop(self.machine(), process)
        assert self.subject().state(self.machine(), process) == "absent"

    def test_all_are_stopped_and_forgotten_at_once(self) -> None:
        """Running ones, ones that have failed, and ones that were never there."""
        runs = self.process("import time; time.sleep(600)")
        failed = dataclasses.replace(self.process("raise SystemExit(3)"), name="contract-failed")
        absent = dataclasses.replace(self.process("pass"), name="contract-absent")
        for process in (runs, failed):
            self.subject().start(self.machine(), process)
        assert self.await_state(failed, "failed") == "failed"
        self.subject().stop_all(self.machine(), (runs, failed, absent))
        for process in (runs, failed, absent):
            assert self.subject().state(self.machine(), process) == "absent"

    def test_a_second_start_replaces_the_first(self) -> None:
        """Whether the first one runs or has ended."""
        self.subject().start(self.machine(), self.process("import time; time.sleep(600)"))
        second = self.process("pass")
        self.subject().start(self.machine(), second)
        assert self.await_state(second, "ended") == "ended"
        self.subject().start(self.machine(), second)
        assert self.await_state(second, "ended") == "ended"

    def test_gets_its_files_arguments_environment_and_folder(self) -> None:
        """Literally, whatever characters are in them."""
        folder = "/var/lib/continuum/run/contract"
        odd = ("a b", '"', "'", "$HOME ${HOME} $$", "%n", "\\n", ";", "", "é", "--", "*")
        process = dataclasses.replace(
            self.process(_TELL, *odd),
            environment={"ODD": 'x  $HOME %h "q" \\n'},
            secrets={"HIDDEN": Secret('y  $HOME %h "q" \\n `id` $(HOME) #é')},
            files={f"{folder}/input": b"\x00content"},
            output=f"{folder}/output file",
            working_directory=folder,
        )
        self.machine().put(b"much longer than what will be written" * 100, process.output)
        self.subject().start(self.machine(), process)
        assert self.await_state(process, "ended", "failed") == "ended"
        told = self.machine().get(process.output).decode()
        words = ('x  $HOME %h "q" \\n', process.secrets["HIDDEN"].open())
        assert told == repr([*odd, *words, folder, b"\x00content"])

    def test_its_processor_time_is_limited(self) -> None:
        """A quarter of a core is a quarter of a core."""
        process = dataclasses.replace(
            self.process(_BUSY, "1.0"), cpu=0.25, output="/var/lib/continuum/run/contract/used"
        )
        self.subject().start(self.machine(), process)
        assert self.await_state(process, "ended", "failed") == "ended"
        assert 0.1 < float(self.machine().get(process.output)) < 0.4

    def test_its_memory_is_limited(self) -> None:
        """Who takes more than the limit is killed."""
        process = dataclasses.replace(self.process("b'1' * (200 * 2**20)"), memory=64 * 2**20)
        self.subject().start(self.machine(), process)
        assert self.await_state(process, "ended", "failed") == "failed"


_READY_WHEN_TOLD = """\
import os, sys, time
folder = sys.argv[1]
while not os.path.exists(folder + "/go"):
    time.sleep(0.01)
os.remove(folder + "/go")
open(folder + "/ready", "w").close()
time.sleep(600)
"""

_TELL = """\
import os, sys
content = open("input", "rb").read()
words = (os.environ["ODD"], os.environ["HIDDEN"])
print(repr([*sys.argv[1:], *words, os.getcwd(), content]), end="")
"""

# Share of a core that a process gets in so many seconds.
_BUSY = """\
import sys, time
began, used = time.monotonic(), time.process_time()
while time.monotonic() < began + float(sys.argv[1]):
    pass
print((time.process_time() - used) / (time.monotonic() - began))
"""
