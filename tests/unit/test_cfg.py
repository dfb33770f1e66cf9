"""Files of Continuum 1.x: what they mean, every rule, all problems at once."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from continuum.errors import InvalidExperiment
from continuum.experiment import cfg
from continuum.experiment.load import Loaded, load_text
from continuum.experiment.write import to_toml

EDGE = """\
[infrastructure]
provider = qemu

cloud_nodes = 1
cloud_cores = 2
cloud_memory = 4
cloud_quota = 1.0

edge_nodes = 2
edge_cores = 4
edge_memory = 8
edge_quota = 0.5

endpoint_nodes = 4
endpoint_cores = 1
endpoint_memory = 1
endpoint_quota = 0.25

[benchmark]
resource_manager = kubeedge
application = image_classification
frequency = 3
"""
"""Three tiers; tests replace lines of it."""


def without(text: str, *beginnings: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(beginnings))


def changed(text: str, **options: object) -> str:
    """The text with options changed, or added to their section."""
    for name, value in options.items():
        new = f"{name} = {value}"
        kept = without(text, f"{name} =")
        section = next(key for key, known in cfg.SECTIONS.items() if name in known)
        if f"[{section}]" not in kept:
            kept += f"[{section}]\n"
        text = kept.replace(f"[{section}]\n", f"[{section}]\n{new}\n")
    return text


MIST = without(changed(EDGE, resource_manager="mist"), "cloud")
ENDPOINT = without(changed(EDGE, resource_manager="none"), "cloud", "edge")
KUBERNETES = without(changed(EDGE, resource_manager="kubernetes", cloud_nodes=3), "edge")
CONTROL = changed(
    without(KUBERNETES, "endpoint", "frequency"),
    resource_manager="kubecontrol",
    application="empty",
    sleep_time=60,
)


def read(text: str, provider: str | None = None) -> Loaded:
    return load_text(text, Path("old.cfg"), provider=provider)


def problems(text: str) -> list[str]:
    with pytest.raises(InvalidExperiment) as caught:
        read(text)
    return [
        str(each).removeprefix("old.cfg:" if each.line else "") for each in caught.value.problems
    ]


# -- what files mean -----------------------------------------------------------------------------


def test_everything_that_is_written_arrives() -> None:
    text = changed(
        EDGE,
        edge_read_speed=50,
        edge_write_speed=0,
        cpu_pin=True,
        network_emulation="yes",
        wireless_network_preset="5g",
        cloud_edge_throughput=900,
        edge_endpoint_latency_avg=12.5,
        edge_endpoint_latency_var=-1,
        netperf=True,
        prefixIP="10.20",
        middleIP=30,
        middleIP_base=31,
        delete=True,
        applications_per_worker=2,
        application_worker_cpu=0.25,
        application_endpoint_memory=0.5,
        duration=60,
        observability=True,
        kube_version="v1.27.0",
    )
    loaded = read(text)
    assert tomllib.loads(to_toml(loaded.experiment)) == tomllib.loads("""
        name = "old"
        [infrastructure]
        provider = "libvirt"
        cpu_pin = true
        address_block = "10.20.30.0"
        delete = true
        [tiers.cloud]
        machines = 1
        cores = 2
        memory = "4 GiB"
        [tiers.edge]
        machines = 2
        cores = 4
        quota = 0.5
        memory = "8 GiB"
        disk_read = "50 MB/s"
        [tiers.endpoint]
        machines = 4
        cores = 1
        quota = 0.25
        memory = "1 GiB"
        [network]
        preset = "5g"
        all_pairs = true
        queue = "1514 kB"
        links = [
          { between = ["cloud", "edge"], rate = "900 Mbit/s" },
          { between = ["edge", "endpoint"], delay = "12.5 ms" },
        ]
        [software]
        manager = "kubeedge"
        execution_model = "container"
        observability = true
        [software.kubernetes]
        version = "1.27.0"
        [benchmark]
        application = "image_classification"
        workers = "edge"
        workers_per_machine = 2
        worker_cpu = 0.25
        worker_memory = "7.5 GiB"
        endpoint_cpu = 1.0
        endpoint_memory = "512 MiB"
        frequency = "3 Hz"
        warmup = "0 s"
        duration = "60 s"
    """)
    assert loaded.notes == (
        "middleIP_base: not used; images are built without machines of their own",
    )
    picked = {
        "tiers.edge.machines": "old.cfg:28",
        "benchmark.worker_cpu": "old.cfg:7",
        "benchmark.worker_memory": "default of Continuum 1.x",
        "network.links.0.rate": "old.cfg:20",
        "network.links.0.delay": "preset 5g",
        "software.runtime": "default",
    }
    assert {key: loaded.origins[key].split(":")[0] for key in picked} == {
        key: origin.split(":")[0] for key, origin in picked.items()
    }
    line = int(loaded.origins["network.links.0.rate"].split(":")[1])
    assert text.splitlines()[line - 1] == "cloud_edge_throughput = 900"


def test_mist_is_processes_on_edge_machines() -> None:
    loaded = read(MIST, provider="lxc")
    experiment = loaded.experiment
    assert experiment.software is not None
    assert (experiment.software.manager, experiment.software.execution_model) == ("none", "process")
    assert experiment.worker_machines == ("edge-1", "edge-2")
    assert loaded.not_runnable == loaded.notes == ()
    assert read(MIST).not_runnable == ()
    assert read(MIST).experiment.infrastructure.provider == "libvirt"


@pytest.mark.parametrize("manager", ["none", "endpoint", "baremetal"])
def test_without_a_manager_endpoints_are_their_own_workers(manager: str) -> None:
    loaded = read(changed(ENDPOINT, resource_manager=manager), provider="lxc")
    benchmark = loaded.experiment.benchmark
    assert benchmark is not None
    assert benchmark.workers == benchmark.endpoints == "endpoint"
    assert (benchmark.worker_cpu, benchmark.endpoint_cpu) == (None, 1.0)
    assert benchmark.duration == 300.0
    assert loaded.not_runnable == ()


def test_without_a_manager_one_cloud_machine_carries_the_worker() -> None:
    text = without(changed(EDGE, provider="baremetal", resource_manager="none"), "edge")
    loaded = read(text)
    assert loaded.experiment.infrastructure.provider == "ssh"
    assert loaded.experiment.worker_machines == ("cloud-1",)
    assert loaded.experiment.benchmark is not None
    assert loaded.experiment.benchmark.worker_cpu == 1.5


def test_kubernetes_keeps_its_first_machine() -> None:
    loaded = read(KUBERNETES)
    assert loaded.experiment.worker_machines == ("cloud-2", "cloud-3")
    assert loaded.notes == ("kube_version is not set: the default version of Kubernetes is taken",)


def test_openfaas_is_the_execution_model_function() -> None:
    loaded = read(changed(KUBERNETES, model="openfaas"))
    software = loaded.experiment.software
    assert software is not None
    assert software.execution_model == "function"
    assert software.serverless is not None
    assert not software.serverless.accept_licence
    assert any("licence" in note for note in loaded.notes)


def test_kubecontrol_measures_an_unmodified_kubernetes() -> None:
    loaded = read(changed(CONTROL, kube_deployment="file", docker_pull=True, cache_worker=True))
    software, benchmark = loaded.experiment.software, loaded.experiment.benchmark
    assert software is not None
    assert benchmark is not None
    assert (software.manager, benchmark.application) == ("kubernetes", "empty")
    assert benchmark.endpoints == ""
    assert benchmark.settings == {"sleep_time": "60 s", "deployment": "file"}
    assert [note.partition(":")[0] for note in loaded.notes] == [
        "kube_version is not set",
        "kubecontrol",
        "docker_pull",
        "cache_worker",
    ]


def test_kata_is_valid_but_not_runnable() -> None:
    text = changed(
        CONTROL,
        resource_manager="kube_kata",
        runtime="kata-qemu",
        runtime_filesystem="overlayfs",
        application="empty_kata",
    )
    loaded = read(text, provider="lxc")
    assert loaded.not_runnable == (
        'manager "kube_kata" (Kata containers on Kubernetes) is not part of this version',
        'application "empty_kata" (Kata containers that do nothing) is not part of this version',
        "runtime kata-qemu (Kata containers) is not part of this version",
    )
    firecracker = without(changed(text, runtime="kata-fc"), "runtime_filesystem")
    assert "runtime_filesystem is not set: kata-fc has devmapper only" in read(firecracker).notes


def test_machines_of_a_cloud_are_valid_but_not_runnable() -> None:
    text = changed(
        ENDPOINT, provider="gcp", gcp_endpoint='"e2-medium"', gcp_project="", aws_region="x"
    )
    loaded = read(text)
    assert loaded.experiment.infrastructure.settings == {"platform": "gcp", "endpoint": "e2-medium"}
    assert loaded.not_runnable == (
        'provider "terraform" (machines of a cloud) is not part of this version',
        "gcp_project has no value",
    )
    assert loaded.notes == ("aws_region: not used with provider gcp",)
    assert read(text, provider="lxc").not_runnable == ()


def test_secrets_of_a_cloud_are_not_kept() -> None:
    text = changed(ENDPOINT, provider="aws", aws_ami="a", aws_access_keys="AKI", aws_zone='""')
    loaded = read(text)
    assert loaded.experiment.infrastructure.settings == {"platform": "aws", "ami": "a"}
    assert loaded.notes == ("aws_access_keys, aws_secret_access_keys: not kept",)


def test_infra_only_leaves_the_other_sections_alone() -> None:
    loaded = read(changed(EDGE, infra_only=True, frequency="often", model="lambda"))
    assert loaded.experiment.software is None
    assert loaded.experiment.benchmark is None
    assert loaded.experiment.machine_count == 7


def test_software_only_ignores_an_application() -> None:
    text = changed(KUBERNETES, resource_manager_only=True, model="openfaas")
    loaded = read(text)
    assert loaded.experiment.software is not None
    assert loaded.experiment.benchmark is None
    assert "application: ignored, resource_manager_only is set" in loaded.notes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (changed(MIST, kube_version="v1.27.0"), ["kube_version: not used with mist"]),
        (changed(ENDPOINT, runtime="runc"), ["runtime: not used with none"]),
        (
            changed(EDGE, kube_version="v1.27.0", runtime_filesystem="overlayfs"),
            ["runtime_filesystem: not used with kubeedge"],
        ),
        (
            changed(CONTROL, application_endpoint_cpu=1, application_endpoint_memory=1),
            [
                "application_endpoint_cpu: not used without endpoints",
                "application_endpoint_memory: not used without endpoints",
            ],
        ),
        (
            changed(MIST, sleep_time=9, stress_app_timeout=9, kube_deployment="pod"),
            [
                "sleep_time: not used with image_classification",
                "stress_app_timeout: not used with image_classification",
                "kube_deployment: not used with image_classification",
            ],
        ),
        (changed(CONTROL, stress_app_timeout=9), ["stress_app_timeout: not used with empty"]),
        (
            changed(CONTROL, application="stress", stress_app_timeout=9),
            ["sleep_time: not used with stress"],
        ),
        (
            changed(
                without(MIST, "application"),
                resource_manager_only=True,
                applications_per_worker=2,
                application_worker_cpu=1,
                application_endpoint_cpu=1,
                duration=9,
                sleep_time=9,
                stress_app_timeout=9,
                kube_deployment="pod",
            ),
            [
                f"{name}: not used with resource_manager_only"
                for name in (
                    "application_worker_cpu",
                    "application_endpoint_cpu",
                    "applications_per_worker",
                    "frequency",
                    "duration",
                    "sleep_time",
                    "stress_app_timeout",
                    "kube_deployment",
                )
            ],
        ),
    ],
)
def test_what_means_nothing_beside_other_options_is_noted(text: str, expected: list[str]) -> None:
    notes = read(text).notes
    assert [note for note in notes if ": not used with" in note] == expected


def test_an_option_of_another_application_does_not_become_one_of_this() -> None:
    benchmark = read(changed(CONTROL, stress_app_timeout=9)).experiment.benchmark
    assert benchmark is not None
    assert benchmark.settings == {"sleep_time": "60 s", "deployment": "pod"}


def test_machines_alone_may_be_of_any_kind() -> None:
    text = without(
        changed(EDGE, resource_manager="none", resource_manager_only=True), "application"
    )
    assert read(text, provider="lxc").not_runnable == ()


def test_options_of_a_network_that_is_not_emulated_are_ignored() -> None:
    loaded = read(changed(EDGE, cloud_latency_avg=5, wireless_network_preset="5g", netperf=True))
    assert loaded.experiment.network is None
    assert "netperf: without network_emulation there are no links to measure" in loaded.notes


def test_links_of_tiers_without_machines_are_left_out() -> None:
    loaded = read(changed(ENDPOINT, network_emulation=True, cloud_endpoint_latency_avg=5))
    assert loaded.experiment.network is not None
    assert loaded.experiment.network.links == ()
    assert loaded.notes == ("cloud_endpoint_latency_avg: not used, a tier has no machines",)


def test_empty_values_count_as_absent_and_names_in_any_case() -> None:
    text = changed(EDGE, base_path="", duration="", prefixIP="").replace("frequency", "FreQuency")
    loaded = read(text)
    assert loaded.experiment.infrastructure.address_block is None
    assert loaded.experiment.benchmark is not None
    assert loaded.experiment.benchmark.duration == 300.0


def test_zeros_of_tiers_without_machines_do_not_matter() -> None:
    text = changed(ENDPOINT, cloud_nodes=0, cloud_cores=0, cloud_memory=0, cloud_quota=0)
    assert list(read(text).experiment.tiers) == ["endpoint"]


def test_the_section_of_defaults_counts_for_all() -> None:
    text = without(EDGE, "frequency") + "[DEFAULT]\nfrequency = 9\n"
    loaded = read(text)
    assert loaded.experiment.benchmark is not None
    assert loaded.experiment.benchmark.frequency == 9.0


def test_more_hosts_are_kept() -> None:
    loaded = read(changed(EDGE, external_physical_machines="me@one, me@two"))
    assert [host.ssh for host in loaded.experiment.hosts] == ["me@one", "me@two"]
    assert loaded.experiment.host_names == ("host-1", "host-2")


# -- problems ------------------------------------------------------------------------------------


def test_all_problems_come_at_once_with_their_lines() -> None:
    assert problems("""\
