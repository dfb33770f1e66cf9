"""Provider `fake`: machines that exist on paper only.

For trying the command line, and for tests: it needs neither root nor any program, and makes no
process and no interface. Its world is a folder of files in the deployment's own folder, so that
separate commands see the same machines:

    machines/network.json          the bridge
    machines/links.json            the links in force
    machines/NAME/machine.json     one machine: its specification and state
    machines/NAME/files/…          what was put on it

Every command on a machine succeeds without output, beside those that `FakeMachine` knows.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, TypeAdapter

from continuum import folders
from continuum.errors import MachineUnreachable, NotFound, StepFailed
from continuum.experiment.units import Seconds
from continuum.images.recipe import Recipe, fingerprint
from continuum.infrastructure.plan import InfrastructurePlan, Link, MachineSpec, NetworkPlan
from continuum.infrastructure.providers.contract import (
    Capabilities,
    Check,
    MachineState,
    PluginSettings,
    Provider,
)
from continuum.machine import Command, Machine, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from continuum.deployment import Deployment

WORLD = "machines"
_LINKS = TypeAdapter(tuple[Link, ...])
_WRITTEN_SECONDS = TypeAdapter(Seconds)


def _seconds(value: object) -> object:
    """A stored plan holds the number, an experiment the text with its unit."""
    return _WRITTEN_SECONDS.validate_python(value) if isinstance(value, str) else value


class FakeSettings(PluginSettings):
    """How the fake world behaves.

    `fail_at` names operations that fail: `image`, `network`, `create`, `links`, `destroy`, and
    `run`, `put`, `get` on machines; each may be narrowed to a machine, as `create:edge-1`.
    """

    delay: Annotated[float, BeforeValidator(_seconds)] = Field(
        default=0.0, ge=0, le=3600, description="Time that every operation takes."
    )
    fail_at: tuple[str, ...] = Field(default=(), description="Operations that fail.")
    links_off_by: float = Field(
        default=0.0, ge=-100, description="Percent by which measured links differ from asked ones."
    )


class FakeMachine(Machine):
    """A machine on paper."""

    def __init__(self, world: _World, spec: MachineSpec) -> None:
        self.name = spec.name
        self.tier = spec.tier
        self.address = spec.address
        self._world = world
        self._folder = world.folder / spec.name

    def run(self, command: Command) -> Result:
        """Succeed without output; `hostname`, `cat` and `poweroff` do what they say."""
        self._begin("run")
        program, *arguments = command.arguments
        output, code = b"", 0
        match program.rsplit("/", 1)[-1], arguments:
            case "hostname", []:
                output = f"{self.name}\n".encode()
            case "false", _:
                code = 1
            case "cat", [path]:
                output = self.get(path)
            case "poweroff", []:
                self._world.set_state(self.name, "stopped")
        return Result(command, code, output, b"", self._world.settings.delay, self.name)

    def stream(self, command: Command) -> Iterator[str]:
        """The lines of what `run` answers."""
        yield from self.run(command).check().stdout.decode("utf-8", "replace").splitlines()

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Keep a file."""
        self._begin("put")
        folders.write_file(self._path(path), content, mode)

    def get(self, path: str) -> bytes:
        """Return a file that was put."""
        self._begin("get")
        try:
            return self._path(path).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NotFound(f"no file {path}", where=self.name) from error

    def _path(self, path: str) -> Path:
        return self._folder.joinpath(
            "files", *(part for part in Path(path).parts if part not in {"/", ".."})
        )

    def _begin(self, operation: str) -> None:
        self._world.operate(operation, self.name)
        if self._world.state(self.name) != "running":
            raise MachineUnreachable(
                f"machine {self.name} does not run", where=self.name, hint="continuum up FILE"
            )


class _World:
    """What exists: the files of one deployment."""

    def __init__(self, settings: FakeSettings, deployment: Deployment) -> None:
        self.settings = settings
        self.folder = deployment.folder / WORLD

    def operate(self, operation: str, machine: str = "") -> None:
        """Take the time that was set, then fail if that was set."""
        _operate(self.settings, operation, machine)

    def read(self, name: str) -> Any:  # noqa: ANN401  what JSON can hold
        """A file of the world, None when it is not there."""
        try:
            return json.loads((self.folder / name).read_bytes())
        except FileNotFoundError:
            return None

    def write(self, name: str, content: object) -> bool:
        """Write a file of the world; True when that changed it."""
        if self.read(name) == content:
            return False
        folders.write_file(self.folder / name, json.dumps(content, indent=1) + "\n")
        return True

    def state(self, machine: str) -> str:
        """`running`, `stopped` or `absent`."""
        found = self.read(f"{machine}/machine.json")
        return str(found["state"]) if found else "absent"

    def set_state(self, machine: str, state: str) -> None:
        """Start or stop a machine that is there."""
        self.write(
            f"{machine}/machine.json", {**self.read(f"{machine}/machine.json"), "state": state}
        )

    def machines(self) -> list[MachineState]:
        """All that exist, by name."""
        return [
            MachineState(path.parent.name, found["state"], found["fingerprint"])
            for path in sorted(self.folder.glob("*/machine.json"))
            if (found := self.read(f"{path.parent.name}/machine.json"))
        ]


