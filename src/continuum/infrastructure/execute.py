"""Phase 1, execute: image, network, machines; and, as the last step of `up`, the links."""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuum import environment, state_file
from continuum.infrastructure import configure, proofs, time_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from continuum.deployment import Deployment
    from continuum.events import Events
    from continuum.images.recipe import Recipe
    from continuum.infrastructure.plan import InfrastructurePlan
    from continuum.infrastructure.providers.contract import Provider
    from continuum.machine import Machine

PHASE = "infrastructure"
PLAN_FILE = "plan/infrastructure.json"
FIRST_STEP = "machine image"
LAST_STEP = "links"


def stored_plan(deployment: Deployment) -> InfrastructurePlan | None:
    """The plan that was last carried out or begun; None when there is none that can be read.

    What a plan made is found by its labels too, so that a damaged one hinders nobody.
    """
    return state_file.kept(deployment.folder / PLAN_FILE, configure.PLAN)


def is_whole(deployment: Deployment) -> bool:
    """Whether the last `up` got to its end, as far as this phase goes."""
    for entry in reversed(deployment.journal.entries()):
        if (entry.phase, entry.step, entry.state) == (PHASE, LAST_STEP, "finished"):
            return True
        if (entry.phase, entry.step) == (PHASE, FIRST_STEP):
            return False
    return False


def execute(
    deployment: Deployment,
    plan: InfrastructurePlan,
    recipe: Recipe,
    provider: Provider,
    events: Events,
) -> list[Machine]:
    """Bring network and machines to what the plan says; returns handles of all machines."""
    journal = deployment.journal
    deployment.write(PLAN_FILE, configure.to_json(plan))
    with journal.step(
        events, PHASE, FIRST_STEP, waits_for="the image to be built", fingerprint=plan.image
    ):
        provider.build_image(recipe)
    with journal.step(
        events, PHASE, "network", waits_for="bridge and rules", fingerprint=plan.network.bridge
    ) as step:
        step.changed = provider.create_network(deployment, plan)
    if plan.network.host_time:
        with journal.step(
            events, PHASE, "time source", waits_for="this host to tell its time"
        ) as step:
            step.changed = time_source.ensure(deployment.identity, plan.network.host_address)
    else:
        time_source.stop(deployment.identity)
    with journal.step(
        events, PHASE, "machines", waits_for=f"SSH on {len(plan.machines)} machines"
    ) as step:
        changed = provider.create(deployment, plan, step.progress)
        step.changed = bool(changed)
    _prove_limits(deployment, plan, provider, events, changed)
    return provider.machines(deployment, plan)


def _prove_limits(
    deployment: Deployment,
    plan: InfrastructurePlan,
    provider: Provider,
    events: Events,
    changed: Sequence[str],
) -> None:
    """Measure the limits of machines that were made or started, and tell what is not as asked.

    Raises:
        NotPossibleHere: one does not hold.
    """
    kept = proofs.valid(plan, provider.capabilities, proofs.load(deployment), changed)
    todo = proofs.pending(plan, provider.capabilities, kept, changed)
    if not todo:
        return
    with deployment.journal.step(
        events, PHASE, "limits", waits_for=f"what {len(todo)} machines get"
    ) as step:
        machines = provider.machines(deployment, plan)
        results = proofs.prove(plan, machines, todo, provider.capabilities, step.progress)
        proofs.save(deployment, (*kept, *results))
        proofs.refuse(results)
    for each in results:
        if each.verdict != "holds":
            events.note(f"{each.verdict}: {each}", "info" if each.final else "warning")


def execute_links(
    deployment: Deployment, plan: InfrastructurePlan, provider: Provider, events: Events
) -> bool:
    """Put the plan's links in force on the machines' own interfaces; True when changed."""
    with deployment.journal.step(
        events, PHASE, LAST_STEP, waits_for=f"{len(plan.network.links)} directed links"
    ) as step:
        step.changed = provider.apply_links(deployment, plan)
    return step.changed


def past_proxies(plan: InfrastructurePlan, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep this host's proxies away from the plan's machines.

    Some programs know blocks in such a list, others whole addresses only: both are told.
    """
    machines = [spec.address for spec in plan.machines]
    # Where machines had their addresses before, what lies between them is not ours.
    blocks = [str(plan.network.block)] if plan.network.bridge else []
    return environment.past_proxies(variables, [*machines, *blocks])
