"""What systemd and Ansible have done for KubeEdge on a machine.

    python3 edge_node.py await-control-plane
    python3 edge_node.py join SECONDS < TOKEN

The first ends when the API server on this machine answers. The second makes the machine a member of
the cloud that gave the token, unless it is one; it says "changed" where it was not. A machine that
belongs to another cloud, or that was left half-way, begins anew.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import ssl
import subprocess
import sys
import time
from pathlib import Path

CONTROL_PLANE_LIMIT = 280.0
"""Seconds; less than what systemd gives the unit to start."""

_POLL = 0.1
_AUTHORITY = Path("/etc/kubeedge/ca/rootCA.crt")
_CERTIFICATE = Path("/etc/kubeedge/certs/server.crt")
_KEY = Path("/etc/kubeedge/certs/server.key")
_BOOTSTRAP = Path("/etc/kubeedge/bootstrap-edgecore.conf")
_MEMORY = Path("/var/lib/kubeedge")
_UNIT = "edgecore.service"


def api_answers(port: int = 6443) -> bool:
    """Whether the API server on this machine says that it is ready."""
    context = ssl.create_default_context()
    # Nothing is told to it, and nothing but its word that it is there is taken from it.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=2, context=context)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def await_control_plane() -> int:
    """Wait for the API server; the exit code."""
    until = time.monotonic() + CONTROL_PLANE_LIMIT
    while not api_answers():
        if time.monotonic() > until:
            sys.stderr.write("the API server does not answer\n")
            return 1
        time.sleep(_POLL)
    return 0


def has_joined(token: str, authority: Path = _AUTHORITY, files: tuple[Path, ...] = ()) -> bool:
    """Whether this machine has its certificate from the cloud that gave the token.

    A token begins with the SHA-256 of the certificate of the cloud's own authority.
    """
    if not all(path.exists() for path in (authority, *(files or (_CERTIFICATE, _KEY)))):
        return False
    try:
        certificate = ssl.PEM_cert_to_DER_cert(authority.read_text().strip())
    except ValueError:
        return False
    return hashlib.sha256(certificate).hexdigest() == token.partition(".")[0]


def join(token: str, seconds: float) -> int:
    """Make the machine a member of the cloud; the exit code."""
    if has_joined(token):
        _BOOTSTRAP.unlink(missing_ok=True)
        _systemctl("start", _UNIT)
        return 0
    _systemctl("stop", _UNIT)
    for folder in (_AUTHORITY.parent, _KEY.parent, _MEMORY):
        shutil.rmtree(folder, ignore_errors=True)
    _BOOTSTRAP.parent.mkdir(parents=True, exist_ok=True)
    _BOOTSTRAP.touch(mode=0o600)
    _BOOTSTRAP.write_text(token)
    try:
        _systemctl("start", _UNIT)
        until = time.monotonic() + seconds
        while not has_joined(token):
            if time.monotonic() > until:
                sys.stderr.write(f"EdgeCore got no certificate within {seconds:g} s\n")
                return 1
            time.sleep(_POLL)
    finally:
        _BOOTSTRAP.unlink()
    sys.stdout.write("changed\n")
    return 0


def _systemctl(verb: str, unit: str) -> None:
    # What comes of it is awaited by the caller, and the unit's own log says why nothing does.
    subprocess.run(("/usr/bin/systemctl", verb, unit), check=False)


def main(arguments: list[str]) -> int:
    """Do what the first argument says; the exit code."""
    if arguments[0] == "join":
        return join(sys.stdin.read().strip(), float(arguments[1]))
    return await_control_plane()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
