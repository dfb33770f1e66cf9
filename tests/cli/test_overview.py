from __future__ import annotations

from pathlib import Path

import click
import pytest

from command_line import Cli
from continuum.cli.main import EXIT_CODES, VERBS, continuum

ALL_VERBS = [verb for group in VERBS.values() for verb in group]
DOCS = Path(__file__).parents[2] / "docs" / "cli"


def _command(verb: str) -> click.Command:
    found = continuum.get_command(click.Context(continuum), verb)
    assert isinstance(found, click.Command)
    return found


def _commands(verb: str) -> list[click.Command]:
    """The verb's command, or those of a verb that has verbs of its own."""
    command = _command(verb)
    return list(command.commands.values()) if isinstance(command, click.Group) else [command]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_overview_shows_every_verb_and_every_exit_code(cli: Cli, arguments: list[str]) -> None:
    ending = cli(*arguments)
    assert ending.code == 0
    assert not ending.stderr
    for word in (*ALL_VERBS, *(code for code, _ in EXIT_CODES)):
        assert f"  {word} " in ending.stdout


def test_the_version_is_data(cli: Cli) -> None:
    ending = cli("--version")
    assert ending.code == 0
    assert ending.stdout.startswith("continuum 2.")
    assert not ending.stderr


@pytest.mark.parametrize(
    ("word", "advice"),
    [("runn", "did you mean `run`?"), ("statsu", "did you mean `status`?"), ("zzz", "--help")],
)
def test_a_wrong_verb_is_answered_with_the_nearest_one(cli: Cli, word: str, advice: str) -> None:
    ending = cli(word)
    assert ending.code == 2
    assert word in ending.stderr
    assert advice in ending.stderr
    assert not ending.stdout


@pytest.mark.parametrize("verb", ALL_VERBS)
def test_every_verb_has_help_with_its_exit_codes(cli: Cli, verb: str) -> None:
    ending = cli(verb, "--help")
    assert ending.code == 0
    assert f"Usage: continuum {verb}" in ending.stdout
    assert "Exit codes:" in ending.stdout
    assert "--quiet" in ending.stdout


# All options of kubectl are kubectl's.
@pytest.mark.parametrize("verb", [verb for verb in ALL_VERBS if verb != "kubectl"])
def test_a_wrong_option_is_usage(cli: Cli, verb: str) -> None:
    ending = cli(verb, "--nonsense")
    assert ending.code == 2
    assert "error:" in ending.stderr


@pytest.mark.parametrize("verb", ALL_VERBS)
def test_every_verb_has_a_page_that_names_each_option(verb: str) -> None:
    page = (DOCS / f"{verb}.md").read_text()
    assert page.startswith(f"# continuum {verb}\n")
    assert "## Exit codes" in page
    parameters = [each for command in _commands(verb) for each in command.params]
    for parameter in parameters:
        if isinstance(parameter, click.Option):
            for name in parameter.opts:
                if name.startswith("--") and name not in {"--quiet", "--verbose"}:
                    assert name in page, name


@pytest.mark.parametrize("verb", ALL_VERBS)
def test_every_verb_has_json(verb: str) -> None:
    for command in _commands(verb):
        options = {name for parameter in command.params for name in parameter.opts}
        assert "--json" in options or verb in {"ssh", "kubectl"}


def test_quiet_and_verbose_stand_before_or_after_the_verb(cli: Cli, write: Cli) -> None:
    path = write()
    loud, quiet = cli("up", "-v", path), cli("-q", "up", path)
    assert "start   infrastructure: machines" in loud.stderr
    assert (quiet.code, quiet.stdout, quiet.stderr) == (0, "", "")


@pytest.mark.parametrize("verb", ALL_VERBS)
def test_no_formatting_marks_reach_the_reader(cli: Cli, verb: str) -> None:
    assert "\\" not in cli(verb, "--help").stdout
