"""A machine that SSH reaches: what is said to `ssh`, and what comes of what it says back.

The `ssh` of these tests runs the line that it is given in a shell of this host, as sshd would.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from continuum.errors import CommandFailed, MachineUnreachable, NotFound, TimedOut
from continuum.infrastructure.ssh_machine import SshMachine
from continuum.machine import Command

_SSH = """\
#!/bin/sh
printf '%s\\n' "$@" > "$SSH_FOLDER/arguments"
echo x >> "$SSH_FOLDER/connections"
if [ -e "$SSH_FOLDER/down" ]; then echo "no route to host" >&2; exit 255; fi
shift 4
cd / && exec sh -c "$*"
"""
_SUDO = """\
#!/bin/sh
echo "$@" > "$SSH_FOLDER/sudo"
while [ "$1" != "--" ]; do shift; done
shift
exec "$@"
"""


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a machine's `ssh`: a file `down` in it makes the machine unreachable."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("ssh", _SSH), ("sudo", _SUDO)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("SSH_FOLDER", str(tmp_path))
    return tmp_path


@pytest.fixture
def machine() -> SshMachine:
    return SshMachine("edge-1", "edge", "10.0.0.2", Path("/somewhere/ssh_config"))


def connections(far: Path) -> int:
    return len((far / "connections").read_text().splitlines())


def test_arguments_arrive_as_they_are(far: Path, machine: SshMachine) -> None:
    """Whatever a shell would make of them."""
    awkward = ("a b", "$HOME", "'", '"', "*", "", "back\\slash", "two\nlines", "ä€", "-n", "`id`")
    program = "import json, sys; print(json.dumps(sys.argv[1:]))"
    result = machine.run(Command(("python3", "-c", program, *awkward)))
    assert tuple(json.loads(result.stdout)) == awkward
    assert result.command.arguments[0] == "python3"
    assert result.where == "edge-1"
    said = (far / "arguments").read_text().splitlines()
    assert said[:4] == ["-F", "/somewhere/ssh_config", "-T", "edge-1"]


def test_environment_and_input_arrive(far: Path, machine: SshMachine) -> None:
    assert far.is_dir()
    command = Command(
        ("sh", "-c", 'printf "%s|" "$WORD"; cat'), environment={"WORD": "a 'b' $c"}, input=b"\0x"
    )
    assert machine.run(command).stdout == b"a 'b' $c|\0x"
    assert list(machine.stream(Command(("printf", "one\ntwo\n")))) == ["one", "two"]


def test_files_are_written_whole_and_read(far: Path, machine: SshMachine) -> None:
    path = str(far / "folder" / "a file")
    machine.put(bytes(range(256)), path, mode=0o600)
    assert machine.get(path) == bytes(range(256))
    assert Path(path).stat().st_mode & 0o777 == 0o600
    with pytest.raises(NotFound):
        machine.get(str(far / "absent"))


def test_a_command_that_ends_with_255_is_not_a_machine_that_is_gone(
    far: Path, machine: SshMachine
) -> None:
    assert machine.run(Command(("sh", "-c", "exit 255"))).exit_code == 255
    assert connections(far) == 2
    assert machine.run(Command(("false",))).exit_code == 1
    assert connections(far) == 3
    with pytest.raises(CommandFailed) as raised:
        list(machine.stream(Command(("sh", "-c", "echo last words; exit 255"))))
    assert "last words" in raised.value.output
    assert "ssh -F" not in raised.value.message


def test_a_machine_that_does_not_answer_is_named(far: Path, machine: SshMachine) -> None:
    (far / "down").touch()
    with pytest.raises(MachineUnreachable) as raised:
        machine.run(Command(("true",)))
    assert "edge-1" in raised.value.message
    assert raised.value.where == "ssh -F /somewhere/ssh_config edge-1"
    assert "no route to host" in raised.value.output
    with pytest.raises(MachineUnreachable):
        list(machine.stream(Command(("true",))))
    assert not machine.answers()


def test_a_command_that_takes_too_long_is_ended_on_the_machine(
    far: Path, machine: SshMachine
) -> None:
    """By the machine itself: what SSH leaves behind would run on there."""
    mark = far / "mark"
    command = Command(("sh", "-c", f"echo $$ > {mark}; exec sleep 60"), timeout=0.3)
    with pytest.raises(TimedOut) as raised:
        machine.run(command)
    assert raised.value.where.startswith("edge-1: ")
    assert "within 0.3 s" in raised.value.message
    process = int(mark.read_text())
    assert not Path(f"/proc/{process}").exists()
    with pytest.raises(TimedOut):
        list(machine.stream(command))
    assert machine.run(Command(("sh", "-c", "exit 124"))).exit_code == 124


def test_another_user_than_root_becomes_it(far: Path, machine: SshMachine) -> None:
    machine.sudo = True
    assert machine.run(Command(("echo", "a b"), environment={"X": "1"})).text == "a b"
    assert (far / "sudo").read_text().startswith("--non-interactive -- env X=1 timeout")
