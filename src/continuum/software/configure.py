"""What phase 2 will do: roles on machines, as files for Ansible. Touches no machine.

The files refer to each other and to the deployment by relative paths, so that they are the same on
every host, and whoever stands in their folder can run `ansible-playbook playbook.yml`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from continuum import plugins
from continuum.errors import NotPossibleHere
from continuum.experiment.model import Software
from continuum.images.recipe import fingerprint
from continuum.secret import Secret, texts

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.images.recipe import InstallStep
    from continuum.infrastructure.plan import InfrastructurePlan
    from continuum.software.contract import ExecutionModel, ResourceManager, RolePlay, Service

ROLES = Path(__file__).parent / "roles"
"""The roles that ship with Continuum."""

PLAN_FOLDER = "plan/software"
"""Where the files lie in a deployment's folder."""

WORK_FOLDER = "ansible"
"""What Ansible writes while it runs, in a deployment's folder; empty otherwise."""

_UP = "../.."
assert PLAN_FOLDER.count("/") == _UP.count("/")

# A path of a socket may have about 100 characters: hence relative, and named by a hash.
_SETTINGS = f"""\
[defaults]
inventory = inventory.json
roles_path = roles
forks = 16
gathering = explicit
interpreter_python = /usr/bin/python3
retry_files_enabled = false
nocolor = true
nocows = true
deprecation_warnings = false
show_custom_stats = false

[inventory]
enable_plugins = yaml

[connection]
pipelining = true

[ssh_connection]
ssh_args = -F {_UP}/ssh_config -o ControlMaster=auto -o ControlPersist=10s\
 -o ControlPath={_UP}/{WORK_FOLDER}/%C
transfer_method = piped
"""


@dataclass(frozen=True)
class SoftwarePlan:
    """Everything that *execute* needs to know.

    Attributes:
        plays: roles in the order in which they are applied.
        services: names of the services, each with the machines that carry it.
        files: content by path below `PLAN_FOLDER`; empty when there are no plays. None of them
            holds a secret.
        secret_variables: what the plays' roles read beside the files.
    """

    plays: tuple[RolePlay, ...] = ()
    services: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    secret_variables: Mapping[str, Secret] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits; changes with everything that reaches a machine but secrets."""
        return fingerprint(dict(self.files))

    def mark(self, key: Callable[[], bytes]) -> str:
        """A fingerprint that changes with secrets too, and tells nothing of them without the key."""
        if not self.secret_variables:
            return self.fingerprint
        made = key()
        digests = {name: each.digest(made) for name, each in self.secret_variables.items()}
        return fingerprint(self.fingerprint, digests)

    @property
    def secrets(self) -> frozenset[str]:
        """Texts that are masked in logs and messages."""
        return frozenset(filter(None, texts(self.secret_variables)))

    @property
    def machines(self) -> tuple[str, ...]:
        """Names of the machines that carry software, each once."""
        return tuple(dict.fromkeys(name for play in self.plays for name in play.machines))


def configure(
    experiment: Experiment,
    plan: InfrastructurePlan,
    services_needed: Mapping[str, tuple[str, ...]] | None = None,
) -> SoftwarePlan:
    """The software phase of an experiment; empty when the experiment has no use for software.

    `services_needed` are the services that the application needs, each with its machines. They
    come beside the ones that the experiment names, which are on every worker machine, and beside
    those that the manager needs.

    Raises:
        NotPossibleHere: the manager does not carry this experiment, or is not in this version.
        UsageError: a name is no plug-in.
    """
    services = _services(experiment, services_needed or {})
    plays: list[RolePlay] = []
    if _has_software(experiment):
        plays += manager_of(experiment).configure(experiment, plan)
    for name in services:
        plays += _service(name).configure_beside(experiment, plan, services)
    secrets: dict[str, Secret] = {}
    for play in plays:
        assert secrets.keys().isdisjoint(play.secrets)
        secrets |= play.secrets
    return SoftwarePlan(tuple(plays), services, _files(plan, plays) if plays else {}, secrets)


def install_steps(
    experiment: Experiment, services_needed: Iterable[str] = ()
) -> tuple[InstallStep, ...]:
    """What manager, execution model and services want in the machine image.

    Raises:
        NotPossibleHere: the manager does not carry this experiment, or is not in this version.
        UsageError: a name is no plug-in.
    """
    steps: list[InstallStep] = []
    if _has_software(experiment):
        steps += manager_of(experiment).install(experiment)
        steps += _execution_model(experiment).install()
    for name in _services(experiment, dict.fromkeys(services_needed, ())):
        steps += _service(name).install()
    return tuple(steps)


def versions(experiment: Experiment) -> dict[str, str]:
    """Versions of what the experiment's manager brings, by name."""
    if not _has_software(experiment):
        return {}
    return dict(manager_of(experiment).versions(experiment))


