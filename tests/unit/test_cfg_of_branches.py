"""Files of Continuum 1.x's older versions and other branches: one test for each of their ways.

None is copied: these are small files of the same kinds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from continuum.errors import InvalidExperiment
from continuum.experiment.load import Loaded, load_text

OLDEST = """\
[infrastructure]
provider = qemu
infra_only = False
cloud_nodes = 2
edge_nodes = 0
endpoint_nodes = 1
cloud_cores = 4
edge_cores = 0
endpoint_cores = 1
cloud_quota = 1.0
edge_quota = 0.0
endpoint_quota = 0.33
cpu_pin = False
custom_scheduling = False
network_emulation = True
wireless_network_preset = 4g
netperf = False
[benchmark]
resource_manager = kubernetes
docker_pull = False
delete = True
application = image_classification
frequency = 5
"""
"""As the first versions had it: no memory, `delete` among the benchmark's options."""

PRESENT = """\
[infrastructure]
provider = qemu
cloud_nodes = 2
cloud_cores = 2
cloud_memory = 4
cloud_quota = 1.0
endpoint_nodes = 1
endpoint_cores = 1
endpoint_memory = 1
endpoint_quota = 0.5
[benchmark]
resource_manager = kubernetes
application = image_classification
frequency = 5
"""
ENDPOINTS = """\
[infrastructure]
provider = qemu
endpoint_nodes = 2
endpoint_cores = 2
endpoint_memory = 3
endpoint_quota = 0.5
[benchmark]
application = image_classification
frequency = 5
"""


def read(text: str, *settings: str, provider: str | None = None) -> Loaded:
    return load_text(text, Path("old.cfg"), settings=settings, provider=provider)


def problems(text: str, *settings: str, provider: str | None = None) -> list[str]:
    with pytest.raises(InvalidExperiment) as caught:
        read(text, *settings, provider=provider)
    return [str(each) for each in caught.value.problems]


def with_line(text: str, option: str, value: str, section: str = "infrastructure") -> str:
    lines = [line for line in text.splitlines() if not line.startswith(f"{option} =")]
    lines.insert(lines.index(f"[{section}]") + 1, f"{option} = {value}")
    return "\n".join(lines) + "\n"


def without(text: str, option: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith(option)) + "\n"


