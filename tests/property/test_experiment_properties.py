"""Whatever a file holds, it is read or refused with reasons; and what is read can be written."""

from __future__ import annotations

import configparser
import io
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from continuum.errors import InvalidExperiment
from continuum.experiment import cfg, ini, units
from continuum.experiment.load import load, load_text
from continuum.experiment.model import Experiment, problems_over_fields
from continuum.experiment.toml import locate
from continuum.experiment.units import QUANTITIES, Quantity
from continuum.experiment.write import to_toml

MANY = settings(max_examples=200, deadline=None)
FEW = settings(max_examples=75, deadline=None, suppress_health_check=list(HealthCheck))


def read_or_refuse(text: str, name: str, **beside: Any) -> Experiment | None:
    try:
        return load_text(text, Path(name), **beside).experiment
    except InvalidExperiment as error:
        check_problems(error, text.count("\n") + text.count("\r") + 1)
        return None


def check_problems(error: InvalidExperiment, lines: int) -> None:
    assert error.problems
    for problem in error.problems:
        assert problem.message
        assert 0 <= problem.line <= lines
        assert str(problem).isprintable()


# -- anything at all -----------------------------------------------------------------------------


@FEW
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".toml", ".cfg"]))
def test_any_bytes(content: bytes, suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(content)
    try:
        load(path)
    except InvalidExperiment as error:
        check_problems(error, len(content) + 1)


@MANY
@given(st.text(max_size=200), st.sampled_from(["x.toml", "x.cfg"]))
def test_any_text(text: str, name: str) -> None:
    read_or_refuse(text, name)


NAMES = st.sampled_from(
    ["name", "tiers", "edge", "machines", "memory", "network", "links", "between", "from", "to",
     "delay", "preset", "software", "services", "kubernetes", "version", "benchmark",
     "application", "command", "frequency", "infrastructure", "provider", "lxc", "fake",
     "settings", "seed", "all", "x"]
)  # fmt: skip
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.times(),
    st.datetimes(),
    st.sampled_from(
        ["edge", "lxc", "command", "4g", "5 ms", "1 GiB", "-1 s", "5Hz", "1 %", "none"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def as_toml(value: object) -> str:
    """Any value as TOML, by means of our own writer for a plug-in's settings."""
    from continuum.experiment import write

    return write.literal(value)


@MANY
@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_any_toml(values: dict[str, Any]) -> None:
    text = "".join(f"{key} = {as_toml(value)}\n" for key, value in values.items())
    tomllib.loads(text)
    read_or_refuse(text, "x.toml")


SECTION = st.sampled_from([*cfg.SECTIONS, "other", "DEFAULT"]).map(lambda name: f"[{name}]")
OPTION = st.builds(
    "{}{}{}".format,
    st.sampled_from([*cfg.INFRASTRUCTURE, *cfg.BENCHMARK, "model", "other"]),
    st.sampled_from([" = ", "=", ": ", " "]),
    st.one_of(
        st.sampled_from(
            ["1", "2", "0", "-1", "0.5", "True", "no", "", "qemu", "gcp", "kubernetes", "mist",
             "none", "image_classification", "empty", "4g", "192.168", "a@b, c@d", "inf", "1e999"]
        ),
        st.text(max_size=5),
    ),
)  # fmt: skip
LINES = st.lists(
    st.one_of(OPTION, OPTION, SECTION, st.text(max_size=6), st.just("  more"), st.just("# x")),
    max_size=30,
)


@MANY
@given(LINES)
def test_any_cfg(lines: list[str]) -> None:
    read_or_refuse("\n".join(["[infrastructure]", "provider = qemu", *lines]), "x.cfg")


@MANY
@given(
    key=st.one_of(
        st.lists(NAMES | st.text(max_size=4) | st.just("0"), max_size=5).map(".".join),
        st.text(max_size=8),
    ),
    value=st.text(max_size=8) | SCALARS.map(str),
    by_variable=st.booleans(),
)
def test_any_override(key: str, value: str, *, by_variable: bool) -> None:
    text = '[tiers.edge]\n[network]\nlinks = [{ between = ["edge", "edge"] }]\n'
    if by_variable:
        name = f"CONTINUUM_SET__{key.replace('.', '__').upper()}"
        read_or_refuse(text, "x.toml", environment={name: value})
    else:
        read_or_refuse(text, "x.toml", settings=[f"{key}={value}"])


# -- agreement with the libraries ----------------------------------------------------------------


@MANY
@given(st.dictionaries(NAMES | st.text(max_size=4), VALUES, max_size=5))
def test_every_key_has_a_place(values: dict[str, Any]) -> None:
    from continuum.experiment import write

    text = "".join(f"\n{write._key(key)} = {as_toml(value)}" for key, value in values.items())
    lines = locate(text)
    for number, key in enumerate(values, 2):
        assert lines[key,] == number

    def walk(value: object, path: tuple[str | int, ...]) -> None:
        assert not path or path in lines
        for key, inner in (
            value.items() if isinstance(value, dict)
            else enumerate(value) if isinstance(value, list)
            else ()
        ):  # fmt: skip
            walk(inner, (*path, key))

    walk(tomllib.loads(text), ())


@MANY
@given(
    st.lists(
        st.one_of(
            SECTION,
            OPTION,
            st.sampled_from(
                ["  more", "\tmore = 1", "", "  ", "# a", "  ; b", " [x]", "a = b = c"]
            ),
        ),
        max_size=15,
    )
)
@example(["provider = \r0"])
@example(["[a]", "x = 1", "", "  y", "z : 2"])
def test_ini_is_read_as_configparser_reads_it(lines: list[str]) -> None:
    text = "\n".join(["[infrastructure]", *lines])
    parser = configparser.RawConfigParser(default_section="\0none")
    found = ini.scan(text)
    try:
        # As from a file: however its lines end.
        parser.read_file(io.StringIO(text, newline=None))
    except configparser.DuplicateOptionError:
        return
    except configparser.Error:
        assert found.problems
        return
    assert not found.problems
    assert {(each.section, each.name): each.value for each in found.entries} == {
        (section, name): parser[section][name]
        for section in parser.sections()
        for name in parser[section]
    }


# -- quantities ----------------------------------------------------------------------------------


@MANY
@given(st.sampled_from(QUANTITIES), st.floats(0, 2**50), st.integers(0, 2**50))
def test_a_quantity_is_written_exactly(quantity: Quantity, number: float, whole: int) -> None:
    held = whole if quantity.whole else number
    assert quantity.read(quantity.write(held)) == held


@MANY
@given(st.sampled_from(QUANTITIES), st.text(max_size=12))
def test_any_text_is_a_quantity_or_refused(quantity: Quantity, text: str) -> None:
    try:
        number = quantity.read(text)
    except ValueError as error:
        assert str(error).isprintable()  # noqa: PT017  either ending is right
    else:
        assert abs(number) < float("inf")


# -- round trip ----------------------------------------------------------------------------------

TIER_NAMES = st.lists(
    st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), min_size=1, max_size=4, unique=True
)
SIZES = st.integers(64 * 2**20, 2**50)
RATES = st.none() | st.integers(1000, 2**50)
TIERS = st.fixed_dictionaries(
    {
        "machines": st.integers(1, 20),
        "cores": st.integers(1, 1024),
        "quota": st.floats(0.1, 1.0),
        "memory": SIZES,
        "disk_read": RATES,
        "disk_write": RATES,
    }
)


def _finite(value: object) -> bool:
    """Whether a value is equal to itself, deep down: nan is not."""
    if isinstance(value, dict):
        return all(_finite(each) for each in value.values())
    if isinstance(value, list):
        return all(_finite(each) for each in value)
    return bool(value == value)  # noqa: PLR0124  the test for nan


SETTINGS = st.dictionaries(st.text(max_size=6), VALUES, max_size=3).filter(_finite)


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    names = draw(TIER_NAMES)
    end = st.sampled_from(names)
    properties = {
        "delay": st.none() | st.floats(10, 60_000),
        "jitter": st.none() | st.floats(0, 10),
        "loss": st.none() | st.floats(0, 100),
        "rate": st.none() | st.floats(0.008, 400_000),
    }
    link = st.one_of(
        st.fixed_dictionaries({"between": st.tuples(end, end), **properties}),
        st.fixed_dictionaries({"from": end, "to": end, **properties}),
    )
    network = st.fixed_dictionaries(
        {
            "preset": st.sampled_from([None, "4g", "5g", "wired"]),
            "emulator": st.sampled_from(["auto", "netem", "nfqueue"]),
            "all_pairs": st.booleans(),
            "links": st.lists(link, max_size=3).map(tuple),
        }
    )
    software = st.fixed_dictionaries(
        {
            "manager": st.sampled_from(["none", "kubernetes", "kubeedge"]),
            "execution_model": st.sampled_from(["process", "container", "function"]),
            "runtime": st.sampled_from(["containerd", "docker"]),
            "services": st.lists(st.sampled_from(["mqtt", "registry"]), max_size=2).map(tuple),
            "observability": st.booleans(),
            "kubernetes": st.fixed_dictionaries({"version": st.sampled_from([None, "1.34"])}),
            "serverless": st.none() | st.fixed_dictionaries({"accept_licence": st.booleans()}),
        }
    )
    benchmark = st.fixed_dictionaries(
        {
            "application": st.sampled_from(["mem_usage", "stress"]),
            "workers": st.just("") | end,
            "endpoints": st.just("") | end,
            "workers_per_machine": st.integers(1, 1000),
            "worker_cpu": st.none() | st.floats(0.001, 1024),
            "worker_memory": st.none() | SIZES,
            "endpoint_cpu": st.none() | st.floats(0.001, 1024),
            "frequency": st.floats(0.001, 100_000),
            "warmup": st.floats(0, 3600),
            "duration": st.floats(0.001, 3600),
            "repetitions": st.integers(1, 1000),
            "seed": st.integers(0, 2**63 - 1),
            "settings": SETTINGS,
        }
    )
    infrastructure = st.fixed_dictionaries(
        {
            "provider": st.sampled_from(["terraform"]),
            "internet": st.booleans(),
            "address_block": st.sampled_from([None, "10.3.0.0"]),
            "settings": SETTINGS,
        }
    )
    with units.trusted_numbers():
        return Experiment.model_validate(
            {
                "name": draw(st.from_regex(r"[a-z][a-z0-9-]{0,30}", fullmatch=True)),
                "infrastructure": draw(infrastructure),
                "tiers": {name: draw(TIERS) for name in names},
                "network": draw(st.none() | network),
                "software": draw(st.none() | software),
                "benchmark": draw(st.none() | benchmark),
            }
        )


@FEW
@given(experiments())
def test_what_is_written_as_toml_is_read_as_the_same(experiment: Experiment) -> None:
    if problems_over_fields(experiment):
        return
    text = to_toml(experiment)
    assert load_text(text, Path("x.toml")).experiment == experiment
    assert to_toml(load_text(text, Path("x.toml")).experiment) == text
