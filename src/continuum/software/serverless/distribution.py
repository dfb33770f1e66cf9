"""What an experiment's cluster gets of OpenFaaS: images, roles, and how to know that it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from continuum.errors import ContinuumError, NotPossibleHere
from continuum.experiment.model import Serverless
from continuum.images.recipe import ContainerImages
from continuum.machine import Command
from continuum.software.configure import ROLES
from continuum.software.contract import RolePlay
from continuum.software.managers.kubernetes.kubeadm import ADMIN
from continuum.software.serverless import builtin, community, names, objects

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.images.containers import ContainerImage
    from continuum.images.recipe import InstallStep
    from continuum.machine import Machine

# Asks for the password too: an API that anybody may use is not what was installed.
_PROBE = """\
import sys, urllib.error, urllib.request
address = "http://" + sys.argv[1]
try:
    with urllib.request.urlopen(address + "/healthz", timeout=2) as answer:
        healthy = answer.status == 200
    try:
        urllib.request.urlopen(address + "/system/functions", timeout=2)
    except urllib.error.HTTPError as error:
        sys.exit(not (healthy and error.code == 401))
except OSError:
    pass
sys.exit(1)
"""
_PROBE_LIMIT = 10.0


def of(experiment: Experiment) -> Serverless | None:
    """The distribution that an experiment takes; None when nothing runs as a function.

    Raises:
        NotPossibleHere: it is one whose licence was not accepted.
    """
    software = experiment.software
    if software is None or software.execution_model != "function":
        return None
    found = software.serverless or Serverless()
    if found.distribution == "community" and not found.accept_licence:
        raise NotPossibleHere(
            f"the licence of OpenFaaS was not accepted: {community.TERMS}",
            where="software.serverless.accept_licence",
            hint="accept it by software.serverless.accept_licence = true, or take ours, which "
            'answers the same API: software.serverless.distribution = "builtin"',
        )
    return found


def notes(experiment: Experiment) -> tuple[str, ...]:
    """A sentence about what is installed, for whoever brings it up."""
    found = of(experiment)
    if found is None:
        return ()
    if found.distribution == "community":
        return (f"{community.TERMS}; accepted in the experiment",)
    return ('functions by the distribution "builtin": OpenFaaS\' API, not OpenFaaS',)


def install(experiment: Experiment) -> tuple[InstallStep, ...]:
    """Its container images, in every machine's image.

    Raises:
        NotPossibleHere: its licence was not accepted.
    """
    found = of(experiment)
    return () if found is None else (ContainerImages(_images(found)),)


def versions(experiment: Experiment) -> Mapping[str, str]:
    """Of what answers the API."""
    found = of(experiment)
    if found is None:
        return {}
    if found.distribution == "community":
        return {"openfaas": community.VERSION}
    return {builtin.PROGRAM: builtin.version()}


def plays(experiment: Experiment) -> tuple[RolePlay, ...]:
    """The role on the control machine; none when nothing runs as a function."""
    found = of(experiment)
    if found is None:
        return ()
    control = experiment.control_machine
    assert control is not None
    return (
        RolePlay(
            "serverless",
            (control,),
            ROLES,
            variables={
                "serverless_admin": ADMIN,
                "serverless_manifests": _list(_manifests(found)),
                "serverless_namespace": names.NAMESPACE,
                "serverless_namespaces": _list(objects.namespaces()),
                "serverless_password_key": names.PASSWORD_KEY,
                "serverless_secret": names.SECRET,
                "serverless_user": names.USER,
                "serverless_user_key": names.USER_KEY,
            },
        ),
    )


def missing(experiment: Experiment, machines: Mapping[str, Machine]) -> list[str]:
    """Whether the gateway answers on the control machine's address."""
    if of(experiment) is None:
        return []
    control = experiment.control_machine
    assert control is not None
    machine = machines[control]
    address = f"{machine.address}:{names.NODE_PORT}"
    what = f"OpenFaaS' gateway on {control}"
    asking = Command(("/usr/bin/python3", "-c", _PROBE, address), timeout=_PROBE_LIMIT)
    try:
        answers = machine.run(asking).exit_code == 0
    except ContinuumError as error:
        return [f"{what}: {error.message}"]
    return [] if answers else [what]


def _images(serverless: Serverless) -> tuple[ContainerImage, ...]:
    return community.images() if serverless.distribution == "community" else builtin.images()


def _manifests(serverless: Serverless) -> list[dict[str, Any]]:
    return community.manifests() if serverless.distribution == "community" else builtin.manifests()


def _list(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": items}