def memory(loaded: Loaded) -> dict[str, int]:
    return {name: tier.memory // 2**30 for name, tier in loaded.experiment.tiers.items()}


# -- what is read, with a note -------------------------------------------------------------------


def test_before_tiers_had_a_memory_it_was_a_gigabyte_for_each_core() -> None:
    loaded = read(OLDEST)
    assert memory(loaded) == {"cloud": 4, "endpoint": 1}
    assert loaded.experiment.benchmark is not None
    assert loaded.experiment.benchmark.worker_memory == 3.5 * 2**30
    note = "no tier has a memory: 1 GiB for each core, as in older files"
    assert f"{note} (cloud 4 GiB, endpoint 1 GiB)" in loaded.notes


@pytest.mark.parametrize("newer", ["endpoint_memory = 1", "cloud_read_speed = 0", "duration = 9"])
def test_a_file_that_is_not_older_must_say_the_memory(newer: str) -> None:
    section = "[benchmark]" if "duration" in newer else "[infrastructure]"
    text = OLDEST.replace(f"{section}\n", f"{section}\n{newer}\n", 1)
    assert any("cloud_memory is missing: cloud_nodes is 2" in each for each in problems(text))


def test_cores_beside_the_file_count_for_its_memory() -> None:
    assert memory(read(OLDEST, "tiers.cloud.cores=6"))["cloud"] == 6
    assert memory(read(OLDEST, "tiers.cloud.memory=2 GiB")) == {"cloud": 2, "endpoint": 1}


def test_an_option_that_stands_in_another_section_is_read_there() -> None:
    loaded = read(OLDEST)
    assert loaded.experiment.infrastructure.delete
    assert "delete: read as in [infrastructure], where it belongs" in loaded.notes
    moved = read(with_line(without(PRESENT, "frequency"), "frequency", "7"))
    assert moved.experiment.benchmark is not None
    assert moved.experiment.benchmark.frequency == 7.0
    assert "frequency: read as in [benchmark], where it belongs" in moved.notes


def test_an_option_that_stands_in_its_own_section_too_is_refused_elsewhere() -> None:
    text = with_line(OLDEST, "cpu_pin", "False") + "cpu_pin = True\n"
    assert problems(text) == [
        'old.cfg:24: unknown option "cpu_pin" in [benchmark] (it belongs in [infrastructure])'
    ]


def test_endpoints_alone_need_no_manager() -> None:
    loaded = read(ENDPOINTS, provider="lxc")
    assert loaded.experiment.software is not None
    assert loaded.experiment.software.manager == "none"
    assert loaded.experiment.software.execution_model == "process"
    assert "resource_manager is not set: none, for endpoints alone" in loaded.notes


@pytest.mark.parametrize(
    ("option", "section", "written", "new"),
    [
        ("model", "execution_model", "openFaas", "openfaas"),
        ("resource_manager", "benchmark", "Kubernetes", "kubernetes"),
        ("provider", "infrastructure", "QEMU", "qemu"),
    ],
)
def test_words_of_older_files_are_read_as_those_of_today(
    option: str, section: str, written: str, new: str
) -> None:
    text = with_line(PRESENT + "[execution_model]\n", option, written, section)
    if option != "model":
        text = text.replace("[execution_model]\n", "")
    loaded = read(text)
    assert f'{option}: "{written}" is read as {new}' in loaded.notes
    assert loaded.experiment == read(text.replace(written, new)).experiment


def test_kubernetes_control_is_kubecontrol() -> None:
    text = without(without(PRESENT, "frequency"), "endpoint").replace(
        "image_classification", "empty"
    )
    text = with_line(text, "resource_manager", "kubernetes-control", "benchmark")
    loaded = read(text + "sleep_time = 60\n")
    assert 'resource_manager: "kubernetes-control" is read as kubecontrol' in loaded.notes
    assert "kubecontrol: measured on an unmodified Kubernetes" in loaded.notes


def test_terraform_is_the_cloud_whose_options_stand_there() -> None:
    text = with_line(with_line(PRESENT, "provider", "terraform"), "gcp_cloud", '"e2-medium"')
    loaded = read(text)
    assert 'provider: "terraform" is read as gcp' in loaded.notes
    assert loaded.experiment.infrastructure.settings == {"platform": "gcp", "cloud": "e2-medium"}
    assert any("gcp_project has no value" in each for each in loaded.not_runnable)
    assert read(text, provider="lxc").not_runnable == ()
    amazon = with_line(with_line(PRESENT, "provider", "terraform"), "aws_cloud", "t2.xlarge")
    assert read(amazon).experiment.infrastructure.settings["platform"] == "aws"


@pytest.mark.parametrize(("more", "which"), [("", "no cloud"), ("aws_ami", "both clouds")])
def test_terraform_without_one_cloud_is_refused(more: str, which: str) -> None:
    text = with_line(PRESENT, "provider", "terraform")
    if more:
        text = with_line(with_line(text, "gcp_zone", "a"), more, "b")
    (found,) = problems(text)
    assert f'provider: "terraform" with options of {which}: write gcp or aws' in found
    assert read(text, provider="lxc").not_runnable == ()


def test_vendors_options_are_known_by_their_older_names() -> None:
    text = with_line(with_line(PRESENT, "provider", "aws"), "aws_key", "mine")
    loaded = read(with_line(text, "aws_ami", "ami-1"))
    assert "aws_key: not used; machines get a key of their own" in loaded.notes
    assert loaded.experiment.infrastructure.settings == {"platform": "aws", "ami": "ami-1"}


@pytest.mark.parametrize("option", ["cloud_location", "edge_location"])
def test_locations_go_with_traces_and_mean_nothing_beside_a_preset(option: str) -> None:
    loaded = read(with_line(PRESENT, option, "eu_central_1"))
    assert loaded.experiment == read(PRESENT).experiment
    assert any(note.startswith(f"{option}: not used; it goes with") for note in loaded.notes)


def test_a_scheduler_of_its_own_is_valid_but_not_runnable() -> None:
    loaded = read(with_line(PRESENT, "custom_scheduling", "True"), provider="lxc")
    assert loaded.not_runnable == (
        "custom_scheduling (a scheduler of its own) is not part of this version",
    )
    assert read(OLDEST, provider="lxc").not_runnable == ()


def test_a_comment_behind_a_quoted_text_ends_with_the_quotes() -> None:
    text = with_line(with_line(PRESENT, "provider", "gcp"), "gcp_cloud", '"e2-medium"  # 2 4 0.5')
    loaded = read(text)
    assert loaded.experiment.infrastructure.settings["cloud"] == "e2-medium"
    assert "gcp_cloud: the comment behind the quotes is not a part of it" in loaded.notes


# -- what does not count is not judged -----------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("wireless_network_preset", "4g_trace", "without network_emulation"),
        ("cloud_latency_avg", "-3", "without network_emulation"),
        ("edge_endpoint_throughput", "fast", "without network_emulation"),
        ("edge_cores", "two", "without edge machines"),
        ("edge_quota", "7", "without edge machines"),
    ],
)
def test_values_that_do_not_count_are_noted(option: str, value: str, why: str) -> None:
    loaded = read(with_line(PRESENT, option, value))
    assert loaded.experiment == read(PRESENT).experiment
    (note,) = [each for each in loaded.notes if each.startswith(f"{option}: ")]
    assert note.endswith(f"not used {why}")


