"""Plug-ins by kind and name.

The ones that ship with Continuum are listed here, so that finding them costs no look through all
installed packages. Others are found by the entry point groups `continuum.KIND`, as
`continuum.providers`: see `docs/`.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib import import_module, metadata
from typing import Any

from continuum.errors import NotPossibleHere, UsageError

_BUILT_IN: dict[str, dict[str, str]] = {
    "providers": {
        "lxc": "continuum.infrastructure.providers.lxc:Lxc",
        "libvirt": "continuum.infrastructure.providers.libvirt:Libvirt",
        "ssh": "continuum.infrastructure.providers.ssh:Ssh",
        "fake": "continuum.infrastructure.providers.fake:Fake",
    },
    "emulators": {
        "netem": "continuum.infrastructure.links.netem:Netem",
        "nfqueue": "continuum.infrastructure.links.nfqueue:Nfqueue",
    },
    "services": {
        "clock": "continuum.software.services.clock:Clock",
        "grafana": "continuum.software.services.grafana:Grafana",
        "mqtt": "continuum.software.services.mqtt:Mqtt",
        "observability": "continuum.software.services.observability:Observability",
        "registry": "continuum.software.services.registry:Registry",
    },
    "managers": {
        "none": "continuum.software.managers.none:NoManager",
        "kubernetes": "continuum.software.managers.kubernetes:Kubernetes",
        "kubeedge": "continuum.software.managers.kubeedge:KubeEdge",
    },
    "execution_models": {
        "process": "continuum.software.execution_models.process:Process",
        "container": "continuum.software.execution_models.container:Container",
        "function": "continuum.software.execution_models.function:Function",
    },
    "applications": {
        "command": "continuum.benchmark.applications.command:CommandApplication",
        "container": "continuum.benchmark.applications.container:ContainerApplication",
        "empty": "continuum.benchmark.applications.empty:Empty",
        "image_classification": (
            "continuum.benchmark.applications.image_classification:ImageClassification"
        ),
    },
}

_FORESEEN: dict[str, dict[str, str]] = {
    "providers": {
        "terraform": "machines of a cloud",
    },
    "managers": {
        "kubecontrol": "the benchmark of Kubernetes' control plane",
        "kube_kata": "Kata containers on Kubernetes",
    },
    "applications": {
        "empty_kata": "Kata containers that do nothing",
        "mem_usage": "memory use of Kata containers",
        "stress": "CPU use of Kata containers",
    },
}
"""Names that are valid in an experiment although nothing here carries them out."""


@cache
def _external(kind: str) -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=f"continuum.{kind}")}


def built_in(kind: str) -> tuple[str, ...]:
    """Names of the plug-ins that ship with Continuum."""
    return tuple(_BUILT_IN[kind])


def names(kind: str) -> tuple[str, ...]:
    """Names that can be used, ours first."""
    return (*_BUILT_IN[kind], *(name for name in _external(kind) if name not in _BUILT_IN[kind]))


def foreseen(kind: str, name: str) -> str | None:
    """What a name stands for that is valid but cannot be run; None for every other name."""
    return _FORESEEN.get(kind, {}).get(name)


def problem_with(kind: str, name: str) -> str | None:
    """Why a name cannot stand in an experiment, with the nearest right one; None when it can."""
    if name in _BUILT_IN[kind] or foreseen(kind, name) or name in _external(kind):
        return None
    known = [*names(kind), *_FORESEEN.get(kind, {})]
    singular = kind.removesuffix("s").replace("_", " ")
    near = difflib.get_close_matches(name, known, n=1)
    advice = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(known)}"
    return f'unknown {singular} "{name[:40]}"; {advice}'


def load(kind: str, name: str) -> Any:  # noqa: ANN401  a class of any kind
    """The class of a plug-in.

    Raises:
        NotPossibleHere: the name is valid, but not carried out by this version, or its package
            is broken.
        UsageError: there is no such plug-in.
    """
    target = _BUILT_IN[kind].get(name)
    if target is not None:
        module, _, attribute = target.partition(":")
        return getattr(import_module(module), attribute)
    point = _external(kind).get(name)
    if point is not None:
        try:
            return point.load()
        except (ImportError, AttributeError, SyntaxError) as error:
            raise NotPossibleHere(
                f'the plug-in "{name}" cannot be loaded: {error}',
                where=f"continuum.{kind}: {point.value}",
                hint="mend the package that brings it, or remove it",
            ) from error
    meaning = foreseen(kind, name)
    if meaning is not None:
        raise NotPossibleHere(
            f'not runnable here: {kind.removesuffix("s").replace("_", " ")} "{name}" '
            f"({meaning}) is not part of this version",
            hint=f"available: {', '.join(names(kind))}",
        )
    raise UsageError(problem_with(kind, name) or name)
