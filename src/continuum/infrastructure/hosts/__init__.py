"""Other hosts that carry machines: how they are reached, and what runs there."""

from pathlib import Path


def bootstrap_path() -> Path:
    """The program that begins on another host. It is no module to import: it runs as text."""
    return Path(__file__).with_name("bootstrap.py")
