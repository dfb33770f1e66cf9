"""Give systemd units their configurations, and have them running with those.

    python3 -m continuum_runtime.configured_units < UNITS

UNITS is a JSON list of objects with `unit`, `files` (content by path) and `folders` (made when they
are not there). A unit is started, or started again where a file was different; one whose files are
null is stopped, and the files are removed. Says "changed" where anything was done.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from continuum_runtime.configured_unit import keep


def put(files: Mapping[str, str | None], folders: Sequence[str]) -> bool:
    """Make folders, and files hold what they are to hold; True when one did not."""
    for folder in folders:
        Path(folder).mkdir(parents=True, exist_ok=True)
    changed = False
    for name, content in files.items():
        path = Path(name)
        if content is not None:
            changed |= keep(path, content.encode())
        elif path.exists():
            path.unlink()
            changed = True
    return changed


def verb(unit: str, *, changed: bool, wanted: bool) -> str:
    """What systemd must do with a unit; "" for nothing."""
    if not wanted:
        return "stop" if changed else ""
    if changed:
        return "restart"
    asked = subprocess.run(("systemctl", "is-active", "--quiet", unit), check=False)
    return "start" if asked.returncode else ""


def main() -> int:
    """Write all, then have systemd do what is due; the exit code is the worst."""
    due: dict[str, list[str]] = {}
    for each in json.load(sys.stdin):
        changed = put(each["files"], each["folders"])
        wanted = any(content is not None for content in each["files"].values())
        if what := verb(each["unit"], changed=changed, wanted=wanted):
            due.setdefault(what, []).append(each["unit"])
    codes = [
        subprocess.run(("systemctl", what, *units), check=False).returncode
        for what, units in due.items()
    ]
    if due:
        sys.stdout.write("changed\n")
    return max(codes, default=0)


if __name__ == "__main__":
    sys.exit(main())
