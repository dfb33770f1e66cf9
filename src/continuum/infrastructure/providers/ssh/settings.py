"""Settings of the provider `ssh`: which machines there are, and how SSH reaches them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from continuum.experiment.model import Experiment
from continuum.infrastructure.providers.contract import PluginSettings

_TARGET = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9_.-]*)"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


class SshSettings(PluginSettings):
    """Machines that exist already. SSH reaches them as it does for you, by your own settings of it
    and with your keys.
    """

    machines: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description='For each tier its machines, as `"user@host:port"`; user and port may be left '
        "out, and the host may be a name of your `~/.ssh/config`.",
    )
    key: Path | None = Field(
        default=None, description="Private key; absent: those that your own SSH would take."
    )
    accept_new_host_keys: bool = Field(
        default=False,
        description="Trust the key of a host that your SSH has never seen, until `down`.",
    )

    @field_validator("machines")
    @classmethod
    def _each_once(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        seen: set[str] = set()
        for target in (target for targets in value.values() for target in targets):
            if parts(target) is None:
                msg = f'"{target[:60]}" is no machine, as "user@host:22"'
                raise ValueError(msg)
            if target in seen:
                msg = f'"{target}" is there twice'
                raise ValueError(msg)
            seen.add(target)
        return value

    @classmethod
    def fill_in(cls, settings: dict[str, Any], values: dict[str, Any]) -> None:
        """A tier has as many machines as are listed for it."""
        lists, tiers = settings.get("machines"), values.get("tiers")
        if not isinstance(lists, dict) or not isinstance(tiers, dict):
            return
        for name, targets in lists.items():
            if isinstance(tiers.get(name), dict) and isinstance(targets, list):
                tiers[name].setdefault("machines", len(targets))

    def problems(self, experiment: Experiment) -> list[tuple[tuple[str | int, ...], str]]:
        """Tiers and lists that do not fit. No list at all is no problem before machines are needed:
        files of Continuum 1.x have none.
        """
        if not self.machines:
            return []
        found: list[tuple[tuple[str | int, ...], str]] = []
        for name, targets in self.machines.items():
            tier = experiment.tiers.get(name)
            if tier is None:
                found.append(
                    (("machines", name), f"no such tier; tiers: {', '.join(experiment.tiers)}")
                )
            elif tier.machines != len(targets):
                found.append(
                    (
                        ("machines", name),
                        f"{_count(len(targets))} listed, and the tier has {tier.machines}",
                    )
                )
        found += [
            (("machines",), f'no list for tier "{name}", which has {_count(tier.machines)}')
            for name, tier in experiment.tiers.items()
            if tier.machines and name not in self.machines
        ]
        return found


def _count(machines: int) -> str:
    return f"{machines} machine{'' if machines == 1 else 's'}"


def parts(target: str) -> tuple[str, str, str] | None:
    """User, host and port of `user@host:port`, "" for what is left out; None if it is none."""
    match = _TARGET.fullmatch(target)
    if match is None or int(match["port"] or 22) not in range(1, 65536):
        return None
    return match["user"] or "", match["host"], match["port"] or ""
