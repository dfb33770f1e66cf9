"""Base of all that `run.json` holds."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of all that `run.json` holds: frozen; keys that a later version added are passed over.

    Not-a-number and infinity are refused: JSON has none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