[infrastructure]
provider = quemu
cloud_nodes = -1
cloud_cores = two
edge_node = 1
endpoint_nodes = 1
endpoint_quota = 1.5
endpoint_cores = 0
endpoint_read_speed = 1.5
cpu_pin = maybe
network_emulation = True
wireless_network_preset = 3g
cloud_latency_avg = -2
cloud_throughput = 0.5
external_physical_machines = me, you@there
prefixIP = 192
middleIP = 90
resource_manager = kubernetes
cpu_pin = True
this is no option

[benchmrk]
[benchmark]
resource_manager = kubernets
application = image_clasification
frequency = 0
kube_version = v1.99.0
application_worker_cpu = inf
[execution_model]
model = lambda
""") == [
        '2: provider: "quemu" is not one of qemu, gcp, aws, baremetal; did you mean "qemu"?',
        "3: cloud_nodes: must be at least 0, not -1",
        '4: cloud_cores: must be a whole number, not "two"',
        '5: unknown option "edge_node" in [infrastructure] (did you mean "edge_nodes"?)',
        "6: endpoint_memory is missing: endpoint_nodes is 1",
        "7: endpoint_quota: must be 0 to 1, not 1.5",
        "8: endpoint_cores: must be at least 1, not 0",
        '9: endpoint_read_speed: must be a whole number, not "1.5"',
        '10: cpu_pin: must be True or False, not "maybe"',
        '12: wireless_network_preset: "3g" is not one of 4g, 5g',
        "13: cloud_latency_avg: must be at least 0, not -2",
        "14: cloud_throughput: must be at least 1, not 0.5",
        '15: external_physical_machines: "me" is not of the form user@host',
        '16: prefixIP: must be two numbers of 1 to 254, as 192.168, not "192"',
        "17: middleIP and middleIP_base must differ",
        '18: unknown option "resource_manager" in [infrastructure] (it belongs in [benchmark])',
        "19: cpu_pin stands here again, after line 10",
        '20: "this is no option" is neither a section nor OPTION = VALUE',
        '22: unknown section [benchmrk] (did you mean "benchmark"?)',
        (
            '24: resource_manager: "kubernets" is not one of kubernetes, kubeedge, mist, none, '
            'kubecontrol, kube_kata, baremetal, endpoint; did you mean "kubernetes"?'
        ),
        (
            '25: application: "image_clasification" is not one of image_classification, empty, '
            'empty_kata, mem_usage, stress; did you mean "image_classification"?'
        ),
        "26: frequency: must be at least 1, not 0",
        (
            '27: kube_version: "v1.99.0" is not one of v1.23.0, v1.24.0, v1.25.0, v1.26.0, v1.27.0'
            '; did you mean "v1.27.0"?'
        ),
        '28: application_worker_cpu: must be a number, not "inf"',
        '30: model: "lambda" is not one of openfaas',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (without(EDGE, "provider"), "1: provider is missing: qemu, gcp, aws or baremetal"),
        (without(EDGE, "edge_memory"), "9: edge_memory is missing: edge_nodes is 2"),
        (changed(EDGE, edge_quota=0.05), "2: edge_quota: must be at least 0.1, not 0.05"),
        (without(EDGE, "resource"), "20: resource_manager is missing: one of kubernetes"),
        (without(EDGE, "application"), "20: application is missing: or set resource_manager_only"),
        (without(EDGE, "frequency"), "21: frequency is missing: image_classification needs it"),
        (EDGE.partition("[benchmark]")[0], "section [benchmark] is missing (or set infra_only"),
        (
            changed(KUBERNETES, cloud_nodes=0),
            ("kubernetes needs at least one cloud machine and no edge machine; "
            "this file has 0 cloud, 0 edge and 4 endpoint machines"),
        ),
        (
            changed(KUBERNETES, cloud_nodes=1),
            "kubernetes needs a second cloud machine for workers, beside the control plane",
        ),
        (changed(EDGE, resource_manager="kubernetes"), "kubernetes needs at least one cloud"),
        (changed(KUBERNETES, endpoint_nodes=3), "3 endpoints cannot be shared equally among 2"),
        (changed(EDGE, cloud_nodes=2), "kubeedge needs exactly one cloud machine"),
        (changed(EDGE, endpoint_nodes=5), "5 endpoints cannot be shared equally among 2 workers"),
        (changed(EDGE, resource_manager="mist"), "mist needs no cloud machine"),
        (changed(MIST, endpoint_nodes=3), "3 endpoints cannot be shared equally among 2 workers"),
        (changed(EDGE, resource_manager="none"), "none needs at most one cloud machine and no"),
        (changed(CONTROL, cloud_nodes=1), "kubecontrol needs at least two cloud machines"),
        (
            changed(KUBERNETES, resource_manager="kubecontrol"),
            "image_classification does not run with kubecontrol",
        ),
        (
            changed(KUBERNETES, endpoint_nodes=0),
            "image_classification needs at least one endpoint",
        ),
        (without(CONTROL, "sleep_time"), "sleep_time is missing: empty needs it"),
        (
            changed(CONTROL, application="stress"),
            "stress_app_timeout is missing: stress needs it",
        ),
        (
            changed(CONTROL, resource_manager="kube_kata", runtime_filesystem="overlayfs"),
            "runtime is missing: kube_kata needs kata-qemu or kata-fc",
        ),
        (
            changed(CONTROL, resource_manager="kube_kata", runtime="kata-qemu"),
            "runtime_filesystem is missing: kube_kata needs overlayfs or devmapper",
        ),
        (changed(EDGE, model="openfaas"), "openfaas needs resource_manager = kubernetes"),
        (changed(EDGE, prefixIP="8.8"), "8.8.100.0 is not in a private range"),
        (changed(EDGE, prefixIP="240.1"), "240.1.100.0 is not in a private range"),
        ("provider = qemu\n" + EDGE, "1: stands before the first section"),
        (EDGE + "[benchmark]\n", "23: section [benchmark] stands here again, after line 19"),
    ],
)  # fmt: skip
def test_refuses(text: str, expected: str) -> None:
    (found,) = problems(text)
    assert expected in found


def test_openfaas_runs_image_classification_only() -> None:
    text = changed(CONTROL, resource_manager="kubernetes", model="openfaas")
    assert "openfaas needs application = image_classification" in problems(text)[0]


def test_rules_come_with_wrong_values_but_do_not_speak_of_them() -> None:
    text = changed(EDGE, edge_nodes="two", cloud_nodes=2, frequency="often", middleIP=90)
    assert sorted(message.partition(": ")[2] for message in problems(text)) == [
        'edge_nodes: must be a whole number, not "two"',
        'frequency: must be a whole number, not "often"',
        "middleIP and middleIP_base must differ",
    ]


def test_an_override_can_make_a_file_fit() -> None:
    text = changed(MIST, provider="baremetal")
    loaded = load_text(text, Path("old.cfg"), settings=["benchmark.duration=9s"], provider="lxc")
    assert loaded.experiment.benchmark is not None
    assert loaded.experiment.benchmark.duration == 9.0
    assert loaded.not_runnable == ()
