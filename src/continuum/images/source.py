"""One entry of a host's package sources."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One entry of the package sources. `options` are apt's own, as (("signed-by", "…"),)."""

    address: str
    suite: str
    components: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()

    @property
    def signed_by(self) -> str:
        """Key ring of this entry; empty when apt's common key rings count."""
        return dict(self.options).get("signed-by", "")

    def line(self) -> str:
        """The entry in apt's one-line style."""
        options = " ".join(f"{key}={value}" for key, value in self.options)
        between = f" [{options}]" if options else ""
        return f"deb{between} {self.address} {self.suite} {' '.join(self.components)}".rstrip()
