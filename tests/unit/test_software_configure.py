"""The software phase's configure step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from continuum import plugins
from continuum.errors import NotPossibleHere, UsageError
from continuum.experiment.model import Benchmark, Experiment, Software, Tier
from continuum.images.recipe import DebianPackages, InstallStep, Recipe
from continuum.infrastructure.plan import InfrastructurePlan
from continuum.software.configure import (
    ROLES,
    SoftwarePlan,
    configure,
    install_steps,
    service_machines,
)
from continuum.software.contract import ResourceManager, RolePlay
from continuum.testing.software import small_experiment, small_plan

GOLDEN = Path(__file__).parent.parent / "golden" / "software"


def experiment(
    *,
    software: Software | None = None,
    benchmark: Benchmark | None = None,
    tiers: dict[str, Tier] | None = None,
) -> Experiment:
    return Experiment(
        name="test",
        tiers=tiers or {"cloud": Tier(), "edge": Tier(machines=2), "endpoint": Tier()},
        software=software,
        benchmark=benchmark,
    )


def planned(what: Experiment, **services: tuple[str, ...]) -> SoftwarePlan:
    return configure(what, small_plan(what), services)


class Picky(ResourceManager):
    """A manager that refuses large experiments and carries one execution model."""

    name = "picky"

    def skip(self, experiment: Experiment) -> str | None:
        return "too many machines" if experiment.machine_count > 3 else None

    def install(self, experiment: Experiment) -> tuple[InstallStep, ...]:
        del experiment
        return (DebianPackages(("picky",)),)

    def configure(self, experiment: Experiment, plan: InfrastructurePlan) -> tuple[RolePlay, ...]:
        del experiment, plan
        return ()


@pytest.fixture
def picky(monkeypatch: pytest.MonkeyPatch) -> None:
    load: Callable[[str, str], Any] = plugins.load
    monkeypatch.setattr(
        plugins, "load", lambda kind, name: Picky if name == "picky" else load(kind, name)
    )


def test_an_experiment_without_software_and_benchmark_gets_none() -> None:
    plan = planned(experiment())
    assert plan == SoftwarePlan()
    assert install_steps(experiment()) == ()


def test_software_without_services_writes_no_files() -> None:
    plan = planned(experiment(software=Software()))
    assert plan.files == {}
    assert plan.machines == ()


def test_named_services_run_on_worker_machines_and_needed_ones_where_needed() -> None:
    named = experiment(software=Software(services=("mqtt",)))
    assert planned(named).services == {"mqtt": ("edge-1", "edge-2")}
    assert planned(named, mqtt=("cloud-1", "edge-2")).services == {
        "mqtt": ("edge-1", "edge-2", "cloud-1")
    }
    needed = experiment(benchmark=Benchmark(application="command"))
    assert planned(needed, mqtt=("edge-1",)).services == {"mqtt": ("edge-1",)}
    assert planned(needed).services == {}


@pytest.mark.parametrize(
    ("tiers", "machines"),
    [
        ({"cloud": 1, "edge": 1, "endpoint": 1}, ("edge-1",)),
        ({"cloud": 2, "edge": 0, "endpoint": 1}, ("cloud-1", "cloud-2")),
        ({"field": 0, "hall": 1}, ("hall-1",)),
        ({"field": 0}, ()),
    ],
)
def test_services_without_a_benchmark_go_where_workers_would(
    tiers: dict[str, int], machines: tuple[str, ...]
) -> None:
    sized = {name: Tier(machines=count) for name, count in tiers.items()}
    assert service_machines(experiment(software=Software(), tiers=sized)) == machines


def test_a_manager_says_why_it_cannot(picky: None) -> None:
    del picky
    with pytest.raises(NotPossibleHere, match='manager "picky": too many machines'):
        planned(experiment(software=Software(manager="picky")))


def test_an_execution_model_must_fit_the_manager(picky: None) -> None:
    del picky
    fits = experiment(software=Software(manager="picky"), tiers={"edge": Tier()})
    assert install_steps(fits) == (DebianPackages(("picky",)),)
    other = experiment(
        software=Software(manager="picky", execution_model="container"), tiers={"edge": Tier()}
    )
    with pytest.raises(NotPossibleHere, match='"container" does not work with') as caught:
        install_steps(other)
    assert caught.value.hint == "it carries: process"


def test_names_that_are_foreseen_or_unknown_are_refused() -> None:
    with pytest.raises(NotPossibleHere, match="kube_kata"):
        planned(experiment(software=Software(manager="kube_kata")))
    with pytest.raises(UsageError, match="did you mean"):
        planned(experiment(software=Software(services=("mqt",))))


def test_install_steps_hold_what_services_need() -> None:
    benchmark = experiment(benchmark=Benchmark(application="command"))
    assert install_steps(benchmark) == ()
    recipe = Recipe.collect(install_steps(benchmark, ("mqtt",)))
    assert recipe.packages == ("mosquitto",)
    assert recipe.units.enabled == ("mosquitto.service",)
    named = experiment(software=Software(services=("mqtt",)))
    assert Recipe.collect(install_steps(named)) == recipe


def test_the_fingerprint_follows_all_that_reaches_a_machine() -> None:
    base = planned(small_experiment(Software(services=("mqtt",))))
    assert base.fingerprint == planned(small_experiment(Software(services=("mqtt",)))).fingerprint
    other = {**base.files, "roles/mqtt/tasks/main.yml": "[]"}
    assert SoftwarePlan(base.plays, base.services, other).fingerprint != base.fingerprint


def test_files_do_not_say_where_continuum_lies() -> None:
    base = planned(small_experiment(Software(services=("mqtt",))))
    assert str(ROLES.parent) not in json.dumps(dict(base.files))


def test_files_are_those_in_the_golden_folder() -> None:
    what = small_experiment(Software(services=("mqtt",)))
    files = planned(what, mqtt=("cloud-1",)).files
    roles = {f"roles/{path.relative_to(ROLES)}": path for path in ROLES.glob("mqtt/**/*.*")}
    golden = {path.name: path for path in GOLDEN.iterdir()}
    assert set(files) == {*golden, *roles}
    for name, path in {**golden, **roles}.items():
        assert files[name] == path.read_text(), name
