"""How long machines on two hosts take, beside half as many on one of them.

    benchmarks/run hosts [MACHINES]

Needs root. MACHINES (40 when left out) containers on two hosts, half of them on each; then half as many
on one. Two machines of this host stand for the hosts, each pinned to a core of its own, so that the
second one has a processor of its own as a real host has. Image and program are on both before.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "src"), str(REPOSITORY)]

from benchmarks.shared.deployments import run  # noqa: E402

from continuum.testing.stand_ins import StandIns  # noqa: E402  path set above

LIMIT = 900
RATIO = 1.3
REPETITIONS = 3


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        hosts = StandIns(state / "hosts", 2, cores=1, pinned=True)
        try:
            write(state, hosts, "one", {"left": count // 2})
            write(state, hosts, "two", {"left": count // 2, "right": count // 2})
            # Image and program are brought, and both hosts' caches are warm.
            up(state, "two")
            down(state, "two")
            one, two = [], []
            for _ in range(REPETITIONS):
                one.append(up(state, "one"))
                down(state, "one")
                two.append(up(state, "two"))
                down(state, "two")
        finally:
            run(state, "down", "--all", limit=LIMIT)
            hosts.remove()
    print(f"{count // 2} machines on one host, best of {REPETITIONS}   {min(one):8.2f} s")
    print(f"{count} machines on two hosts, best of {REPETITIONS}  {min(two):8.2f} s")
    print(f"ratio                               {min(two) / min(one):8.2f}   (at most {RATIO})")


def write(state: Path, hosts: StandIns, name: str, tiers: dict[str, int]) -> None:
    """An experiment with a tier on each host that is named."""
    entries = [hosts.entry(number, host) for number, host in enumerate(tiers, 1)]
    tables = [
        f'[tiers.{host}]\nmachines = {count}\nmemory = "64 MiB"\nhosts = ["{host}"]\n'
        for host, count in tiers.items()
    ]
    head = f'name = "{name}"\n[infrastructure]\nthis_host = false\n'
    (state / f"{name}.toml").write_text("\n".join([head, *entries, *tables]))


def up(state: Path, name: str) -> float:
    """Bring machines up; seconds that the whole command took."""
    return run(state, "up", str(state / f"{name}.toml"), limit=LIMIT)


def down(state: Path, name: str) -> None:
    """Remove a deployment."""
    run(state, "down", name, limit=LIMIT)


if __name__ == "__main__":
    main()
