"""What runs on machines beside a benchmark of the cluster: calls, and notes of resources."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from continuum.benchmark import resources as host_side
from continuum_runtime import calls, resources

QUICK = [sys.executable, "-c", "print('done')"]


def run_calls(folder: Path, made: list[list[str]], limit: float) -> list[dict[str, object]]:
    path = folder / "calls.json"
    path.write_text(json.dumps({"calls": made, "limit": limit}))
    done = subprocess.run(
        [sys.executable, "-m", "continuum_runtime.calls", str(path)],
        capture_output=True,
        check=True,
        timeout=60,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_calls_are_made_in_order_and_timed(tmp_path: Path) -> None:
    before = time.time_ns()
    first, second = run_calls(tmp_path, [QUICK, QUICK], 60)
    assert before < first["asked_ns"] < first["ended_ns"]  # type: ignore[operator]
    assert first["ended_ns"] <= second["asked_ns"]  # type: ignore[operator]
    assert (first["status"], first["said"]) == (0, "done")


def test_a_call_that_fails_says_so_and_the_next_is_made_all_the_same(tmp_path: Path) -> None:
    failing = [sys.executable, "-c", "import sys; sys.exit('no such pod')"]
    first, missing, last = run_calls(tmp_path, [failing, ["/no/such/program"], QUICK], 60)
    assert (first["status"], first["said"]) == (1, "no such pod")
    assert missing["status"] is None
    assert "No such file" in str(missing["said"])
    assert last["status"] == 0


def test_calls_end_at_their_limit(tmp_path: Path) -> None:
    long = [sys.executable, "-c", "import time; time.sleep(60)"]
    (only,) = run_calls(tmp_path, [long, QUICK], 0.5)
    assert only["status"] is None
    assert str(only["said"]).endswith("cut off")


def test_a_long_output_is_cut_to_its_end() -> None:
    said = calls.make([sys.executable, "-c", "print('x' * 9000 + 'the end')"], 60)["said"]
    assert len(said) <= 1000
    assert said.endswith("the end")


# -- resources -----------------------------------------------------------------------------------


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    "files",
    [
        {
            "sys/fs/cgroup/cpu.stat": "usage_usec 2500\nuser_usec 1\n",
            "sys/fs/cgroup/memory.current": "3000\n",
            "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 1000\n",
        },
        {
            "sys/fs/cgroup/cpuacct/cpuacct.usage": "2500000\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "3000\n",
            "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 1000\n",
        },
    ],
)
def test_a_container_reads_its_own_control_group(tmp_path: Path, files: dict[str, str]) -> None:
    assert resources.machine_reader(write(tmp_path, files))() == (2_500_000, 2000)


def test_a_machine_without_control_groups_asks_the_kernel(tmp_path: Path) -> None:
    files = {
        "proc/stat": "cpu  10 20 30 1000 500 1 2 3 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n",
        "proc/meminfo": "MemTotal: 100 kB\nMemFree: 10 kB\nMemAvailable: 60 kB\n",
    }
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    assert resources.machine_reader(write(tmp_path, files))() == (66 * tick, 40 * 1024)


def process(comm: str, ticks: int, pages: int, name: str = "") -> dict[str, str]:
    rest = ["S", *["0"] * 10, str(ticks), "0", *["0"] * 8, str(pages)]
    return {"comm": f"{comm}\n", "stat": f"1 ({name or comm}) {' '.join(rest)}\n"}


def test_processes_of_a_program_count_together_and_the_dead_keep_their_share(
    tmp_path: Path,
) -> None:
    for pid, content in (
        (11, process("kube-controller", 3, 2)),
        (12, process("kube-controller", 4, 1, "odd) name (")),
        (13, process("sh", 100, 100)),
    ):
        write(tmp_path, {f"{pid}/{name}": text for name, text in content.items()})
    programs = resources.Programs(["kube-controller-manager", "etcd"], tmp_path)
    programs.search()
    tick, page = 10**9 // os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    assert programs.read() == {"kube-controller-manager": (7 * tick, 3 * page)}
    (tmp_path / "11" / "stat").unlink()
    assert programs.read() == {"kube-controller-manager": (7 * tick, page)}


def test_what_is_noted_can_be_read(tmp_path: Path) -> None:
    output, path = tmp_path / "notes.csv", tmp_path / "config.json"
    config = {"output": str(output), "interval": 0.02, "limit": 0.3, "programs": ["python3"]}
    path.write_text(json.dumps(config))
    subprocess.run(
        [sys.executable, "-m", "continuum_runtime.resources", str(path)], check=True, timeout=60
    )
    rows = host_side.parse(output.read_bytes())
    machine = [row for row in rows if row["part"] == "machine"]
    assert len(machine) >= 3
    for name in ("time_ns", "cpu_ns"):
        values = [row[name] for row in machine]
        assert values == sorted(values)
    assert all(row["memory_bytes"] > 0 for row in machine)


def test_lines_that_are_none_are_left_out() -> None:
    content = b"1,machine,2,3\n\nx,machine,2,3\n1,etcd,2\n1,,2,3\n4,etcd,5,6\n7,etcd,8,9"
    assert host_side.parse(content) == [
        {"time_ns": 1, "part": "machine", "cpu_ns": 2, "memory_bytes": 3},
        {"time_ns": 4, "part": "etcd", "cpu_ns": 5, "memory_bytes": 6},
    ]


def test_the_process_reads_the_configuration_that_it_is_given() -> None:
    spec = host_side.process("cloud-1", 2, 90)
    (path, content), *_ = spec.files.items()
    assert spec.arguments[-1] == path
    assert json.loads(content)["output"] == host_side.output_file(2)
    assert "etcd" in json.loads(content)["programs"]
