"""Commands in a container, with a program that stands for `lxc-attach`."""

from __future__ import annotations

from pathlib import Path

import pytest

from continuum.infrastructure.plan import MachineSpec
from continuum.infrastructure.providers.lxc import containers
from continuum.infrastructure.providers.lxc.config import Container
from continuum.infrastructure.providers.lxc.machine import LxcMachine
from continuum.machine import Command

CRASHES_ONCE = """\
#!/bin/sh
[ -e {mark} ] && echo fine && exit 0
: > {mark}
kill -SEGV $$
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LxcMachine:
    attach = tmp_path / "lxc-attach"
    attach.write_text(CRASHES_ONCE.format(mark=tmp_path / "mark"))
    attach.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(LxcMachine, "_runs", lambda _: True)
    monkeypatch.setattr(containers, "running", lambda _=None: [])
    spec = MachineSpec("edge-1", "edge", "10.0.0.2", "", 1, 1.0, 2**30)
    return LxcMachine(spec, Container.of("edge-1", tmp_path, "0badcafe"))


def test_no_value_of_the_environment_is_an_argument(machine: LxcMachine, tmp_path: Path) -> None:
    tell = '#!/bin/sh\ntr "\\0" "\\n" < /proc/$$/cmdline\necho "[$WORD]"\n'
    (tmp_path / "lxc-attach").write_text(tell)
    told = machine.run(Command(("true",), environment={"WORD": "CANARY"})).check().text
    arguments, _, value = told.rpartition("\n")
    assert value == "[CANARY]"
    assert "CANARY" not in arguments
    assert "--keep-var=WORD" in arguments.splitlines()
    assert "--keep-var=PATH" in arguments.splitlines()


def test_what_only_reads_is_run_again_when_the_way_in_crashes(machine: LxcMachine) -> None:
    assert machine.run(Command(("true",), only_reads=True)).check().text == "fine"


def test_what_may_change_something_is_not(machine: LxcMachine) -> None:
    assert machine.run(Command(("true",))).exit_code == -11
