from __future__ import annotations

from pathlib import Path

import pytest

from command_line import Cli, Write

GOOD = 'name = "good"\n\n[tiers.edge]\nmachines = 1\n'

INVALID = {
    "not TOML": ("name = = 3", 1),
    "an unclosed table": ("[tiers.edge\nmachines = 1\n", 1),
    "an unknown key": (f"{GOOD}cors = 2\n", 5),
    "an unknown table": (f"{GOOD}[netwrk]\n", 5),
    "no unit": (f"{GOOD}memory = 2\n", 5),
    "a wrong unit": (f'{GOOD}memory = "2 Gibi"\n', 5),
    "a negative number": (f"{GOOD}cores = -1\n", 5),
    "a negative quantity": (f'{GOOD}memory = "-2 GiB"\n', 5),
    "zero where none may be": (f"{GOOD}cores = 0\n", 5),
    "an absurd number": (f"{GOOD}cores = 99999999999999999999\n", 5),
    "an absurd quantity": (f'{GOOD}memory = "1e300 TiB"\n', 5),
    "not a number": (f"{GOOD}quota = nan\n", 5),
    "infinite": (f"{GOOD}quota = inf\n", 5),
    "a million machines": (GOOD.replace("= 1", "= 1000000"), 4),
    "no machine at all": (GOOD.replace("= 1", "= 0"), 3),
    "no tiers": ('name = "good"\n', 0),
    "a link to an unknown tier": (
        f'{GOOD}[[network.links]]\nbetween = ["edge", "clod"]\ndelay = "1 ms"\n',
        5,
    ),
    "an unknown provider": (f'{GOOD}[infrastructure]\nprovider = "lxd"\n', 6),
    "an unknown setting of a provider": (
        f'{GOOD}[infrastructure]\nprovider = "fake"\n[infrastructure.fake]\ndelya = "1 s"\n',
        8,
    ),
    "an unknown application": (f'{GOOD}[benchmark]\napplication = "image"\n', 6),
    "a wrong name": (GOOD.replace('"good"', '"Not Good"'), 1),
    "empty": ("", 0),
}


@pytest.mark.parametrize("what", INVALID)
def test_an_invalid_file_is_refused_with_its_line(cli: Cli, tmp_path: Path, what: str) -> None:
    text, line = INVALID[what]
    path = tmp_path / "bad.toml"
    path.write_text(text)
    ending = cli("validate", path)
    assert ending.code == 2
    place = f"{path}:{line}:" if line else f"{path}:"
    assert place in ending.stdout, ending.stdout
    found = cli("validate", "--json", path).json[0]
    assert found["verdict"] == "invalid"
    assert any(problem["line"] == line for problem in found["problems"]), found


