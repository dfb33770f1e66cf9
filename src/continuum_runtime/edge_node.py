"""What systemd and Ansible have done for KubeEdge on a machine.

    python3 edge_node.py await-control-plane
    python3 edge_node.py join SECONDS < TOKEN
    python3 edge_node.py get-certificate SETTINGS

The first ends when the API server on this machine answers. The second makes the machine a member of
the cloud that gave the token, unless it is one; it says "changed" where it was not. A machine that
belongs to another cloud, or that was left half-way, begins anew.

The third is part of EdgeCore's unit: where there is a token, EdgeCore gets its certificate in a first
life, in which it does nothing else; SETTINGS are those of its second. Where EdgeCore's kubelet is
ready before its connection is, its request to be registered gets lost, and it makes the next after
60 s: with a certificate the connection comes first, as a rule. Where it does not, EdgeCore is started
again.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import sqlite3
import ssl
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONTROL_PLANE_LIMIT = 280.0
"""Seconds; less than what systemd gives the unit to start."""

PATIENCE = 2.0
"""Seconds for EdgeCore to be registered before it is started again; twice as long each time."""

UNIT = "edgecore.service"

_POLL = 0.1
_MODULES = ("deviceTwin", "edged", "edgeStream", "eventBus", "metaManager", "serviceBus")
_PROGRAM = "/usr/local/bin/edgecore"
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
    def first_life(self) -> Path:
        """A folder for EdgeCore while it gets its certificate."""
        return self.root / "run/continuum/edgecore"

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


def settings_for_certificate(settings: dict[str, Any], memory: Path) -> dict[str, Any]:
    """EdgeCore's settings in its first life; a pure function."""
    modules = {name: {"enable": False} for name in _MODULES}
    return {
        **settings,
        "database": {"dataSource": str(memory)},
        "modules": {**modules, "edgeHub": settings["modules"]["edgeHub"]},
    }


def join(token: str, seconds: float, membership: Membership) -> int:
    """Make the machine a member of the cloud; the exit code."""
    until = time.monotonic() + seconds
    fresh = not membership.has_certificate(token)
    if fresh:
        _systemctl("stop")
        membership.begin_anew(token)
    else:
        membership.bootstrap.unlink(missing_ok=True)
    _systemctl("start")
    patience, last = PATIENCE, time.monotonic()
    while not membership.is_registered():
        now = time.monotonic()
        if now > until:
            sys.stderr.write(f"this machine is no member of the cloud after {seconds:g} s\n")
            return 1
        if membership.bootstrap.exists():
            last = now
        elif now > last + patience:
            _systemctl("restart")
            patience, last = 2 * patience, time.monotonic()
        time.sleep(_POLL)
    if fresh:
        sys.stdout.write("changed\n")
    return 0


def get_certificate(settings: Path, membership: Membership) -> int:
    """Run EdgeCore until it has its certificate; the exit code is not 0 where it gets none."""
    if not membership.bootstrap.exists():
        return 0
    token = membership.bootstrap.read_text()
    folder = membership.first_life
    folder.mkdir(parents=True, exist_ok=True)
    first = settings_for_certificate(json.loads(settings.read_text()), folder / "edgecore.db")
    (folder / "edgecore.json").write_text(json.dumps(first))
    program = subprocess.Popen((_PROGRAM, f"--config={folder / 'edgecore.json'}"))
    while not membership.has_certificate(token):
        if program.poll() is not None:
            return 1
        time.sleep(_POLL / 4)
    program.kill()
    program.wait()
    shutil.rmtree(folder)
    membership.bootstrap.unlink()
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
        case ["get-certificate", settings]:
            return get_certificate(Path(settings), Membership())
        case _:
            return await_control_plane()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
