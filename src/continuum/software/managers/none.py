"""No resource manager: workers run where the experiment puts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from continuum.software.contract import ResourceManager, RolePlay

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.images.recipe import InstallStep
    from continuum.infrastructure.plan import InfrastructurePlan


class NoManager(ResourceManager):
    """Nothing to install, nothing to configure."""

    name: ClassVar[str] = "none"

    def skip(self, experiment: Experiment) -> str | None:
        """Every experiment fits."""
        del experiment
        return None

    def install(self, experiment: Experiment) -> tuple[InstallStep, ...]:
        """Nothing."""
        del experiment
        return ()

    @property
    def execution_models(self) -> tuple[str, ...]:
        """Processes, and containers on plain machines."""
        return ("process", "container")

    def configure(self, experiment: Experiment, plan: InfrastructurePlan) -> tuple[RolePlay, ...]:
        """Nothing."""
        del experiment, plan
        return ()