def test_values_of_another_application_that_do_not_count_are_noted() -> None:
    loaded = read(with_line(PRESENT, "sleep_time", "long", "benchmark"))
    assert (
        'sleep_time: must be a whole number, not "long"; not used with image_classification'
        in loaded.notes
    )


def test_a_preset_counts_with_emulation() -> None:
    text = with_line(PRESENT, "network_emulation", "True")
    (found,) = problems(with_line(text, "wireless_network_preset", "4g_us_x_mahimahi"))
    assert "it belongs to another branch of Continuum 1.x" in found
    mended = read(with_line(text, "wireless_network_preset", "x_mahimahi"), "network.preset=5g")
    assert mended.experiment.network is not None
    assert mended.experiment.network.preset == "5g"


# -- what is given beside the file mends it ------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "setting"),
    [
        ("provider", "hetzner", "infrastructure.provider=lxc"),
        ("provider", None, "infrastructure.provider=lxc"),
        ("cloud_memory", None, "tiers.cloud.memory=4 GiB"),
        ("cloud_memory", "lots", "tiers.cloud.memory=4 GiB"),
        ("cloud_cores", "0", "tiers.cloud.cores=2"),
        ("endpoint_quota", None, "tiers.endpoint.quota=0.5"),
        ("cloud_nodes", "two", "tiers.cloud.machines=2"),
        ("cloud_nodes", "1", "tiers.cloud.machines=2"),
        ("middleIP", "90", "infrastructure.address_block=10.3.0.0"),
        ("prefixIP", "8.8", "infrastructure.address_block=10.3.0.0"),
        ("external_physical_machines", "me", "hosts.0.ssh=me@there"),
    ],
)
def test_a_setting_takes_the_place_of_a_fault(option: str, value: str | None, setting: str) -> None:
    broken = without(PRESENT, option) if value is None else with_line(PRESENT, option, value)
    assert problems(broken)
    loaded = read(broken, setting)
    assert not [tier for tier in loaded.experiment.tiers.values() if tier.machines == 0]


@pytest.mark.parametrize(
    ("option", "value", "setting"),
    [
        ("application", "minecraft", "benchmark.application=image_classification"),
        ("application", None, "benchmark.application=image_classification"),
        ("resource_manager", "swarm", "software.manager=kubernetes"),
        ("resource_manager", "kubecontrol", "software.manager=kubernetes"),
        ("resource_manager", None, "software.manager=kubernetes"),
        ("frequency", None, "benchmark.frequency=5 Hz"),
        ("frequency", "often", "benchmark.frequency=5 Hz"),
        ("duration", "0", "benchmark.duration=9 s"),
        ("application_worker_cpu", "all", "benchmark.worker_cpu=1.5"),
        ("observability", "telegraf", "software.observability=false"),
        ("kube_version", "v1.99.0", "software.kubernetes.version=1.34"),
    ],
)
def test_a_setting_takes_the_place_of_a_benchmarks_fault(
    option: str, value: str | None, setting: str
) -> None:
    lacking = without(PRESENT, f"{option} =")
    broken = lacking if value is None else with_line(lacking, option, value, "benchmark")
    assert problems(broken)
    loaded = read(broken, setting)
    assert loaded.experiment.software is not None
    assert loaded.experiment.software.execution_model == "container"
    assert loaded.experiment.benchmark is not None
    assert loaded.experiment.benchmark.workers == "cloud"
    assert loaded.experiment.benchmark.worker_cpu == 1.5


def test_the_provider_beside_the_file_wins_over_any_in_it() -> None:
    broken = with_line(PRESENT, "provider", "hetzner")
    assert read(broken, provider="fake").experiment.infrastructure.provider == "fake"


