"""What the software phase asks of the provider that makes the machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuum import plugins

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.infrastructure.providers.contract import Capabilities


def of_provider(experiment: Experiment) -> Capabilities:
    """The capabilities of the experiment's provider."""
    found: Capabilities = plugins.load("providers", experiment.infrastructure.provider).capabilities
    return found


def may_be_slow(experiment: Experiment) -> bool:
    """Whether machines may be much slower than this host: emulated ones, or small computers."""
    return of_provider(experiment).own_kernels
