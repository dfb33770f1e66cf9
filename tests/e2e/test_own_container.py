"""The application `container`, as its page shows it, on plain machines by both runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from continuum.images import containers, oci
from continuum.images.recipe import Recipe, Tree
from doc_files import write_files_of
from run_reasons import defects

pytestmark = pytest.mark.e2e

CONTAINERD = ("ctr", "--namespace=k8s.io", "containers", "list", "--quiet")
DOCKER = ("docker", "ps", "--all", "--format={{.Names}}")


def save_image(worker: str, target: Path) -> None:
    """As the page's Dockerfile and `docker save` would: a system with Python, and the program."""
    tree = Tree("e2e-page-worker", worker, lambda root, _: put(root / "worker.py", worker))
    config = oci.Config(command=("python3", "-u", "/worker.py"))
    image = containers.of_recipe("e2e-checksum", Recipe.collect([tree]), config)
    containers.archive(image, target.parent / "saved", lambda *_: None).archive.rename(target)


def put(path: Path, content: str) -> None:
    path.write_text(content)


@pytest.mark.parametrize("runtime", ["containerd", "docker"])
def test_the_page_is_a_run_that_ends_well(
    runtime: str, continuum: Any, results: Any, tmp_path: Path
) -> None:
    write_files_of("application-container.md", tmp_path)
    save_image((tmp_path / "worker.py").read_text(), tmp_path / "worker.tar")
    (tmp_path / "worker.py").unlink()
    continuum(
        "run",
        "experiment.toml",
        *("--results", "out", "--accept-links"),
        *("--set", f"software.runtime={runtime}"),
        *("--set", "benchmark.workers_per_machine=2"),
        *("--set", "benchmark.duration=4s"),
    )
    run = results()
    assert defects(run) == []
    samples = pq.read_table(tmp_path / "out" / "samples.parquet").to_pydict()
    assert set(samples["status"]) == {"ok"}
    assert set(samples["agrees"]) == {True}
    assert set(samples["worker"]) == {"worker-1", "worker-2"}
    assert len(samples["sequence"]) == 2 * 50
    said = continuum("logs", "own-container", "edge-1", "--unit", "continuum-worker-2")
    assert "Started" in said.out
    for client in (CONTAINERD, DOCKER) if runtime == "docker" else (CONTAINERD,):
        assert (
            "continuum-worker"
            not in continuum("exec", "own-container", "edge-1", "--", *client).out
        )