def _operate(settings: FakeSettings, operation: str, machine: str = "") -> None:
    if settings.delay:
        time.sleep(settings.delay)
    named = f"{operation}:{machine}"
    if operation in settings.fail_at or named in settings.fail_at:
        raise StepFailed(
            f"{operation} failed, as the setting fail_at says",
            where=machine or "provider fake",
            output=f"fake: {named.rstrip(':')}",
            hint="remove it from infrastructure.fake.fail_at",
        )


class Fake(Provider):
    """Machines that exist on paper only."""

    name: ClassVar[str] = "fake"
    settings_type: ClassVar[type[PluginSettings]] = FakeSettings
    capabilities: ClassVar[Capabilities] = Capabilities(
        one_clock=True,
        quota_covers="machine",
        disk_limits="none: no data is written",
        needs_root=False,
        ssh=False,
    )
    settings: FakeSettings

    def check(self) -> list[Check]:
        """Nothing can be missing."""
        return [Check("fake machines", ok=True, detail="they need nothing")]

    def blocks_in_use(self) -> list[str]:
        """None: no interface is made."""
        return []

    def build_image(self, recipe: Recipe) -> str:
        """Build nothing; the fingerprint is the recipe's."""
        _operate(self.settings, "image")
        inputs = [(tree.name, tree.inputs) for tree in recipe.trees]
        units = (recipe.units.enabled, recipe.units.disabled)
        return fingerprint(recipe.packages, recipe.python, units, inputs)

    def create_network(self, deployment: Deployment, plan: InfrastructurePlan) -> bool:
        """Write the bridge down."""
        world = self._world(deployment)
        world.operate("network")
        return world.write("network.json", _network(plan.network))

    def create(
        self, deployment: Deployment, plan: InfrastructurePlan, progress: Callable[[str], None]
    ) -> list[str]:
        """Write the machines down."""
        world = self._world(deployment)
        there = {state.name: state for state in world.machines()}
        wanted = {spec.name for spec in plan.machines}
        changed = [name for name in there if name not in wanted]
        for name in changed:
            progress(f"removing {name}")
            shutil.rmtree(world.folder / name)
        for number, spec in enumerate(plan.machines, start=1):
            made_of = fingerprint(asdict(spec), plan.image)
            before = there.get(spec.name)
            if before == MachineState(spec.name, "running", made_of):
                continue
            progress(f"{spec.name}, {number} of {len(plan.machines)}")
            world.operate("create", spec.name)
            if before is not None and before.fingerprint != made_of:
                shutil.rmtree(world.folder / spec.name)
            world.write(
                f"{spec.name}/machine.json",
                {"state": "running", "fingerprint": made_of, "specification": asdict(spec)},
            )
            changed.append(spec.name)
        return changed

    def machines(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Machine]:
        """Handles of the plan's machines."""
        world = self._world(deployment)
        return [FakeMachine(world, spec) for spec in plan.machines]

    def states(self, deployment: Deployment) -> list[MachineState]:
        """The machines that are written down."""
        return self._world(deployment).machines()

    def apply_links(self, deployment: Deployment, plan: InfrastructurePlan) -> bool:
        """Write the links down."""
        world = self._world(deployment)
        world.operate("links")
        return world.write("links.json", _LINKS.dump_python(plan.network.links, mode="json"))

    def links_in_force(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Link]:
        """The links that were written down."""
        del plan
        return list(_LINKS.validate_python(self._world(deployment).read("links.json") or []))

    def destroy(self, deployment: Deployment) -> None:
        """Remove the world."""
        world = self._world(deployment)
        if world.folder.exists():
            world.operate("destroy")
            shutil.rmtree(world.folder)

    def leftovers(self, state_folder: Path) -> list[str]:
        """Deployments whose world is there."""
        return sorted(
            path.parent.parent.name for path in state_folder.glob(f"*/{WORLD}/network.json")
        )

    def _world(self, deployment: Deployment) -> _World:
        return _World(self.settings, deployment)


def _network(network: NetworkPlan) -> dict[str, str]:
    return {
        "bridge": network.bridge,
        "block": str(network.block),
        "host_address": network.host_address,
    }
