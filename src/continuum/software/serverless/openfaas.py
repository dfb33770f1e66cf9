"""OpenFaaS' REST API, as its gateway in a cluster answers it.

Calls are made on the machine of the control plane: it reaches the gateway whatever provider it runs
on, and whether or not this host does.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from continuum.errors import StepFailed
from continuum.experiment.model import Serverless
from continuum.images.recipe import RUNTIME_FOLDER
from continuum.machine import Command
from continuum.software.serverless.names import (
    NAMESPACE,
    NODE_PORT,
    PASSWORD_KEY,
    SECRET,
    USER_KEY,
)

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.infrastructure.plan import InfrastructurePlan
    from continuum.machine import Machine
    from continuum.software.managers.kubernetes.kubectl import Kubectl

PORT = NODE_PORT
"""On every node of the cluster, for the gateway."""

FUNCTION_PORT = 8080
CALL_SECONDS = 20.0
_STARTING_SECONDS = 10.0


@dataclass(frozen=True)
class Credentials:
    """Who may use the gateway's API."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Access:
    """Where an experiment's functions are called: the gateway's URL, and whose it is."""

    distribution: str
    url: str


@dataclass(frozen=True)
class Reply:
    """The gateway's answer."""

    status: int
    text: str

    @property
    def good(self) -> bool:
        """Whether it did what was asked."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


def function_path(name: str) -> str:
    """Where a function is called, on the gateway."""
    return f"/function/{quote(name, safe='')}"


def function_url(address: str, name: str) -> str:
    """Where a function is called; `address` is that of the gateway's machine."""
    return f"{gateway_url(address)}{function_path(name)}"


def gateway_url(address: str) -> str:
    """Where the gateway is, on a machine."""
    return f"http://{address}:{PORT}"


def access(experiment: Experiment, plan: InfrastructurePlan) -> Access | None:
    """The gateway of an experiment's functions; None when it has none."""
    control = experiment.control_machine
    if experiment.software is None or not experiment.workers_as_functions or control is None:
        return None
    address = next(spec.address for spec in plan.machines if spec.name == control)
    serverless = experiment.software.serverless or Serverless()
    return Access(serverless.distribution, gateway_url(address))


def password_command(deployment: str) -> str:
    """What a person types to see the password of the gateway."""
    return (
        f"continuum kubectl {deployment} get secret {SECRET} --namespace {NAMESPACE} "
        f"--output go-template='{{{{index .data \"{PASSWORD_KEY}\" | base64decode}}}}'"
    )


def credentials(kubectl: Kubectl) -> Credentials:
    """Read from the gateway's secret.

    Raises:
        StepFailed: the cluster has none, or does not answer.
    """
    where = f"secret {SECRET} in namespace {NAMESPACE}"
    result = kubectl.run(
        *("get", "secret", SECRET, f"--namespace={NAMESPACE}", "--output=json")
    ).check(f"the credentials of the functions' gateway cannot be read: {where}")
    try:
        data = json.loads(result.stdout)["data"]
        user, password = (base64.b64decode(data[key]).decode() for key in (USER_KEY, PASSWORD_KEY))
    except (ValueError, KeyError, TypeError) as error:
        raise StepFailed(
            "the credentials of the functions' gateway are not as OpenFaaS has them",
            where=f"{kubectl.machine.name}: {where}",
        ) from error
    return Credentials(user, password)


