"""Processor time of `status` with a thousand machines: on paper, with links of tiers and of machines.

    benchmarks/run status [MACHINES]

Needs no root. The whole command is measured, with the start of Python and what it imports, beside
that of `--version`; the best of five, as whatever else the host does only adds to it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

MOST = 1.0
"""Seconds of processor time that are asked for."""

EXPERIMENT = """\
name = "{name}"
[infrastructure]
provider = "fake"
[tiers.cloud]
machines = 1
[tiers.endpoint]
machines = {machines}
[network]
preset = "5g"
"""

LINK = """\
[[network.links]]
from = "cloud-1"
to = "endpoint-{number}"
delay = "{delay} ms"
"""


def processor_seconds(folder: Path, *arguments: str) -> float:
    """User and system time of a command that has to succeed, and of all that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(
        (sys.executable, "-m", "continuum", *arguments),
        cwd=folder,
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        sys.exit(f"continuum {' '.join(arguments)} ended with {ended.returncode}\n{ended.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def best(folder: Path, *arguments: str) -> float:
    """The least of five."""
    return min(processor_seconds(folder, *arguments) for _ in range(5))


def main() -> None:
    """Print the figures."""
    machines = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"`--version`                              {best(folder, '--version'):6.2f} s")
        for kind, links in (("tiers", 0), ("machines", machines - 1)):
            text = EXPERIMENT.format(name=kind, machines=machines - 1) + "".join(
                LINK.format(number=number, delay=1 + number % 50) for number in range(1, links + 1)
            )
            (folder / f"{kind}.toml").write_text(text)
            processor_seconds(folder, "up", f"{kind}.toml")
            for words in (("status", kind), ("status", kind, "--json")):
                took = best(folder, *words)
                what = f"`{' '.join(words)}`, {machines} machines"
                print(f"{what:<40} {took:6.2f} s  (less than {MOST:g} s)")
            processor_seconds(folder, "down", kind)


if __name__ == "__main__":
    main()
