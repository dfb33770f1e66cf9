"""`python -m continuum.cli.packages [--yes]`: packages for the tests on real machines."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING

from continuum import plugins
from continuum.artifacts.go import COMPILER
from continuum.cli import bootstrap

if TYPE_CHECKING:
    from continuum.infrastructure.providers.contract import Provider, PythonModule

PROVIDERS = ("lxc", "libvirt")
FOR_TESTS = {
    "mosquitto": "mosquitto",
    "chromium-headless-shell": "chromium-headless-shell",
    **COMPILER,
}
"""Some tests talk to a broker of their own on loopback; KubeEdge is compiled where it must be; pages
are looked at in a browser."""


def main() -> int:
    """Install what is missing; without a way to be root, say so and go on without it."""
    yes = "--yes" in sys.argv[1:]
    programs = dict(FOR_TESTS)
    modules: dict[str, PythonModule] = {}
    for name in PROVIDERS:
        kind: type[Provider] = plugins.load("providers", name)
        programs.update(kind.programs)
        modules |= {
            module: wanted
            for module, wanted in kind.modules.items()
            if importlib.util.find_spec(module) is None
        }
    for wanted in modules.values():
        programs.update(wanted.programs)
    missing = bootstrap.missing_packages(programs)
    try:
        if missing:
            bootstrap.install_packages(missing, yes=yes)
        for wanted in modules.values():
            bootstrap.install_python_packages([wanted.requirement], wanted.libraries, yes=yes)
    except bootstrap.CannotPrepare as error:
        bootstrap.say(f"{error.message}: tests on real machines will not run")
        for line in error.output.splitlines():
            bootstrap.tell_output(line)
        sys.stderr.write(f"  what to do: {error.hint}\n")
        return 3 if os.geteuid() == 0 else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
