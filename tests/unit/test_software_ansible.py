"""Real Ansible, on this host instead of machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from canaries import holding, watched
from continuum.deployment import Deployment
from continuum.errors import MachineUnreachable, NotPossibleHere, StepFailed, TimedOut
from continuum.secret import Secret
from continuum.software import ansible
from continuum.software.ansible import HostResult, run_playbook, write_files
from continuum.software.configure import (
    PLAN_FOLDER,
    ROLES,
    WORK_FOLDER,
    SoftwarePlan,
    configure,
)
from continuum.testing.software import small_experiment, small_plan


def prepare(root: Path, tasks: list[dict[str, Any]], **hosts: dict[str, Any]) -> Deployment:
    """A deployment whose playbook has these tasks, for hosts that are this host."""
    deployment = Deployment("test", root)
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {"all": {"hosts": {name: here | own for name, own in hosts.items()}}}
    play = {"name": "test", "hosts": "all", "gather_facts": False, "tasks": tasks}
    what = small_experiment()
    settings = configure(what, small_plan(what), {"mqtt": ("edge-1",)}).files["ansible.cfg"]
    write_files(
        deployment,
        {
            "ansible.cfg": settings,
            "inventory.json": json.dumps(inventory),
            "playbook.yml": json.dumps([{**play, "any_errors_fatal": True}]),
        },
    )
    return deployment


def log_of(deployment: Deployment) -> str:
    return (deployment.folder / ansible.LOG).read_text()


def test_counts_what_each_machine_did_and_tells_progress(tmp_path: Path) -> None:
    target = tmp_path / "target"
    tasks = [
        {"name": "Look", "ansible.builtin.stat": {"path": str(target)}},
        {
            "name": "Write",
            "ansible.builtin.copy": {"content": "x", "dest": f"{target}-{{{{ own }}}}"},
        },
    ]
    told: list[str] = []
    deployment = prepare(tmp_path, tasks, one={"own": 1}, two={"own": 2})
    first = run_playbook(deployment, told.append)
    assert first.hosts == {"one": HostResult(2, 1), "two": HostResult(2, 1)}
    assert first.changed
    assert {"Look", "Write", "Write (one)", "Write (two)"} <= set(told)
    assert "TASK [Write]" in log_of(deployment)

    second = run_playbook(deployment, told.append)
    assert second.hosts == {"one": HostResult(2, 0), "two": HostResult(2, 0)}
    assert not second.changed
    left = sorted(path.name for path in deployment.folder.iterdir())
    assert left == [WORK_FOLDER, "logs", "plan"]
    assert list((deployment.folder / WORK_FOLDER).iterdir()) == []


def test_a_failed_task_says_which_where_and_why(tmp_path: Path) -> None:
    command = {"argv": [sys.executable, "-c", "import sys; sys.exit('broken for {{ word }}')"]}
    tasks = [{"name": "Break", "ansible.builtin.command": command}]
    deployment = prepare(tmp_path, tasks, one={"word": "hush"}, two={"word": "hush"})
    with pytest.raises(StepFailed, match=r'"Break" failed on (one, two|two, one)') as caught:
        run_playbook(deployment, lambda _: None, secrets=frozenset({"hush"}))
    error = caught.value
    assert error.output == "broken for ***"
    assert error.where.split(": ")[1] == "Break"
    assert str(deployment.folder / ansible.LOG) in error.hint
    assert "hush" not in log_of(deployment)


PHRASE = 'CANARY-{{ 1 + 1 }}-"$x`-{% raw %}'


def tell(*words: str) -> dict[str, Any]:
    """A module's arguments: write the variables of the password's role, and end as told."""
    file, *end = words
    program = (
        "import os, sys; open(sys.argv[1], 'w').write(sys.stdin.read()); sys.exit(*sys.argv[2:])"
    )
    argv = [sys.executable, "-c", program, file, *end]
    return {"argv": argv, "stdin": "{{ password }}", "stdin_add_newline": False}


@pytest.mark.parametrize("silent", [True, False])
def test_a_failing_task_with_a_secret_tells_nothing_of_it(tmp_path: Path, silent: bool) -> None:
    said = "broke" if silent else "broke {{ password }}"
    tasks = [
        {"name": "Give", "ansible.builtin.command": tell(f"{tmp_path}/got"), "no_log": True},
        {
            "name": "Break",
            "ansible.builtin.command": tell(f"{tmp_path}/got", said),
            "no_log": silent,
        },
    ]
    deployment = prepare(tmp_path, tasks, one={})
    variables = {"password": Secret(PHRASE)}
    with watched(b"CANARY") as seen, pytest.raises(StepFailed) as caught:
        run_playbook(deployment, lambda _: None, secrets=frozenset({PHRASE}), variables=variables)
    assert (tmp_path / "got").read_text() == PHRASE
    assert "CANARY" not in str(caught.value) + caught.value.output + log_of(deployment)
    assert holding(deployment.folder, b"CANARY") == []
    assert not silent or seen == set()


def test_a_task_that_may_fail_does_not_fail_the_playbook(tmp_path: Path) -> None:
    tasks = [{"name": "May", "ansible.builtin.fail": {"msg": "never mind"}, "ignore_errors": True}]
    assert run_playbook(prepare(tmp_path, tasks, one={}), lambda _: None).hosts == {
        "one": HostResult(1, 0)
    }


def test_a_playbook_that_makes_no_sense_is_an_error(tmp_path: Path) -> None:
    deployment = prepare(tmp_path, [{"name": "What", "no.such.module": {}}], one={})
    with pytest.raises(StepFailed, match="could not run the playbook") as caught:
        run_playbook(deployment, lambda _: None)
    assert "no.such.module" in caught.value.output


def test_a_machine_that_does_not_answer_is_unreachable(tmp_path: Path) -> None:
    tasks = [{"name": "Look", "ansible.builtin.ping": {}}]
    deployment = prepare(tmp_path, tasks, one={"ansible_connection": "ssh"})
    # Nothing listens on port 1.
    deployment.write("ssh_config", "Host one\n  HostName 127.0.0.1\n  Port 1\n  BatchMode yes\n")
    with pytest.raises(MachineUnreachable, match="cannot reach one by SSH"):
        run_playbook(deployment, lambda _: None)


def test_it_ends_in_time(tmp_path: Path) -> None:
    tasks = [{"name": "Wait", "ansible.builtin.command": {"argv": ["sleep", "600"]}}]
    with pytest.raises(TimedOut, match="not configured within 3 s, during: Wait"):
        run_playbook(prepare(tmp_path, tasks, one={}), lambda _: None, timeout=3)


WAITS = """\
import os, signal, sys, time
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(600)
"""


@pytest.mark.parametrize("manners", ["polite", "stubborn"])
def test_what_interrupts_the_caller_ends_the_playbook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manners: str
) -> None:
    pid_file = tmp_path / "pid"
    program = [sys.executable, "-c", WAITS, str(pid_file), manners]
    if manners == "stubborn":
        monkeypatch.setattr(ansible, "_GRACE", 0.0)

    def interrupt() -> None:
        await_content(pid_file)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    tasks = [{"name": "Wait", "ansible.builtin.command": {"argv": program}}]
    deployment = prepare(tmp_path, tasks, one={})
    with pytest.raises(KeyboardInterrupt):
        run_playbook(deployment, lambda _: None)
    assert list((deployment.folder / WORK_FOLDER).iterdir()) == []
    await_end(int(pid_file.read_text()))


def test_what_a_killed_run_left_behind_is_ended(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = [sys.executable, "-c", WAITS, str(pid_file), "stubborn"]
    tasks = [{"name": "Wait", "ansible.builtin.command": {"argv": program}}]
    deployment = prepare(tmp_path, tasks, one={})
    code = (
        "import sys; from pathlib import Path; from continuum.deployment import Deployment;"
        "from continuum.software.ansible import run_playbook;"
        "run_playbook(Deployment('test', Path(sys.argv[1])), lambda _: None)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        await_content(pid_file)
        process.kill()
    assert Path(f"/proc/{pid_file.read_text()}").exists()
    ansible.end_leftovers(deployment)
    await_end(int(pid_file.read_text()))
    assert not (deployment.folder / WORK_FOLDER).exists()
    ansible.end_leftovers(deployment)


def await_content(path: Path) -> None:
    end = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < end, "Ansible did not start the task"
        time.sleep(0.02)


def await_end(pid: int) -> None:
    end = time.monotonic() + 30
    stat = Path(f"/proc/{pid}/stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < end, "the task still runs"
        time.sleep(0.05)


def test_settings_of_the_caller_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_INVENTORY", "/nowhere")
    monkeypatch.setenv("ANSIBLE_STRATEGY", "no such strategy")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    tasks = [{"name": "Look", "ansible.builtin.ping": {}}]
    deployment = prepare(tmp_path, tasks, one={"ansible_remote_tmp": str(tmp_path / "remote")})
    assert run_playbook(deployment, lambda _: None).hosts == {"one": HostResult(1, 0)}
    assert not (tmp_path / "home").exists()


def test_without_ansible_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotPossibleHere, match="ansible-playbook is not installed"):
        run_playbook(prepare(tmp_path, [], one={}), lambda _: None)


def test_files_of_an_earlier_plan_go(tmp_path: Path) -> None:
    deployment = Deployment("test", tmp_path)
    write_files(deployment, {"roles/old/tasks/main.yml": "[]"})
    write_files(deployment, SoftwarePlan(files={"playbook.yml": "[]"}).files)
    folder = deployment.folder / PLAN_FOLDER
    assert [str(path.relative_to(folder)) for path in folder.rglob("*")] == ["playbook.yml"]
    assert os.access(folder / "playbook.yml", os.R_OK)


TAINT = "node-role.kubernetes.io/control-plane"


@pytest.mark.parametrize(
    ("said", "nodes", "done"),
    [
        (f"one|{TAINT}", ["one"], [f"taint node one {TAINT}:NoSchedule-"]),
        ("one|", ["one"], []),
        ("one|other", ["one", "two"], [f"taint node one {TAINT}:NoSchedule"]),
        (f"one two three|other {TAINT}", ["one", "two"], ["delete node three"]),
    ],
)
def test_a_cluster_follows_its_machines_and_only_where_they_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, nodes: list[str], done: list[str]
) -> None:
    calls = tmp_path / "calls"
    calls.touch()
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        f'#!/bin/sh\n[ $2 = get ] && echo "{said}" || (shift; echo "$*" >> {calls})\n'
    )
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    variables = {
        "kubernetes_control_admin": "/somewhere",
        "kubernetes_control_alone": nodes == ["one"],
        "kubernetes_control_nodes": nodes,
    }
    follow = str(ROLES / "kubernetes_control/tasks/follow.yml")
    tasks = [{"name": "Follow", "ansible.builtin.include_tasks": follow}]
    ended = run_playbook(prepare(tmp_path, tasks, one=variables), lambda *_: None)
    assert ended.changed == bool(done)
    assert calls.read_text().splitlines() == done
