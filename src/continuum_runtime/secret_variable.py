"""Give a systemd unit a variable in a file that nobody but root may read.

    python3 -m continuum_runtime.secret_variable FILE NAME UNIT FOLDER < VALUE

FILE is an `EnvironmentFile` of UNIT. Where it held something else, UNIT is stopped, and FOLDER, which
it keeps by what it was told then, is removed. UNIT is not started. Says "changed" where anything was
done.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

MODE = 0o600


def keep(path: Path, content: bytes) -> bool:
    """Make a file hold that content, for root alone; True when it did not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    same = path.exists() and path.read_bytes() == content
    if same and path.stat().st_mode & 0o777 == MODE:
        return False
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, MODE)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, MODE)
        file.write(content)
    temporary.replace(path)
    return not same


def line(name: str, value: str) -> str:
    """A variable as systemd reads it between double quotes."""
    quoted = "".join(f"\\{each}" if each in '\\"`$' else each for each in value)
    return f'{name}="{quoted}"\n'


def main(arguments: list[str]) -> int:
    """Write; the exit code is that of the stop, where one is due."""
    file, name, unit, folder = arguments
    if not keep(Path(file), line(name, sys.stdin.read()).encode()):
        return 0
    sys.stdout.write("changed\n")
    stopped = subprocess.run(("systemctl", "stop", unit), check=False)
    shutil.rmtree(folder, ignore_errors=True)
    return stopped.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
