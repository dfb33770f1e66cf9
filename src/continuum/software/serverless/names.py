"""Names of OpenFaaS, which its own tools know, and ours for where it can be reached."""

from __future__ import annotations

NAMESPACE = "openfaas"
FUNCTIONS = "openfaas-fn"
GATEWAY = "gateway"
SECRET = "basic-auth"  # noqa: S105  its name
USER_KEY = "basic-auth-user"
PASSWORD_KEY = "basic-auth-password"  # noqa: S105  its name
USER = "admin"
PORT = 8080
FUNCTION_LABEL = "faas_function"
"""Of a function's pods; its value is the function's name."""
NODE_PORT = 31112
"""The gateway's port on every machine that kubeadm made a node."""
