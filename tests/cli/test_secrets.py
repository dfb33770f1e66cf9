"""Canaries: every secret is set, then every file, output and list of processes is searched."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from canaries import watched
from command_line import Cli, started
from continuum.cli import handover
from continuum.software.services import grafana

CANARY = "CANARY-7fQ2"

EXPERIMENT = f"""\
name = "paper"
# Once it was password = "{CANARY}-old".

[infrastructure]
provider = "fake"

[infrastructure.fake]
{{fake}}

[tiers.cloud]
[tiers.edge]
[tiers.endpoint]

[network]
preset = "5g"

[software]
observability = true

[software.grafana]
password = "{CANARY}-password"

[benchmark]
application = "command"
frequency = "20 Hz"
warmup = "0.1 s"
duration = "0.5 s"

[benchmark.command]
endpoint = "./load"
worker = "./serve"
environment_from = "my.env"

[benchmark.command.environment]
API_TOKEN = "{CANARY}-token"
ODD = "{CANARY}\\"\\\\$HOME `id` é"

[benchmark.container.environment]
UNUSED = "{CANARY}-unused"
"""


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment with all kinds of secrets, also in the environment."""
    monkeypatch.setattr(grafana, "is_here", lambda: True)
    monkeypatch.setenv("http_proxy", f"http://me:{CANARY}-proxy@127.0.0.1:9")
    monkeypatch.setenv("PIP_INDEX_URL", f"https://{CANARY}-index@127.0.0.1:9/simple")
    monkeypatch.setenv("GOPROXY", f"https://me:{CANARY}-go@127.0.0.1:9")
    monkeypatch.setenv("HELD", f"{CANARY}-held")
    (tmp_path / "my.env").write_text(f"FROM_FILE={CANARY}-file\nHELD\n")
    path = tmp_path / "paper.toml"
    path.write_text(EXPERIMENT.format(fake=""))
    return path


