"""What systemd and Ansible have done for KubeEdge on a machine.

    python3 edge_node.py await-control-plane
    python3 edge_node.py join SECONDS < TOKEN
    python3 edge_node.py await-cloud SETTINGS

The first ends when the API server on this machine answers. The second makes the machine a member of
the cloud that gave the token, unless it is one; it says "changed" where it was not. A machine that
belongs to another cloud, or that was left half-way, begins anew.

The third ends when EdgeCore, whose SETTINGS it reads, is connected with the cloud. Only then does
EdgeCore's kubelet reach the container runtime: what it tells the cloud before there is a connection
gets lost, its own registration too, and it waits 60 s for an answer. Without a cloud it gets to work after
a short while. Should a registration get lost all the same, EdgeCore is started again.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

CONTROL_PLANE_LIMIT = 280.0
"""Seconds; less than what systemd gives the unit to start."""

PATIENCE = 8.0
"""Seconds for EdgeCore to be registered before it is started again; twice as long each time."""

CLOUD_LIMIT = 2.0
"""Seconds that the kubelet waits for the cloud."""

JOIN_LIMIT = 30.0
"""The same of a machine that has no certificate yet. The kubelet itself gives up after 5 s; EdgeCore
is then started again by systemd."""

UNIT = "edgecore.service"

_POLL = 0.1
# What follows on a TCP connection before EdgeCore takes itself for connected.
_HANDSHAKE = 0.3
_ESTABLISHED = "01"
# An object that the cloud has got has an identity; what it answers else may be kept as well.
_REGISTERED = """SELECT 1 FROM meta WHERE type = 'node' AND value LIKE '%"uid":"%'"""


@dataclass(frozen=True)
class Membership:
    """EdgeCore's own files, below `root`."""

    root: Path = Path("/")

    @property
    def authority(self) -> Path:
        """The certificate of the cloud's own authority."""
        return self.root / "etc/kubeedge/ca/rootCA.crt"

    @property
    def certificates(self) -> Path:
        """The folder of the machine's certificate and key."""
        return self.root / "etc/kubeedge/certs"

    @property
    def bootstrap(self) -> Path:
        """The token, until the machine has its certificate."""
        return self.root / "etc/kubeedge/bootstrap-edgecore.conf"

    @property
    def memory(self) -> Path:
        """What EdgeCore knows of the cluster."""
        return self.root / "var/lib/kubeedge/edgecore.db"

    def has_certificate(self, token: str) -> bool:
        """Whether the machine has its certificate from the cloud that gave the token.

        A token begins with the SHA-256 of the certificate of the cloud's own authority.
        """
        needed = (
            self.authority,
            self.certificates / "server.crt",
            self.certificates / "server.key",
        )
        if not all(path.exists() for path in needed):
            return False
        try:
            certificate = ssl.PEM_cert_to_DER_cert(self.authority.read_text().strip())
        except ValueError:
            return False
        return hashlib.sha256(certificate).hexdigest() == token.partition(".")[0]

    def is_registered(self) -> bool:
        """Whether the cloud has told EdgeCore of the node that it is."""
        try:
            with closing(sqlite3.connect(f"file:{self.memory}?mode=ro", uri=True)) as memory:
                return memory.execute(_REGISTERED).fetchone() is not None
        except sqlite3.Error:
            return False

    def begin_anew(self, token: str) -> None:
        """Forget everything of a cloud, and have the token for another."""
        for folder in (self.authority.parent, self.certificates, self.memory.parent):
            shutil.rmtree(folder, ignore_errors=True)
        self.bootstrap.parent.mkdir(parents=True, exist_ok=True)
        self.bootstrap.touch(mode=0o600)
        self.bootstrap.write_text(token)


def join(token: str, seconds: float, membership: Membership) -> int:
    """Make the machine a member of the cloud; the exit code."""
    until = time.monotonic() + seconds
    fresh = not membership.has_certificate(token)
    if fresh:
        _systemctl("stop")
        membership.begin_anew(token)
    _systemctl("start")
    patience, last = PATIENCE, time.monotonic()
    while not membership.is_registered():
        now = time.monotonic()
        if now > until:
            sys.stderr.write(f"this machine is no member of the cloud after {seconds:g} s\n")
            return 1
        if not membership.has_certificate(token):
            last = now
        elif now > last + patience:
            _systemctl("restart")
            patience, last = 2 * patience, time.monotonic()
        time.sleep(_POLL)
    membership.bootstrap.unlink(missing_ok=True)
    if fresh:
        sys.stdout.write("changed\n")
    return 0


def is_connected(table: str, server: str) -> bool:
    """Whether a TCP connection to `server` (as `10.0.0.2:10000`) is in a table of /proc/net/tcp."""
    address, _, port = server.rpartition(":")
    wanted = f"{socket.inet_aton(address)[::-1].hex().upper()}:{int(port):04X}"
    rows = (line.split() for line in table.splitlines()[1:])
    return any(row[2] == wanted and row[3] == _ESTABLISHED for row in rows)


def await_cloud(settings: Path, membership: Membership) -> int:
    """Wait until EdgeCore is connected with the cloud, or has had its time; the exit code."""
    server = json.loads(settings.read_text())["modules"]["edgeHub"]["websocket"]["server"]
    until = time.monotonic() + (JOIN_LIMIT if membership.bootstrap.exists() else CLOUD_LIMIT)
    while not is_connected(Path("/proc/net/tcp").read_text(), server):
        if time.monotonic() > until:
            return 0
        time.sleep(_POLL / 5)
    time.sleep(_HANDSHAKE)
    return 0


def _systemctl(verb: str) -> None:
    # What comes of it is awaited by the caller, and the unit's own log says why nothing does.
    waiting = () if verb == "stop" else ("--no-block",)
    subprocess.run(("/usr/bin/systemctl", *waiting, verb, UNIT), check=False)


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


def main(arguments: list[str]) -> int:
    """Do what the first argument says; the exit code."""
    match arguments:
        case ["join", seconds]:
            return join(sys.stdin.read().strip(), float(seconds), Membership())
        case ["await-cloud", settings]:
            return await_cloud(Path(settings), Membership())
        case _:
            return await_control_plane()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
