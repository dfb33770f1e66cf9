"""Tells what a machine does now, to whoever watches a run: started when somebody watches, not before.

    python3 -m continuum_runtime.live

Each line of standard input is a JSON object, and is answered with one line:

    {"files": {"/path/of/samples.jsonl": 4096}, "get": ["http://127.0.0.1:9090/api/v1/query?…"]}

    {"at": Unix time in ns, "cpu_ns": …, "memory_bytes": …,
     "files": {path: {"from": …, "offset": …, "data": base64, "more": true}},
     "got": [{"status": 200, "body": "…"}]}

Of each file come the whole lines after the offset, at most `LIMIT` bytes; what is written while it is
read comes with the next line. A file that has become shorter is read from its beginning again. One
that is not there is left out. It does as little as it can, for it shares the machine with what is
measured: what the lines hold is read by who asked.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from continuum_runtime.resources import Usage, machine_reader

LIMIT = 512 * 1024
"""Bytes of one file in one answer."""

GET_LIMIT = 3.0
"""Seconds for one page."""
GET_BYTES = 4 * 1024 * 1024
NICE = 10


def read_on(path: Path, offset: int, limit: int = LIMIT) -> dict[str, Any] | None:
    """The whole lines after `offset`; None when there is no such file."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            begin = offset if offset <= size else 0
            file.seek(begin)
            content = file.read(limit)
    except OSError:
        return None
    end = content.rfind(b"\n") + 1
    if end == 0 and len(content) == limit:
        end = limit  # No line is so long: whatever this is, it must not hold up the rest.
    return {
        "from": begin,
        "offset": begin + end,
        "data": base64.b64encode(content[:end]).decode(),
        "more": end > 0 and begin + len(content) < size,
    }


def page(address: str) -> dict[str, Any]:
    """A page of a server, as this machine reaches it; status 0 when it does not answer."""
    # Few are asked for one, and it takes as much memory as all the rest.
    import http.client  # noqa: PLC0415  see above
    import urllib.error  # noqa: PLC0415
    import urllib.request  # noqa: PLC0415

    request = urllib.request.Request(address)  # noqa: S310  refused below unless it is HTTP
    if request.type != "http":
        return {"status": 0, "body": f"not HTTP: {address}"}
    # What the environment says of proxies is not for this.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=GET_LIMIT) as answer:
            body = answer.read(GET_BYTES).decode("utf-8", "replace")
            return {"status": answer.status, "body": body}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "body": error.read(2000).decode("utf-8", "replace")}
    except (OSError, http.client.HTTPException) as error:
        return {"status": 0, "body": str(error)}


def answer(
    asked: dict[str, Any], time_ns: Callable[[], int], usage: Callable[[], Usage]
) -> dict[str, Any]:
    """What one line is answered with."""
    found: dict[str, Any] = {"at": time_ns(), "cpu_ns": None, "memory_bytes": None}
    with suppress(OSError, KeyError, ValueError):
        found["cpu_ns"], found["memory_bytes"] = usage()
    files = {
        path: read_on(Path(path), int(offset)) for path, offset in asked.get("files", {}).items()
    }
    found["files"] = {path: read for path, read in files.items() if read is not None}
    found["got"] = [page(address) for address in asked.get("get", ())]
    return found


def serve(questions: Iterable[str], answers: IO[str]) -> None:
    """Answer each line, until there are no more."""
    usage = machine_reader()
    for line in questions:
        found = answer(json.loads(line), time.time_ns, usage)
        answers.write(json.dumps(found, separators=(",", ":")) + "\n")
        answers.flush()


if __name__ == "__main__":
    with suppress(OSError):
        os.nice(NICE)
    with suppress(BrokenPipeError, KeyboardInterrupt):
        serve(sys.stdin, sys.stdout)