class Api:
    """The gateway's API, from the machine of the control plane."""

    def __init__(self, machine: Machine, known: Credentials) -> None:
        self.machine = machine
        self._known = known

    @property
    def gateway(self) -> dict[str, Any]:
        """The gateway, as `continuum_runtime.openfaas.Gateway` has it."""
        return {"host": self.machine.address, "port": PORT, **asdict(self._known)}

    def run(self, program: str, asked: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
        """Run one of our programs that asks the gateway; what it writes.

        Raises:
            StepFailed: it did not end well.
            TimedOut: it did not end within so many seconds.
        """
        command = Command(
            ("python3", "-m", f"continuum_runtime.{program}"),
            input=json.dumps({**asked, "gateway": self.gateway}).encode(),
            environment={"PYTHONPATH": RUNTIME_FOLDER},
            timeout=seconds,
            secrets=frozenset({self._known.password} - {""}),
        )
        result = self.machine.run(command).check("the functions' gateway cannot be asked")
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def ask(self, method: str, path: str, body: object = None) -> Reply:
        """One call; the reply may tell of a failure.

        Raises:
            StepFailed: the gateway does not answer, or does not know its own credentials.
        """
        asked = {"method": method, "path": path, "body": body, "seconds": CALL_SECONDS}
        told = self.run("openfaas", asked, seconds=CALL_SECONDS + _STARTING_SECONDS)
        where = f"{self.machine.name}: {method} {gateway_url(self.machine.address)}{path}"
        if "error" in told:
            raise StepFailed(
                "the functions' gateway does not answer",
                where=where,
                output=told["error"],
                hint=f"continuum kubectl DEPLOYMENT get pods --namespace {NAMESPACE}",
            )
        if told["status"] in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise StepFailed(
                f'the functions\' gateway refuses user "{self._known.user}": the password in '
                f"secret {SECRET} is not the one that it was started with",
                where=where,
                hint=f"continuum kubectl DEPLOYMENT rollout restart deployments "
                f"--namespace {NAMESPACE}",
            )
        return Reply(told["status"], told["text"].strip())

    def functions(self) -> list[dict[str, Any]]:
        """All functions that are deployed.

        Raises:
            StepFailed: the gateway does not answer, or refuses.
        """
        found: list[dict[str, Any]] = json.loads(self._good("GET", "/system/functions").text)
        return found or []

    def deploy(self, function: Mapping[str, Any]) -> None:
        """Deploy a function, or make it as this.

        Raises:
            StepFailed: the gateway does not answer, or refuses.
        """
        names = {each["name"] for each in self.functions()}
        method = "PUT" if function["service"] in names else "POST"
        self._good(method, "/system/functions", function)

    def remove(self, name: str) -> None:
        """Remove a function; none of that name is as good.

        Raises:
            StepFailed: the gateway does not answer, or refuses.
        """
        reply = self.ask("DELETE", "/system/functions", {"functionName": name})
        if not reply.good and reply.status != HTTPStatus.NOT_FOUND:
            raise self._refused("DELETE", f"/system/functions ({name})", reply)

    def scale(self, name: str, replicas: int) -> None:
        """Ask for a number of replicas.

        Raises:
            StepFailed: the gateway does not answer, or refuses.
        """
        path = f"/system/scale-function/{quote(name, safe='')}"
        self._good("POST", path, {"serviceName": name, "replicas": replicas})

    def log(self, name: str, lines: int = 0) -> str:
        """What a function's replicas wrote; the last `lines`, 0 for all.

        Raises:
            StepFailed: the gateway does not answer, or refuses.
        """
        asked = {"name": name, "follow": "false", **({"tail": lines} if lines else {})}
        text = self._good("GET", f"/system/logs?{urlencode(asked)}").text
        return "\n".join(map(_said, text.splitlines()))

    def _good(self, method: str, path: str, body: object = None) -> Reply:
        reply = self.ask(method, path, body)
        if not reply.good:
            raise self._refused(method, path, reply)
        return reply

    def _refused(self, method: str, path: str, reply: Reply) -> StepFailed:
        return StepFailed(
            f"the functions' gateway refuses: HTTP status {reply.status}",
            where=f"{self.machine.name}: {method} {path}",
            output=reply.text,
        )


def _said(line: str) -> str:
    """What a line of the API's log says: each is a JSON object."""
    try:
        return str(json.loads(line)["text"]).rstrip("\n")
    except (ValueError, KeyError, TypeError):
        return line
