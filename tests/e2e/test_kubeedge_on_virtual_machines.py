"""KubeEdge on virtual machines: the edge with a kernel of its own runs a pod."""

from __future__ import annotations

from typing import Any

import pytest

from clusters import Cluster, pod
from virtual_machines import only_where_asked

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.cluster,
    only_where_asked("many minutes", "tests/e2e/test_kubeedge.py"),
    pytest.mark.timeout(1800),
]

NAME = "virtual-edge"
EXPERIMENT = f"""
name = "{NAME}"

[infrastructure]
provider = "libvirt"

[tiers.cloud]
machines = 1
cores = 2
memory = "3 GiB"

[tiers.edge]
machines = 1
cores = 1
memory = "2 GiB"

[software]
manager = "kubeedge"
"""


def test_a_pod_runs_on_an_edge_with_a_kernel_of_its_own(shared: Any) -> None:
    file = shared.folder / "experiment.toml"
    file.write_text(EXPERIMENT)
    shared("up", file)
    cluster = Cluster(shared, NAME, limit=900)
    assert cluster.nodes() == dict.fromkeys(("cloud-1", "edge-1"), True)
    wanted = pod("at-the-edge", "edge-1", cluster.image("pause"))
    wanted["spec"]["automountServiceAccountToken"] = False
    cluster.apply(wanted)
    (found,) = cluster.get("pods")
    assert found["spec"]["nodeName"] == "edge-1"
    shared("exec", NAME, "edge-1", "--", "ping", "-c1", "-W10", found["status"]["podIP"])
