"""Whether machines need more time than this host's own speed suggests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuum import plugins

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.infrastructure.providers.contract import Capabilities


def may_be_slow(experiment: Experiment) -> bool:
    """Whether machines may be much slower than this host: emulated ones, or small computers."""
    provider = experiment.infrastructure.provider
    capabilities: Capabilities = plugins.load("providers", provider).capabilities
    return capabilities.own_kernels