def service_names(experiment: Experiment, services_needed: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of the services that machines will carry."""
    return tuple(_services(experiment, dict.fromkeys(services_needed, ())))


def left_out(experiment: Experiment) -> tuple[str, ...]:
    """A sentence about each service that the experiment names and that has no use in it."""
    reasons = {name: _service(name).skip(experiment) for name in _named(experiment)}
    return tuple(
        f'service "{name}" is left out: {reason}' for name, reason in reasons.items() if reason
    )


def service_machines(experiment: Experiment) -> tuple[str, ...]:
    """The machines that services named in the experiment run on: the workers'.

    Without a benchmark these are the machines of the tier that would carry workers.
    """
    if experiment.benchmark is not None:
        return experiment.worker_machines
    filled = [name for name, tier in experiment.tiers.items() if tier.machines > 0]
    for name in ("edge", "cloud", *filled):
        if name in filled:
            return experiment.machine_names(name)
    return ()


def _software(experiment: Experiment) -> Software:
    return experiment.software or Software()


def _has_software(experiment: Experiment) -> bool:
    return experiment.software is not None or experiment.benchmark is not None


def _services(
    experiment: Experiment, needed: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Services by name, each with its machines; names and machines once, in a fixed order.

    Those without a use here are left out.
    """
    wanted = service_machines(experiment)
    found: dict[str, tuple[str, ...]] = {}
    own = manager_of(experiment).services(experiment) if _has_software(experiment) else {}
    named_ = _named(experiment)
    for name in sorted({*named_, *needed, *own}):
        if _service(name).skip(experiment) is not None:
            continue
        named = wanted if name in named_ else ()
        all_ = tuple(dict.fromkeys((*named, *needed.get(name, ()), *own.get(name, ()))))
        found[name] = _service(name).machines(experiment, all_)
    return found


def _named(experiment: Experiment) -> tuple[str, ...]:
    """Names of the services that the experiment asks for."""
    software = _software(experiment)
    asked = ("observability",) if software.observability else ()
    return tuple(dict.fromkeys((*software.services, *asked)))


def _service(name: str) -> Service:
    service: Service = plugins.load("services", name)()
    return service


def manager_of(experiment: Experiment) -> ResourceManager:
    """The experiment's resource manager.

    Raises:
        NotPossibleHere: it does not carry this experiment, or is not in this version.
        UsageError: there is no such manager.
    """
    software = _software(experiment)
    manager: ResourceManager = plugins.load("managers", software.manager)()
    reason = manager.skip(experiment)
    if reason is not None:
        raise NotPossibleHere(f'manager "{software.manager}": {reason}')
    if software.execution_model not in manager.execution_models:
        models = ", ".join(manager.execution_models)
        raise NotPossibleHere(
            f'execution model "{software.execution_model}" does not work with the manager '
            f'"{software.manager}"',
            hint=f"it carries: {models}",
        )
    return manager


def _execution_model(experiment: Experiment) -> ExecutionModel:
    kind: type[ExecutionModel] = plugins.load(
        "execution_models", _software(experiment).execution_model
    )
    return kind(experiment)


def _files(plan: InfrastructurePlan, plays: list[RolePlay]) -> dict[str, str]:
    files = {
        "ansible.cfg": _SETTINGS,
        "inventory.json": json.dumps(_inventory(plan, plays), indent=2) + "\n",
        "playbook.yml": "---\n" + "\n".join(_play(play) for play in plays),
    }
    for play in plays:
        folder = play.roles / play.role
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                files[f"roles/{play.role}/{path.relative_to(folder).as_posix()}"] = path.read_text()
    return files


def _inventory(plan: InfrastructurePlan, plays: list[RolePlay]) -> dict[str, Any]:
    """Machines by tier, as groups of Ansible; a machine's own variables stand beside its name."""
    used = {name for play in plays for name in play.machines}
    groups: dict[str, Any] = {}
    for machine in plan.machines:
        if machine.name in used:
            variables: dict[str, Any] = {}
            if machine.login != "root":
                variables["ansible_become"] = True
            for play in plays:
                variables |= play.per_machine.get(machine.name, {})
            group = f"tier_{machine.tier.replace('-', '_')}"
            groups.setdefault(group, {"hosts": {}})["hosts"][machine.name] = variables
    return groups


def _play(play: RolePlay) -> str:
    hosts = "".join(f"    - {name}\n" for name in play.machines)
    variables = "".join(
        f"    {name}: {json.dumps(value, sort_keys=True)}\n"
        for name, value in sorted(play.variables.items())
    )
    return (
        f"- name: {play.role}\n"
        f"  hosts:\n{hosts}"
        "  gather_facts: false\n"
        "  any_errors_fatal: true\n"
        + (f"  vars:\n{variables}" if variables else "")
        + f"  roles:\n    - {play.role}\n"
    )
