"""How the host reaches the machines of a deployment by SSH: keys, files, master connections."""

from __future__ import annotations

from continuum import folders, state_file
from continuum.deployment import Deployment
from continuum.infrastructure.host import keys, ssh_config, ssh_master
from continuum.infrastructure.plan import InfrastructurePlan


def write(deployment: Deployment, plan: InfrastructurePlan) -> None:
    """Keys, known hosts and configuration for SSH; what is there and right stays."""
    folder = deployment.folder / "ssh"
    machines = (*plan.machines, *plan.elsewhere)
    keys.ensure(folder / "key")
    public = {spec.name: keys.ensure(folder / "host_keys" / spec.name).public for spec in machines}
    texts = {
        "ssh/known_hosts": ssh_config.known_hosts(machines, public),
        "ssh_config": ssh_config.ssh_config(
            machines, folder, plan.identity, elsewhere=bool(plan.elsewhere)
        ),
    }
    for path, text in texts.items():
        if state_file.read_text(deployment.folder / path) != text:
            deployment.write(path, text)
    control = ssh_config.control_folder(plan.identity)
    folders.make_open_folder(control.parent)
    control.mkdir(mode=folders.PRIVATE_FOLDER, exist_ok=True)
    folders.give_to_caller(control)


def close(deployment: Deployment) -> None:
    """End the master connections of SSH, which live on for a minute after their last use."""
    folder = ssh_config.control_folder(deployment.identity)
    if folder.is_dir():
        ssh_master.close_all(folder)
