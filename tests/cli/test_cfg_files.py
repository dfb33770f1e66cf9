"""Files of Continuum 1.x on the command line, as their users have them."""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from command_line import Cli

STUDENT = """\
[infrastructure]
provider = qemu
cloud_nodes = {cloud}
cloud_cores = 2
cloud_memory = 4
cloud_quota = 1.0
edge_nodes = {edge}
edge_cores = 2
edge_memory = 4
edge_quota = 1.0
endpoint_nodes = 1
endpoint_cores = 1
endpoint_memory = 1
endpoint_quota = 0.5
middleIP = {middle}
middleIP_base = {base}
[benchmark]
resource_manager = {manager}
resource_manager_only = True
"""
KUBERNETES = {"manager": "kubernetes", "cloud": 2, "edge": 0}
KUBEEDGE = {"manager": "kubeedge", "cloud": 1, "edge": 1}
MIST = {"manager": "mist", "cloud": 0, "edge": 1}


@pytest.mark.parametrize("kind", [KUBERNETES, KUBEEDGE, MIST])
def test_two_students_with_numbers_of_their_own_stay_apart(
    cli: Cli, tmp_path: Path, kind: dict[str, object]
) -> None:
    blocks = []
    for middle in (200, 202):
        file = tmp_path / f"student-{middle}.cfg"
        file.write_text(STUDENT.format(middle=middle, base=middle + 1, **kind))
        ending = cli("plan", "--provider", "fake", "--json", file)
        assert ending.code == 0, ending.stderr
        network = json.loads(ending.stdout)["infrastructure"]["network"]
        blocks.append(IPv4Network(network["block"]))
    assert not blocks[0].overlaps(blocks[1])


def test_a_fault_of_the_file_is_mended_by_the_command_line(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "old.cfg"
    lines = STUDENT.format(middle=9, base=10, **KUBERNETES).splitlines()
    kept = [line for line in lines if "cloud_memory" not in line]
    file.write_text("\n".join(kept).replace("qemu", "hetzner"))
    assert cli("validate", file).code == 2
    ending = cli("validate", "--provider", "fake", "--set", "tiers.cloud.memory=4 GiB", file)
    assert ending.code == 0, ending.stderr
