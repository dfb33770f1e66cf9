"""Makes calls of a program one after the other, and notes when each began and ended.

    python3 -m continuum_runtime.calls config.json

The configuration holds `calls` (lists of arguments) and `limit` (seconds for all of them). For each
call one JSON object goes to standard output: `asked_ns`, `ended_ns` (Unix time), `status` (None for
a call that was cut off by the limit) and `said`, the end of its output. Calls for which no time was
left have no line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LONGEST = 1000


def make(arguments: Sequence[str], seconds: float) -> dict[str, Any]:
    """One call, cut off after so many seconds."""
    asked = time.time_ns()
    status: int | None = None
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
        status, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"") + b"\ncut off"
    except OSError as error:
        output = str(error).encode()
    said = output.decode("utf-8", "replace").strip()[-_LONGEST:]
    return {"asked_ns": asked, "ended_ns": time.time_ns(), "status": status, "said": said}


def main(path: str) -> None:
    """Make all calls that there is time for."""
    config = json.loads(Path(path).read_text())
    until = time.monotonic() + config["limit"]
    for arguments in config["calls"]:
        left = until - time.monotonic()
        if left <= 0:
            return
        print(json.dumps(make(arguments, left)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
