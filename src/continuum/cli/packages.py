"""`python -m continuum.cli.packages [--yes]`: Debian packages for the tests on real machines."""

from __future__ import annotations

import os
import sys

from continuum import plugins
from continuum.artifacts.go import COMPILER
from continuum.cli import bootstrap

PROVIDERS = ("lxc",)
FOR_TESTS = {"mosquitto": "mosquitto", **COMPILER}
"""Some tests talk to a broker of their own on loopback; KubeEdge is compiled where it must be."""


def main() -> int:
    """Install what is missing; without a way to be root, say so and go on without it."""
    programs = dict(FOR_TESTS)
    for name in PROVIDERS:
        programs.update(plugins.load("providers", name).programs)
    missing = bootstrap.missing_packages(programs)
    if not missing:
        return 0
    try:
        bootstrap.install_packages(missing, yes="--yes" in sys.argv[1:])
    except bootstrap.CannotPrepare as error:
        bootstrap.say(f"{error.message}: tests on real machines will not run")
        for line in error.output.splitlines():
            sys.stderr.write(f"    {line}\n")
        sys.stderr.write(f"  what to do: {error.hint}\n")
        return 3 if os.geteuid() == 0 else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