@pytest.mark.parametrize(
    ("settings", "workers"),
    [
        (["tiers.edge.machines=0", "tiers.cloud.machines=2"], "cloud"),
        (["software.manager=kubeedge"], "edge"),
    ],
)
def test_settings_make_a_manager_fit_its_machines(settings: list[str], workers: str) -> None:
    edge = "edge_nodes = 1\nedge_cores = 2\nedge_memory = 3\nedge_quota = 1.0\n"
    text = PRESENT.replace("[benchmark]", f"{edge}[benchmark]").replace(
        "cloud_nodes = 2", "cloud_nodes = 1"
    )
    (found,) = problems(text)
    assert "kubernetes needs at least one cloud machine and no edge machine" in found
    loaded = read(text, *settings)
    assert loaded.experiment.benchmark is not None
    assert loaded.experiment.benchmark.workers == workers


def test_a_setting_brings_a_tier_with_what_the_file_says_of_it() -> None:
    text = with_line(with_line(PRESENT, "edge_memory", "3"), "edge_cores", "4")
    loaded = read(text, "tiers.edge.machines=1")
    assert memory(loaded) == {"cloud": 4, "edge": 3, "endpoint": 1}
    assert loaded.experiment.tiers["edge"].cores == 4


def test_a_setting_mends_no_fault_of_another_key() -> None:
    broken = with_line(with_line(PRESENT, "cloud_memory", "lots"), "cpu_pin", "maybe")
    assert problems(broken, "tiers.cloud.memory=4 GiB") == [
        'old.cfg:2: cpu_pin: must be True or False, not "maybe"'
    ]


@pytest.mark.parametrize(
    "setting", ["tiers=3", "tiers.cloud=5", "benchmark=1", "software=x", "infrastructure=[]"]
)
def test_a_setting_of_the_wrong_shape_is_told_as_such(setting: str) -> None:
    found = problems(PRESENT, setting)
    assert any(each.startswith("--set: ") and "must be a table" in each for each in found)


# -- what is refused, and how --------------------------------------------------------------------


def test_comments_behind_values_are_told_once_as_the_cause() -> None:
    lines = [
        f"{line}   # Options: many" if "=" in line and number % 2 else line
        for number, line in enumerate(PRESENT.splitlines())
    ]
    (found,) = problems("\n".join(lines))
    assert found == (
        "old.cfg:2: comments behind values are a part of them, here and in 6 more lines "
        "(4, 6, 8, 10, 12, …): put comments on lines of their own"
    )


@pytest.mark.parametrize("value", ["2 # two", "2 ; two", "2# two", "# none", "; none", "2\t#"])
def test_a_comment_behind_one_value_is_told_with_its_line(value: str) -> None:
    cause = "a comment behind a value is a part of it: put it on a line of its own"
    found = problems(with_line(PRESENT, "cloud_nodes", value))
    assert found == [f"old.cfg:2: cloud_nodes: {cause}"]


def test_a_file_of_something_else_is_told_so() -> None:
    assert problems("[defaults]\nbecome = True\n[ssh_connection]\nretries = 5\n") == [
        "old.cfg: section [infrastructure] is missing",
        "old.cfg:1: unknown section [defaults]",
        "old.cfg:3: unknown section [ssh_connection]",
    ]


@pytest.mark.parametrize("application", ["minecraft", "opencraft", "text_translation"])
def test_applications_of_other_branches_are_refused_as_such(application: str) -> None:
    (found,) = problems(with_line(PRESENT, "application", application, "benchmark"))
    assert found.startswith(f'old.cfg:12: application: "{application}" is not one of')
    assert found.endswith(
        "it belongs to another branch of Continuum 1.x, and this version has none"
    )


@pytest.mark.parametrize("option", ["steps_bot", "app_pre_install", "node_client"])
def test_options_of_other_branches_are_refused_by_name(option: str) -> None:
    (found,) = problems(with_line(PRESENT, option, "3", "benchmark"))
    assert found == f'old.cfg:12: unknown option "{option}" in [benchmark]'


@pytest.mark.parametrize("option", ["edge_place", "aws_kind", "endpoint_disk", "cloud_lag_avg"])
def test_no_option_is_proposed_that_shares_only_its_tier(option: str) -> None:
    (found,) = problems(with_line(PRESENT, option, "3"))
    assert "did you mean" not in found


@pytest.mark.parametrize(
    ("option", "right"), [("edge_latncy_avg", "edge_latency_avg"), ("cloud_node", "cloud_nodes")]
)
def test_a_slip_of_the_pen_is_still_told(option: str, right: str) -> None:
    (found,) = problems(with_line(PRESENT, option, "3"))
    assert f'did you mean "{right}"?' in found
