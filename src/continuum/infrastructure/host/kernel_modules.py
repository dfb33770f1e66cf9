"""Parts of the host's kernel that machines with containers of their own need.

A machine cannot load them itself. They stay loaded: others may use them by then.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from continuum.errors import NotPossibleHere
from continuum.machine import Command, run_on_host

FOR_CONTAINERS: Mapping[str, Path] = {
    "br_netfilter": Path("/proc/sys/net/bridge"),
    "nf_conntrack": Path("/proc/sys/net/netfilter"),
    "overlay": Path("/sys/module/overlay"),
}
"""What is there when the kernel has the module, loaded or built in."""


def missing(modules: Mapping[str, Path] = FOR_CONTAINERS) -> list[str]:
    """Modules that the kernel does not have now."""
    return [name for name, sign in modules.items() if not sign.exists()]


def ensure(modules: Mapping[str, Path] = FOR_CONTAINERS) -> list[str]:
    """Load what is missing; returns what was loaded.

    Raises:
        NotPossibleHere: the kernel does not have one of them.
    """
    wanted = missing(modules)
    said = ""
    if wanted and shutil.which("modprobe") is not None:
        said = run_on_host(Command(("modprobe", "--all", *wanted))).last_output
    still = missing({name: modules[name] for name in wanted})
    if still:
        raise NotPossibleHere(
            f"this host's kernel has no {', '.join(still)}, which containers in machines need",
            where="this host",
            output=said,
            hint=f"as root: modprobe --all {' '.join(still)}",
        )
    return wanted
