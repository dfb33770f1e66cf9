"""Give a systemd unit its configuration, and have it running with that.

    python3 configured_unit.py FILE UNIT < CONTENT

FILE becomes what is read; UNIT is started, or started again where FILE was different. Says "changed"
where anything was done.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def keep(path: Path, content: bytes) -> bool:
    """Make a file hold that content; True when it did not."""
    if path.exists() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return True


def main(arguments: list[str]) -> int:
    """Write, then start; the exit code is that of the start."""
    path, unit = arguments
    changed = keep(Path(path), sys.stdin.buffer.read())
    active = subprocess.run(("systemctl", "is-active", "--quiet", unit), check=False)
    if not changed and active.returncode == 0:
        return 0
    verb = "restart" if changed else "start"
    done = subprocess.run(("systemctl", verb, unit), check=False)
    sys.stdout.write("changed\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
