"""kubectl on the control machine: how we speak with a cluster, whatever provider it runs on."""

from __future__ import annotations

import json
from typing import Any

from continuum.errors import StepFailed
from continuum.machine import Command, Machine, Result
from continuum.software.managers.kubernetes.kubeadm import ADMIN

LIMIT = 60.0


class Kubectl:
    """Runs `kubectl` as the administrator on the machine of the control plane."""

    def __init__(self, control: Machine) -> None:
        self.machine = control

    def run(
        self,
        *arguments: str,
        text: bytes | None = None,
        limit: float = LIMIT,
        secrets: frozenset[str] = frozenset(),
    ) -> Result:
        """One call; `text` is its standard input. The result may tell of a failure.

        What is secret in `text` is masked in the result's last output.
        """
        timeout = f"--request-timeout={max(1, round(limit / 2))}s"
        command = ("/usr/local/bin/kubectl", f"--kubeconfig={ADMIN}", timeout, *arguments)
        return self.machine.run(Command(command, input=text, timeout=limit, secrets=secrets))

    def get(
        self, kind: str, *, namespace: str = "default", selector: str = "", limit: float = 20.0
    ) -> list[dict[str, Any]]:
        """Objects of a kind, or of several with commas between them.

        Raises:
            StepFailed: the control plane does not answer, or refuses.
            MachineUnreachable: its machine is gone.
        """
        chosen = (f"--selector={selector}",) if selector else ()
        result = self.run(
            "get", kind, f"--namespace={namespace}", "--output=json", *chosen, limit=limit
        ).check("the control plane does not answer")
        try:
            found: list[dict[str, Any]] = json.loads(result.stdout)["items"]
        except (ValueError, KeyError, TypeError) as error:
            raise StepFailed(
                "what kubectl answers cannot be read",
                where=f"{self.machine.name}: {result.command}",
                output=result.last_output,
            ) from error
        return found

    def apply(
        self,
        objects: list[dict[str, Any]],
        *,
        limit: float = LIMIT,
        secrets: frozenset[str] = frozenset(),
    ) -> None:
        """Make objects, or make them as these.

        Raises:
            StepFailed: the control plane refuses one.
        """
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}).encode()
        self.run("apply", "--filename=-", text=text, limit=limit, secrets=secrets).check(
            "the control plane refuses an object"
        )
