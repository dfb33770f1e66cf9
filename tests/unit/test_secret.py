"""Secrets: how they show, which values are secret, and what they are taken out of."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from continuum.errors import InvalidExperiment
from continuum.experiment.load import Loaded, load_text
from continuum.experiment.write import to_toml
from continuum.secret import (
    Masked,
    Secret,
    is_secret_name,
    sealed,
    shown,
    texts,
    without_logins,
    without_secrets,
)

CANARY = "CANARY-x7Kq-2"

EXPERIMENT = """\
name = "paper"
[infrastructure]
provider = "fake"
[tiers.edge]
[tiers.endpoint]
{software}
[benchmark]
application = "command"
[benchmark.command]
endpoint = "./load"
worker = "./serve"
{command}
"""


def read(
    *, software: str = "", command: str = "", folder: Path | None = None, **given: object
) -> Loaded:
    text = EXPERIMENT.format(software=software, command=command)
    return load_text(text, (folder or Path()) / "paper.toml", **given)  # type: ignore[arg-type]


def problems(**given: object) -> str:
    with pytest.raises(InvalidExperiment) as caught:
        read(**given)  # type: ignore[arg-type]
    told = "\n".join(map(str, caught.value.problems))
    assert "CANARY" not in told
    return told


class Holder(BaseModel):
    password: Secret
    more: dict[str, Secret] = {}


def test_a_secret_shows_nowhere() -> None:
    held = Holder(password=Secret(CANARY), more={"a": Secret(CANARY)})
    for text in (
        *(str(held), repr(held), held.model_dump_json(), f"{held.password}"),
        *(str(held.model_dump()), json.dumps(held.more, default=str)),
        str(TypeAdapter(Holder).dump_python(held)),
    ):
        assert "CANARY" not in text
        assert "***" in text
    assert held.password.open() == CANARY
    with pytest.raises(TypeError):
        pickle.dumps(held.password)


def test_secrets_are_compared_by_their_texts() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert copy.deepcopy({"a": Secret("a")}) == {"a": Secret("a")}
    assert Secret("a").digest(b"1") == Secret("a").digest(b"1")
    assert len({Secret(text).digest(key) for text in "ab" for key in (b"1", b"2")}) == 4


def test_what_is_not_a_text_is_refused_without_being_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        Holder.model_validate({"password": 5})
    assert caught.value.errors()[0]["type"] == "string_type"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "password",
            "PASSWORD",
            "db_passwd",
            "passphrase",
            "token",
            "API_TOKEN",
            "apiKey",
            "api-key",
        ),
        *(
            "aws_access_keys",
            "aws_secret_access_keys",
            "client_secret",
            "credentials",
            "accessToken",
        ),
        *("authorization", "private_key", "webhook"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("cpu_pin", "passes", "key", "keys", "password_file", "environment_from", "compass"),
        *("tokenizer", "secretary", "author", "machines", "accept_licence", "token_type"),
    ],
)
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_name(name)


def test_a_plug_ins_settings_are_sealed_by_name_and_by_type() -> None:
    settings = {"inner": {"api_token": "t"}, "environment": {"A": "a"}, "size": 3, "list": ["x"]}
    kept = sealed(settings)
    assert list(texts(kept)) == ["t", "a"]
    assert shown({**kept, "passcode": 1234, "at": "http://u:p@h/"}) == {
        "inner": {"api_token": "***"},
        "environment": {"A": "***"},
        "size": 3,
        "list": ["x"],
        "passcode": "***",
        "at": "http://***@h/",
    }


@pytest.mark.parametrize(
    ("text", "shows"),
    [
        ("at http://me:S3CRET@proxy:3128/ now", "at http://***@proxy:3128/ now"),
        ("https://tok-S3CRET@index/simple", "https://***@index/simple"),
        ("git+https://S3CRET@host/x.git", "git+https://***@host/x.git"),
        ("socks5://me:S3CRET@h and ftp://a:S3CRET@b", "socks5://***@h and ftp://***@b"),
        ("https://u:S3/CRET@h", "https://u:S3/CRET@h"),
        ("ssh://user@host:22", "ssh://user@host:22"),
        ("mail ada@example.org, https://host/@scope", "mail ada@example.org, https://host/@scope"),
    ],
)
def test_logins_in_addresses(text: str, shows: str) -> None:
    assert without_logins(text) == shows


def test_only_what_is_no_common_word_is_taken_out_of_texts() -> None:
    masked = Masked()
    masked.add(["endpoint", "10", CANARY, 'q"2\\xyz', "line one 1\nline two 2"])
    told = masked(f'endpoint-1 took 10 s with {CANARY}, {json.dumps(chr(34) + "x")}, q"2\\xyz')
    assert told == 'endpoint-1 took 10 s with ***, "\\"x", ***'
    assert "q" not in masked(json.dumps('q"2\\xyz'))
    assert masked("said: line two 2") == "said: ***"
    assert masked.values({"line two 2": ["line two 2", 3]}) == {"line two 2": ["***", 3]}


def test_arguments_of_a_command_line() -> None:
    given = ["up", "x.toml", "--set", f"software.grafana.password={CANARY}", "--set=a.b=c"]
    given += [f"--set=benchmark.command.environment.MODE={CANARY}"]
    assert "CANARY" not in str(without_secrets(given))
    assert without_secrets(given)[:3] == given[:3]
    assert without_secrets(given)[4:] == [
        "--set=a.b=c",
        "--set=benchmark.command.environment.MODE=***",
    ]


# -- in an experiment -----------------------------------------------------------------------------

_WRITTEN = f"""\
environment.API_TOKEN = "{CANARY}"  # was {CANARY}
environment.MODE = 'endpoint'
# old_password = "CANARY of last year"
"""
_PASSWORD = f'[software.grafana]\npassword = "{CANARY}"'


@pytest.mark.parametrize(
    "command",
    [
        _WRITTEN,
        f'environment = {{ API_TOKEN = "{CANARY}", MODE = "endpoint" }}',
        f'[benchmark.command.environment]\nAPI_TOKEN = """\n{CANARY}"""\nMODE = "endpoint"',
        'environment.API_TOKEN = "\\u0043ANARY-x7Kq-2"\nenvironment."MODE" = "endpoint"',
    ],
)
def test_an_experiment_shows_no_secret(command: str) -> None:
    loaded = read(software=_PASSWORD, command=command)
    experiment = loaded.experiment
    assert experiment.benchmark is not None
    assert experiment.benchmark.settings["environment"]["API_TOKEN"] == Secret(CANARY)
    for text in (
        *(str(experiment), repr(experiment), str(experiment.model_dump()), repr(loaded)),
        *(experiment.model_dump_json(), to_toml(experiment), str(loaded.origins)),
        loaded.source_text,
    ):
        assert "ANARY-" not in text
        assert "CANARY of" not in text
    assert 'application = "command"' in loaded.source_text
    assert 'endpoint = "./load"' in loaded.source_text
    assert "API_TOKEN" in loaded.source_text
    assert "[tiers.endpoint]" in loaded.source_text


def test_the_table_of_an_application_that_is_not_chosen_is_masked_too() -> None:
    command = (
        f'[benchmark.container.environment]\nA = "{CANARY}"\n[benchmark.mine]\ntoken = "{CANARY}"'
    )
    assert "CANARY" not in problems(command=command)
    loaded = read(command=command.partition("\n[benchmark.mine]")[0])
    assert "CANARY" not in loaded.source_text


def test_a_file_of_1_x_is_masked() -> None:
    text = (
        "[infrastructure]\nprovider = aws\naws_ami = a\naws_region = eu\naws_zone = z\n"
        f"aws_cloud = a\naws_edge = a\naws_endpoint = a\ncloud_nodes = 1\ncloud_cores = 2\n"
        "cloud_memory = 4\ncloud_quota = 1.0\ninfra_only = True\n"
        f"aws_access_keys = {CANARY}\n  {CANARY}\n# aws_secret_access_keys: CANARY-old\n"
        f"aws_secret_access_keys = {CANARY}\n"
    )
    loaded = load_text(text, Path("old.cfg"), provider="fake")
    assert "CANARY" not in loaded.source_text + repr(loaded)
    assert "cloud_cores = 2" in loaded.source_text


def test_numbers_given_beside_the_file_are_texts_where_these_belong() -> None:
    given = ["software.grafana.password=1234", "benchmark.command.environment.PORT=8080"]
    variables = {
        "CONTINUUM_SET__BENCHMARK__COMMAND__ENVIRONMENT__API_TOKEN": CANARY,
        "CONTINUUM_SET__BENCHMARK__FREQUENCY": "2 Hz",
    }
    loaded = read(settings=given, environment=variables)
    assert loaded.experiment.software is not None
    assert loaded.experiment.software.grafana.password == Secret("1234")
    assert loaded.experiment.benchmark is not None
    environment = loaded.experiment.benchmark.settings["environment"]
    assert environment == {"PORT": Secret("8080"), "API_TOKEN": Secret(CANARY)}


@pytest.mark.parametrize(
    ("software", "command", "says"),
    [
        (
            '[software.grafana]\npassword = "CANARY 1 2"',
            "",
            "paper.toml:7: software.grafana.password",
        ),
        ("[software.grafana]\npassword = 4711", "", "must be a text in quotes"),
        ('[software]\ngrafana = "CANARY-1"', "", "must be a table, not a text"),
        ("", "environment.A = 4711", "must be a text in quotes"),
        ("", 'environment = "A=CANARY-1"', "must be a table"),
        ("", 'environment.A = ["CANARY-1"]', 'must be a text in quotes, not "***"'),
        ("", 'environment.CONTINUUM_A = "CANARY-1"', "cannot be set"),
        ("", 'environment.A = "CANARY-1\\u0000"', "NUL"),
        ("", 'environment.A = "***"', '"***" stands for a secret'),
        ('[software.grafana]\npassword = "***"', "", '"***" stands for a secret'),
        ("", 'python_packages = ["a @ https://me:CANARY-1@host/a.whl"]', "holds a login"),
        ("", 'token = "CANARY-1"', "unknown key"),
    ],
)
def test_what_is_wrong_is_told_without_the_secret(software: str, command: str, says: str) -> None:
    told = problems(software=software, command=command)
    assert says in told
    assert "4711" not in told


def test_what_is_given_beside_the_file_is_not_echoed() -> None:
    assert 'no "="' in problems(settings=["software.grafana.password CANARY-1"])
    assert 'no "="' in problems(settings=["software.grafana.password:CANARY-1"])
    problems(settings=["software.grafana.password.x=CANARY-1"])
    problems(environment={"CONTINUUM_SET__SOFTWARE__GRAFANA__PASSWORD": "CANARY 1"})
    problems(environment={"CONTINUUM_SET__SOFTWARE__GRAFANA__PASSWORD": "CANARY-1\n"})


# -- in files of their own ------------------------------------------------------------------------


def kept(folder: Path, name: str, content: str, mode: int = 0o600) -> Path:
    path = folder / name
    path.write_text(content)
    path.chmod(mode)
    return path


_FROM = 'environment_from = "my.env"'
_FILE = '[software.grafana]\npassword_file = "grafana.password"'


def test_a_password_in_a_file(tmp_path: Path) -> None:
    path = kept(tmp_path, "grafana.password", f"{CANARY}\n")
    loaded = read(software=_FILE, folder=tmp_path)
    assert loaded.experiment.software is not None
    assert loaded.experiment.software.grafana.password == Secret(CANARY)
    assert loaded.origins["software.grafana.password"] == f"{path}:1"
    assert loaded.notes == ()
    again = to_toml(loaded.experiment, loaded.in_secret_files)
    assert "***" not in again
    assert str(path) in again
    path.chmod(0o644)
    (note,) = read(software=_FILE, folder=tmp_path).notes
    assert "others may read" in note


def test_an_environment_in_a_file(tmp_path: Path) -> None:
    text = f"# mine\n\nAPI_TOKEN={CANARY}\nURL= a=b \nCOLOUR=red\r\nHELD\n"
    path = kept(tmp_path, "my.env", text)
    command = f'{_FROM}\nenvironment.COLOUR = "blue"'
    loaded = read(command=command, folder=tmp_path, environment={"HELD": "CANARY-held"})
    assert loaded.experiment.benchmark is not None
    assert loaded.experiment.benchmark.settings["environment"] == {
        "API_TOKEN": Secret(CANARY),
        "URL": Secret(" a=b "),
        "COLOUR": Secret("blue"),
        "HELD": Secret("CANARY-held"),
    }
    assert loaded.variables == {"HELD"}
    assert loaded.origins["benchmark.command.environment.API_TOKEN"] == f"{path}:3"
    assert "CANARY" not in repr(loaded)
    again = to_toml(loaded.experiment, loaded.in_secret_files)
    assert 'environment = { COLOUR = "***" }' in again
    assert "API_TOKEN" not in again


@pytest.mark.parametrize(
    "case",
    [
        (_FILE, "", "", "", 'paper.toml:7: software.grafana.password_file: "'),
        (_FILE, "", "grafana.password", "", "is empty"),
        (_FILE, "", "grafana.password", "CANARY\nCANARY\n", "has 2 lines"),
        (_FILE, "", "grafana.password", "CANARY 1", "grafana.password:1: software.grafana"),
        (
            f'{_FILE}\npassword = "CANARY-1"',
            "",
            "grafana.password",
            "CANARY",
            "password stands here",
        ),
        ("", _FROM, "", "", "is not there"),
        ("", _FROM, "my.env", "A=1\nCANARY no name\n", "my.env:2: is neither"),
        ("", _FROM, "my.env", "A=1\nCANARY-1=x\n", "my.env:2: is neither"),
        ("", _FROM, "my.env", "A=1\nHELD\n", "my.env:2: there is no variable HELD"),
        ("", _FROM, "my.env", "CONTINUUM_A=CANARY-1\n", "cannot be set"),
        ("", f"{_FROM}\nenvironment = 5", "my.env", "A=1\n", "must be a table"),
        ("", "environment_from = 5", "", "", "environment_from"),
    ],
)
def test_files_that_do_not_serve(tmp_path: Path, case: tuple[str, ...]) -> None:
    software, command, name, content, says = case
    if name:
        kept(tmp_path, name, content)
    assert says in problems(software=software, command=command, folder=tmp_path)


def test_other_kinds_of_files(tmp_path: Path) -> None:
    (tmp_path / "my.env").mkdir()
    assert "no regular file" in problems(command=_FROM, folder=tmp_path)
    (tmp_path / "my.env").rmdir()
    (tmp_path / "my.env").write_bytes(b"A=\xff")
    assert "UTF-8" in problems(command=_FROM, folder=tmp_path)
    assert "larger" in problems(
        command=f'environment_from = "{kept(tmp_path, "big", "A" * 10**6 + "=1")}"', folder=tmp_path
    )
