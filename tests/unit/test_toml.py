"""Our own format: places of keys, and every problem at once, in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest

from continuum.errors import InvalidExperiment
from continuum.experiment.load import Loaded, load_text
from continuum.experiment.toml import locate

SMALL = """\
[tiers.edge]
machines = 2
memory = "512 MiB"

[tiers.endpoint]
machines = 4
"""


def read(text: str, name: str = "small.toml") -> Loaded:
    return load_text(text, Path(name))


def problems(text: str) -> list[str]:
    """`line: message (hint)` of every problem."""
    with pytest.raises(InvalidExperiment) as caught:
        read(text)
    return [
        str(each).removeprefix("small.toml:" if each.line else "") for each in caught.value.problems
    ]


# -- places --------------------------------------------------------------------------------------


def test_every_key_has_its_line() -> None:
    text = '''#:schema x
name = "x" # = [a]
tiers.edge."cores" = 2
[ network ]
'pre set' = """
[not.a.table]
"""
links = [  # two
  {between = ["a", "b"], delay = "1 ms"},
  {from = "a", to = "b"},
]

[[t.x]]
a = 1
[t.x.sub]
c = [1,
     2]
[[t.x]]
[t.x.sub]
d = \'\'\'q''\'\'\'
'''
    assert locate(text) == {
        ("name",): 2,
        ("tiers",): 3,
        ("tiers", "edge"): 3,
        ("tiers", "edge", "cores"): 3,
        ("network",): 4,
        ("network", "pre set"): 5,
        ("network", "links"): 8,
        ("network", "links", 0): 9,
        ("network", "links", 0, "between"): 9,
        ("network", "links", 0, "between", 0): 9,
        ("network", "links", 0, "between", 1): 9,
        ("network", "links", 0, "delay"): 9,
        ("network", "links", 1): 10,
        ("network", "links", 1, "from"): 10,
        ("network", "links", 1, "to"): 10,
        ("t",): 13,
        ("t", "x"): 13,
        ("t", "x", 0): 13,
        ("t", "x", 0, "a"): 14,
        ("t", "x", 0, "sub"): 15,
        ("t", "x", 0, "sub", "c"): 16,
        ("t", "x", 0, "sub", "c", 0): 16,
        ("t", "x", 0, "sub", "c", 1): 17,
        ("t", "x", 1): 18,
        ("t", "x", 1, "sub"): 19,
        ("t", "x", 1, "sub", "d"): 20,
    }


def test_lines_of_files_from_windows_count_the_same() -> None:
    assert locate("a = 1\r\nb = 2\r\n") == {("a",): 1, ("b",): 2}
    assert read(SMALL.replace("\n", "\r\n")).experiment.machine_count == 6


# -- what is read --------------------------------------------------------------------------------


def test_the_architectures_example_is_read_whole() -> None:
    loaded = read("""\
name = "edge-offload"
[infrastructure]
provider = "lxc"
[tiers.cloud]
cores = 2
memory = "2 GiB"
[tiers.edge]
quota = 0.75
disk_read = "50 MB/s"
[tiers.endpoint]
machines = 2
[network]
preset = "4g"
[[network.links]]
between = ["edge", "endpoint"]
delay = "7.5 ms"
rate = "7.21 Mbit/s"
[[network.links]]
from = "cloud"
to = "edge-1"
loss = "1 %"
[software]
manager = "kubeedge"
execution_model = "container"
observability = true
[software.kubernetes]
version = "1.34"
[benchmark]
application = "image_classification"
workers = "edge"
frequency = "5 Hz"
duration = "2 min"
""")
    experiment = loaded.experiment
    assert list(experiment.tiers) == ["cloud", "edge", "endpoint"]
    assert experiment.tiers["cloud"].memory == 2**31
    assert experiment.tiers["edge"].disk_read == 50_000_000
    assert experiment.network is not None
    first, second = experiment.network.links
    assert first.directions == (("edge", "endpoint"), ("endpoint", "edge"))
    assert (first.delay, first.jitter, first.rate) == (7.5, None, 7.21)
    assert second.directions == (("cloud", "edge-1"),)
    assert experiment.software is not None
    assert experiment.software.kubernetes.version == "1.34"
    assert experiment.benchmark is not None
    assert experiment.benchmark.duration == 120.0
    assert loaded.not_runnable == ()


def test_only_the_table_of_the_chosen_plugin_is_taken() -> None:
    loaded = read(f"""\
{SMALL}
[infrastructure]
provider = "fake"
[infrastructure.fake]
links_off_by = 3
[infrastructure.libvirt]
whatever = true
[benchmark]
application = "image_classification"
[benchmark.image_classification]
threads = 2
""")
    assert loaded.experiment.infrastructure.settings == {"links_off_by": 3}
    assert loaded.experiment.benchmark is not None
    assert loaded.experiment.benchmark.settings == {"threads": 2}
    assert loaded.notes == ('[infrastructure.libvirt] is not used: the provider is "fake"',)
    assert loaded.origins["benchmark.image_classification.threads"] == "small.toml:17"


def test_a_wrong_name_is_told_where_it_stands() -> None:
    text = 'name = "x"\n[tiers.edge]\nmachines = 1\n[tiers."²"]\nmachines = 1\n'
    (found,) = problems(text)
    assert found.startswith('4: tiers: "²" cannot be a name')


def test_a_relative_path_of_a_plugin_is_relative_to_the_file(tmp_path: Path) -> None:
    text = f"""\
{SMALL}
[benchmark]
application = "command"
[benchmark.command]
endpoint = "true"
files = "mine"
"""
    experiment = load_text(text, tmp_path / "x.toml").experiment
    assert experiment.benchmark is not None
    assert experiment.benchmark.settings["files"] == str(tmp_path / "mine")


# -- problems ------------------------------------------------------------------------------------


def test_all_problems_come_at_once_with_their_lines_and_the_nearest_names() -> None:
    assert problems("""\