@pytest.mark.parametrize("verb", ["plan", "up", "run"])
def test_no_verb_does_anything_with_an_invalid_file(cli: Cli, tmp_path: Path, verb: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(f"{GOOD}cors = 2\n")
    ending = cli(verb, path)
    assert ending.code == 2
    assert f"{path}:5:" in ending.stderr
    assert "nothing was done" in ending.stderr
    assert not (tmp_path / ".state").exists()


def test_all_problems_are_told_at_once_with_the_nearest_right_name(
    cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(f'{GOOD}cors = 2\nmemory = "2 gib"\n[infrastructre]\n')
    lines = cli("validate", path).stdout.splitlines()
    assert len(lines) == 3
    assert "cores" in lines[0]
    assert "GiB" in lines[1]
    assert "infrastructure" in lines[2]


@pytest.mark.parametrize(
    "content",
    [b"name = '\xff\xfe'\n", b"\x00\x01\x02", b"\xef\xbb\xbf", bytes(range(256))],
    ids=["not UTF-8", "zero bytes", "only a mark", "every byte"],
)
def test_what_is_no_text_is_refused(cli: Cli, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    ending = cli("validate", path)
    assert ending.code == 2
    assert str(path) in ending.stdout


def test_a_file_of_50_mb_is_refused_before_it_is_read(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "large.toml"
    with path.open("wb") as file:
        file.truncate(50 * 10**6)
    ending = cli("validate", path)
    assert ending.code == 2
    assert "large.toml" in ending.stdout


@pytest.mark.parametrize(
    "name", ["absent.toml", ".", "folder.toml", "experiment.yaml", "n" * 300, f"{'n' * 300}.toml"]
)
def test_what_is_no_experiment_file_is_refused(cli: Cli, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "experiment.yaml").write_text("name: x\n")
    ending = cli("validate", tmp_path / name)
    assert ending.code == 2
    assert ending.stdout


def test_several_files_have_a_verdict_each(cli: Cli, tmp_path: Path, write: Write) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("")
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text(f'{GOOD}[infrastructure]\nprovider = "terraform"\n')
    good = write()
    ending = cli("validate", good, bad, elsewhere, "--json")
    assert ending.code == 2
    verdicts = [each["verdict"] for each in ending.json]
    assert verdicts == ["valid", "invalid", "not runnable here"]
    assert "terraform" in ending.json[2]["not_runnable"][0]
    assert cli("validate", good, elsewhere).code == 0


def test_a_valid_file_that_cannot_run_here_is_exit_3_where_it_must_run(
    cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "elsewhere.toml"
    path.write_text(f'{GOOD}[infrastructure]\nprovider = "terraform"\n')
    for verb in ("plan", "up", "run"):
        ending = cli(verb, path)
        assert ending.code == 3
        assert "terraform" in ending.stderr
    assert not (tmp_path / ".state" / "continuum" / "deployments").exists()


def test_what_the_application_cannot_use_is_told_with_line_and_hint(
    cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "few.toml"
    path.write_text(
        f"{GOOD.replace('= 1', '= 2')}cors = 2\n\n[tiers.endpoint]\nmachines = 1\n\n"
        '[benchmark]\napplication = "image_classification"\nworkers = "edge"\n'
    )
    # The application relies on a file that says an experiment: what is wrong there comes first.
    assert ":5: " in cli("validate", path).stdout
    path.write_text(path.read_text().replace("cors", "cores"))
    ending = cli("validate", path, "--json")
    assert ending.code == 2
    (problem,) = ending.json[0]["problems"]
    assert problem["line"] == 8
    assert "1 endpoints cannot use 2 workers" in problem["message"]
    assert problem["hint"] == "tiers.endpoint.machines = 2 or more"
    for verb in ("plan", "up", "run"):
        ending = cli(verb, path)
        assert ending.code == 2
        assert f"{path}:8: " in ending.stderr
    assert cli("validate", path, "--set", "tiers.endpoint.machines=2").code == 0


def test_what_is_not_written_is_told_where_the_application_stands(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "alone.toml"
    path.write_text(f'{GOOD}[benchmark]\napplication = "empty"\nendpoints = ""\n')
    ending = cli("validate", path)
    assert ending.code == 2
    assert f"{path}:6: software.manager: " in ending.stdout


def test_what_the_application_lacks_here_is_told_as_a_plan_tells_it(
    cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "lacks.toml"
    path.write_text(
        f'{GOOD}[infrastructure]\nprovider = "fake"\n[benchmark]\napplication = "command"\n'
        'workers = "edge"\nendpoints = "edge"\n'
        '[benchmark.command]\nendpoint = ["true"]\nfiles = "programs"\n'
    )
    (verdict,) = cli("validate", path, "--json").json
    assert verdict["verdict"] == "not runnable here"
    assert f"{path}:13: benchmark.command.files" in verdict["not_runnable"][0]
    ending = cli("plan", path)
    assert ending.code == 3
    assert f"where: {path}:13" in ending.stderr
    (tmp_path / "programs").mkdir()
    assert cli("validate", path, "--json").json[0]["verdict"] == "valid"
    assert cli("plan", path).code == 0


def test_values_can_be_set_beside_the_file(
    cli: Cli, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write()
    assert cli("validate", path, "--set", "tiers.edge.machines=3").code == 0
    ending = cli("validate", path, "--set", "tiers.edge.machins=3")
    assert ending.code == 2
    assert "machines" in ending.stdout
    assert cli("validate", path, "--set", "nonsense").code == 2
    assert cli("validate", path, "--provider", "nonsense").code == 2
    monkeypatch.setenv("CONTINUUM_SET__TIERS__EDGE__CORES", "-1")
    assert cli("validate", path).code == 2


def test_without_a_file_it_is_usage(cli: Cli) -> None:
    assert cli("validate").code == 2
