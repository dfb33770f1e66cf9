"""What the API server notes of each request, so that it can be read when a pod came to be what.

Objects' own times have whole seconds; the audit log has microseconds. A pure function.
"""

from __future__ import annotations

from typing import Any

AUDITED = frozenset({"empty"})
"""Applications that read the log."""

NAMESPACE = "continuum-pods"
"""Where the pods are that the control plane's own benchmark asks for."""


def audit_policy(namespace: str = NAMESPACE) -> dict[str, Any]:
    """The audit policy that tells the life of the pods in one namespace, and nothing else.

    Of a pod's creation the answer is kept, since a name that is generated stands nowhere else; of
    its binding and of its status what was asked.
    """
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "omitManagedFields": True,
        "rules": [
            _rule("RequestResponse", namespace, "pods", "create"),
            _rule("Request", namespace, "pods/binding", "create"),
            _rule("Request", namespace, "pods/status", "patch", "update"),
            {"level": "None"},
        ],
    }


def _rule(level: str, namespace: str, resource: str, *verbs: str) -> dict[str, Any]:
    return {
        "level": level,
        "verbs": list(verbs),
        "resources": [{"group": "", "resources": [resource]}],
        "namespaces": [namespace],
    }