nam = "edge-offload"
name = "Edge"
memory = "2 GiB"
[infrastructure]
provider = "lxd"
adress_block = "x"
delete = "yes"
[infrastructure.libvirt]
x = 1
[infrastructure.lcx]
[tiers.Cloud]
[tiers.cloud]
machines = 1000000
cores = 0
memory = "2 gib"
quota = 7
[tiers.edge]
machines = 2.0
disk_read = "5 B/s"
[network]
preset = "5G"
links = [
  {between = ["edge", "fog"], delay = 5},
  {from = "edge", delay = "5 ms"},
  {from = "edge", to = "edge", rate = "0 Mbit/s"},
  7,
  {between = ["edge"]},
]
[software]
services = ["mqtt", "mqt"]
observability = 1
kubernetes = { version = 1.34 }
[benchmark]
duration = "1e999 s"
answer_timeout = "60"
repetitions = 99999999999999999999999999
worker_cpu = nan
settings = {}
""") == [
        '1: nam: unknown key (did you mean "name"?)',
        (
            '2: name: "Edge" is not a name: lower-case letters, digits and dashes, a letter first, '
            "at most 31 characters in all"
        ),
        "3: memory: unknown key (it belongs in [tiers.NAME])",
        '5: infrastructure.provider: unknown provider "lxd" (did you mean "lxc"?)',
        '6: infrastructure.adress_block: unknown key (did you mean "address_block"?)',
        '7: infrastructure.delete: must be true or false, not "yes"',
        '10: infrastructure.lcx: unknown table (did you mean "lxc"?)',
        (
            '11: tiers: "Cloud" cannot be a name; lower-case letters, digits and dashes, a letter '
            "first, at most 31 characters in all"
        ),
        "13: tiers.cloud.machines: must be at most 4000, not 1000000",
        "14: tiers.cloud.cores: must be at least 1, not 0",
        '15: tiers.cloud.memory: "2 gib": unknown unit; did you mean "GiB"?',
        "16: tiers.cloud.quota: must be at most 1, not 7",
        "18: tiers.edge.machines: must be a whole number, not the number 2.0",
        "19: tiers.edge.disk_read: must be at least 1 kB/s, not 5 B/s",
        '21: network.preset: "5G" is not one of 4g, 5g, wired (did you mean "5g"?)',
        '23: network.links.0.delay: needs a unit, in quotes, as in "45 ms"',
        '24: network.links.1: a link needs `between = ["a", "b"]`, or `from` and `to`',
        "25: network.links.2.rate: must be at least 0.008 Mbit/s, not 0 Mbit/s",
        "26: network.links.3: must be a table, not the number 7",
        "27: network.links.4.between.1: is missing",
        '30: software.services.1: unknown service "mqt" (did you mean "mqtt"?)',
        "31: software.observability: must be true or false, not the number 1",
        "32: software.kubernetes.version: must be a text in quotes, not the number 1.34",
        "33: benchmark.application: is missing",
        '34: benchmark.duration: "1e999 s" is out of range',
        '35: benchmark.answer_timeout: "60" needs a unit (us, µs, ms, s, min, h)',
        "36: benchmark.repetitions: must be at most 1000, not 99999999999999999999999999",
        "37: benchmark.worker_cpu: must be at most 1024, not nan",
        "38: benchmark.settings: unknown table (a plug-in's table is called like the application)",
    ]


def test_rules_over_several_fields_come_with_the_rest() -> None:
    assert problems(f"""\
{SMALL}
quota = 0
[network]
links = [
  7,
  {{ between = ["edge", "fog"] }},
  {{ between = ["edge", "endpoint"], delay = 7, jitter = "1 ms" }},
  {{ between = ["edge", "endpoint-5"], delay = "1 ms", jitter = "2 ms" }},
]
[benchmark]
application = "command"
workers = "cloud"
frequency = "0 Hz"
[benchmark.command]
worker = "true"
""") == [
        "8: tiers.endpoint.quota: must be at least 0.1, not 0",
        "11: network.links.0: must be a table, not the number 7",
        '12: network.links.1: link to an unknown tier or machine "fog"; tiers: edge, endpoint',
        '13: network.links.2.delay: needs a unit, in quotes, as in "45 ms"',
        "14: network.links.3.jitter: jitter 2 ms is larger than the delay 1 ms",
        (
            "14: network.links.3: link to an unknown tier or machine "
            '"endpoint-5"; tiers: edge, endpoint'
        ),
        '18: benchmark.workers: no tier "cloud" for the workers; tiers: edge, endpoint',
        "19: benchmark.frequency: must be more than 0 Hz, not 0 Hz",
        "20: benchmark.command.endpoint: is missing",
    ]


def test_a_rule_does_not_speak_of_what_is_wrong_already() -> None:
    assert problems(f"""\
{SMALL.replace("4", "many")}
""") == ["6: not valid TOML: Invalid value"]
    assert problems(f"""\
{SMALL.replace("4", '"many"')}
[network]
links = [{{ between = ["edge", "endpoint-3"] }}]
""") == ['6: tiers.endpoint.machines: must be a whole number, not "many"']


def test_settings_of_plugins_are_checked_by_the_plugins() -> None:
    assert problems(f"""\
{SMALL}
[infrastructure]
provider = "fake"
fake.los = 1
fake.delay = "x"
[benchmark]
application = "image_classification"
image_classification = {{ threads = 0 }}
""") == [
        '10: infrastructure.fake.los: unknown key (did you mean "loss"?)',
        '11: infrastructure.fake.delay: "x" is not a number with a unit, as in "60 s"',
        "14: benchmark.image_classification.threads: must be at least 1, not 0",
    ]


def test_a_plugins_table_must_be_a_table() -> None:
    assert problems(f"{SMALL}\n[infrastructure]\nlxc = 3\n") == [
        "9: infrastructure.lxc: must be a table, as [infrastructure.lxc]"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tiers = 3", "1: tiers: must be a table, not the number 3"),
        ("tiers = []", "1: tiers: must be a table, not a list"),
        ("[tiers]", "1: tiers: at least one tier needs a machine"),
        ("[tiers.edge]\nmachines = 0", "1: tiers: at least one tier needs a machine"),
        ("tiers.edge = 1", "1: tiers.edge: must be a table, not the number 1"),
        ("tiers.all.machines = 1", '1: tiers.all: a tier cannot be called "all"'),
        ("software = 1979-05-27\ntiers.a.machines = 1", "1: software: must be a table, not date"),
        (
            "tiers.a.machines = 1\ntiers.a-1.machines = 1",
            '2: tiers.a-1: tier "a-1" is called like a machine of tier "a"',
        ),
        (
            "tiers.a.machines = 3000\ntiers.b.machines = 3000",
            "1: tiers: 6000 machines; at most 4000 in all",
        ),
        (
            '[tiers.a]\nname = "x"',
            "2: tiers.a.name: unknown key (it belongs at the top of the file or in [[hosts]])",
        ),
        ("a = ", "1: not valid TOML: Invalid value"),
        ("\na = 1\na = 2\n", "3: not valid TOML: Cannot overwrite a value"),
        ('a = "', "1: not valid TOML: Unterminated string"),
        ("a = " + "[" * 5000, "1: tables or lists are nested too deeply"),
        ("\na = [\n" + "[" * 2000 + "]" * 2001, "3: tables or lists are nested too deeply"),
        ("\na = " + "[" * 20 + "]" * 20, "2: tables or lists are nested too deeply"),
        ("\na = " + "{ a = " * 490 + "1" + "}" * 490, "2: tables or lists are nested too deeply"),
        ("a = " + "9" * 5000, "1: holds a number with too many digits"),
        (
            f"# {'9' * 5000}\na = '{'9' * 5000}'\n{'9' * 5000} = 1\nb = [1,\n -{'9' * 5000}]",
            "5: holds a number with too many digits",
        ),
        ("\n" + "a." * 200 + "a = 1", "2: more than 100 dots in one line"),
        ('tiers.a.machines = 1\n"\\u001b[31m" = 1', "2: ?[31m: unknown key"),
    ],
)
def test_refuses(text: str, expected: str) -> None:
    (found,) = problems(text)
    assert expected in found


def test_missing_tables_are_blamed_on_the_file() -> None:
    assert problems("[network]\n") == ["small.toml: tiers: is missing"]


def test_a_million_machines_in_a_million_tables_are_refused_in_time() -> None:
    many = "".join(f"[tiers.t{number}]\nmachines = 1000\n" for number in range(20_000))
    assert problems(many) == ["1: tiers: 20000000 machines; at most 4000 in all"]


def test_a_queue_needs_a_rate() -> None:
    links = """
[network]
links = [
  { between = ["edge", "endpoint"], delay = "5 ms", queue = "10 ms" },
  { between = ["edge", "endpoint"], rate = "1 Mbit/s" },
  { between = ["edge", "endpoint"], queue = "64 kB" },
]
"""
    (found,) = problems(SMALL + links)
    assert found.endswith(
        "network.links.0.queue: a link without a rate has no queue: give it a rate too"
    )
