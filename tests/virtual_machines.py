"""Tests that boot virtual machines for many minutes where the host has no KVM."""

from __future__ import annotations

import os

import pytest

_ASKED_BY = "CONTINUUM_TEST_VIRTUAL_MACHINES"


def only_where_asked(why: str, always: str) -> pytest.MarkDecorator:
    """Skipped unless asked for: `why` it takes long, and which test file runs `always`."""
    return pytest.mark.skipif(
        _ASKED_BY not in os.environ,
        reason=f"{why} where the host has no KVM; {_ASKED_BY}=1 runs it, {always} runs always",
    )