def holds(content: bytes) -> bool:
    """Tell whether a canary stands in bytes, as it is or in base 64."""
    if b"CANARY" in content:
        return True
    words = re.findall(rb"[A-Za-z0-9+/]{24,}", content)
    return any(
        b"CANARY" in base64.b64decode(word[start : start + (len(word) - start) // 4 * 4])
        for word in words
        for start in range(4)
    )


def with_canaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and holds(path.read_bytes())]


def state() -> Path:
    return Path(os.environ["XDG_STATE_HOME"]) / "continuum"


def open_to_others(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if stat.S_IMODE(path.lstat().st_mode) & 0o077]


def test_nothing_holds_a_secret_but_the_file_for_the_machine(
    experiment: Path, cli: Cli, tmp_path: Path
) -> None:
    with watched(b"CANARY") as seen:
        endings = [
            cli("validate", experiment),
            cli("plan", experiment, "--all"),
            cli("plan", experiment, "--json"),
            cli("up", experiment, "-v"),
        ]
        assert with_canaries(state()) == []
        assert open_to_others(state() / "deployments") == []
        endings += [
            cli("status", "--json"),
            cli("run", experiment, "-v", "--results", tmp_path / "out"),
            cli("report", tmp_path / "out"),
            cli("plan", experiment, "--json"),
            cli("logs", "edge-1"),
        ]
    assert [ending.code for ending in endings] == [0] * len(endings), endings[-1].stderr
    for ending in endings:
        assert not holds((ending.stdout + ending.stderr).encode())
    assert seen == set()
    assert with_canaries(state()) == []
    assert with_canaries(tmp_path / "out") == []
    assert open_to_others(state() / "deployments") == []
    told = json.loads((tmp_path / "out/run.json").read_text())
    assert set(told["experiment"]["benchmark"]["settings"]["environment"].values()) == {"***"}
    assert 'API_TOKEN = "***"' in told["experiment_text"]
    assert 'API_TOKEN = "***"' in (tmp_path / "out/report.html").read_text().replace("&#34;", '"')
    assert cli("down", "paper").code == 0


def test_a_running_worker_has_its_variables_in_a_file_of_its_own(
    experiment: Path, cli: Cli, tmp_path: Path
) -> None:
    """A run that fails on the way leaves nothing more behind."""
    experiment.write_text(EXPERIMENT.format(fake='fail_at = ["get:endpoint-1"]'))
    ended = cli("run", experiment, "--results", tmp_path / "out")
    assert ended.code != 0
    assert not holds((ended.stdout + ended.stderr).encode())
    for path in (*with_canaries(state()), *with_canaries(tmp_path / "out")):
        assert "/machines/" in str(path)
        assert path.parent.name == "secrets"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_secret_is_another_experiment(experiment: Path, cli: Cli, tmp_path: Path) -> None:
    text = experiment.read_text()
    hashes, marks = set(), set()
    for number, password in enumerate(("one-1", "two-2", "one-1")):
        experiment.write_text(text.replace(f"{CANARY}-password", password))
        assert cli("run", experiment, "--results", tmp_path / str(number)).code == 0
        run = json.loads((tmp_path / str(number) / "run.json").read_text())
        hashes.add(run["hashes"]["experiment"])
        (file,) = state().glob(
            "deployments/paper/machines/cloud-1/files/var/lib/continuum/software"
        )
        marks.add(file.read_text())
    assert (len(hashes), len(marks)) == (2, 2)


def test_an_experiment_that_is_written_down_asks_for_its_secrets(
    experiment: Path, cli: Cli, tmp_path: Path
) -> None:
    written = tmp_path / "again.toml"
    ended = cli("init", written, "--from", experiment)
    assert ended.code == 0
    assert "secrets are not copied" in ended.stderr
    assert with_canaries(tmp_path) == [tmp_path / "my.env", experiment]
    ended = cli("validate", written)
    assert ended.code == 2
    assert '"***" stands for a secret that was not written down' in ended.stdout
    assert re.search(r"again\.toml:\d+: software\.grafana\.password", ended.stdout)
    written.write_text(written.read_text().replace('"***"', '"mine"'))
    assert cli("validate", written).code == 0


def test_a_defect_is_told_without_secrets(
    experiment: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from continuum import workflow

    said = f"{CANARY}-set at https://{CANARY}@host/"

    def broken(*_: object, **__: object) -> None:
        raise AssertionError(said)

    monkeypatch.setattr(workflow, "plan", broken)
    ended = cli("plan", experiment, "--set", f"software.grafana.password={CANARY}-set")
    assert ended.code == 70
    assert not holds((ended.stdout + ended.stderr).encode())
    (log,) = (state() / "logs").iterdir()
    assert "software.grafana.password=***" in log.read_text()
    assert with_canaries(state()) == []


def test_a_setting_that_is_secret_is_taken_out_of_our_arguments(experiment: Path) -> None:
    """It can be seen for as long as Python takes to begin, since a person typed it there."""
    setting = f"software.grafana.password={CANARY}-set"
    command = [
        "plan",
        str(experiment),
        "--json",
        "--set",
        setting,
        "--set",
        "infrastructure.fake.x=1",
    ]
    program = (
        "import sys; sys.argv[1:] = sys.argv[1:]\n"
        "from continuum.cli import handover\n"
        "given = handover.arguments()\n"
        "line = open('/proc/self/cmdline').read()\n"
        "print('CAN' + 'ARY' in line, *given, sep='|')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *command], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip().split("|") == ["False", *command]
    with started(experiment.parent / "ended", *command) as process:
        ended_command = process.ends()
    assert ended_command.code == 2
    assert "infrastructure.fake.x" in ended_command.stderr
    assert "CANARY" not in ended_command.stdout + ended_command.stderr


# -- through sudo ---------------------------------------------------------------------------------

_SUDO = """\
#!/bin/sh
# As sudo does: nothing of the environment but this, and what is run is written to a log.
printf '%s\\n' "$@" >>"$0.log"
[ "$1" = -n ] && exit 0
shift
exec env -i PATH="$PATH" LOGNAME=root "$@"
"""
_TELL = """\
import json, os, sys
from continuum.cli import handover
given = handover.arguments()
line = open(f"/proc/self/cmdline").read()
print(json.dumps({"given": given, "line": line, "environment": dict(os.environ)}))
"""


def test_environment_and_arguments_go_through_sudo_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sudo = tmp_path / "sudo"
    sudo.write_text(_SUDO)
    sudo.chmod(0o755)
    package = tmp_path / "source/continuum"
    package.mkdir(parents=True)
    real = Path(handover.__file__).parents[1]
    (package / "__init__.py").write_text(f"__path__.append({str(real)!r})\n")
    (package / "__main__.py").write_text(_TELL)
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    arguments = ["up", "my file.toml", "--set", f"software.grafana.password={CANARY}-set"]
    variables = {
        "PYTHONPATH": f"{tmp_path}/source:{real.parent}",
        "PIP_INDEX_URL": f"https://{CANARY}@host/",
        "ODD": "a\nb'\"$é" + "x" * 100_000,
    }
    program = (
        "import json, sys\nfrom continuum.cli import handover\n"
        "handover.through_sudo(sys.argv[1], *json.load(sys.stdin))"
    )
    with watched(b"CANARY") as seen:
        ended = subprocess.run(
            [sys.executable, "-c", program, str(sudo)],
            input=json.dumps([arguments, variables]),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["given"] == arguments
    assert told["environment"] == {**told["environment"], **variables, "LOGNAME": "root"}
    assert seen == set()
    assert "CANARY" not in (tmp_path / "sudo.log").read_text() + told["line"]
    assert list(runtime.iterdir()) == []


def test_a_pipe_that_nobody_reads_goes_with_the_process_that_was_to_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with subprocess.Popen(["sleep", "60"]) as reader:
        pipe = handover.offer(b"secret", reader.pid)
        assert stat.S_IMODE(pipe.stat().st_mode) == 0o600
        assert stat.S_IMODE(pipe.parent.stat().st_mode) == 0o700
        reader.kill()
    # The process is reaped: what waits for it sees that at its next look.
    while pipe.parent.exists():
        os.sched_yield()
    assert list(tmp_path.iterdir()) == []
