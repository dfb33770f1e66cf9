"""The page's drawings as SVG files of their own, for papers and slides: `plots/NAME.svg`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from continuum import folders

PLOTS_FOLDER = "plots"


def write_plots(folder: Path, drawings: Mapping[str, str], style: str) -> None:
    """Write every drawing that is not empty, in the light colours of the page's style sheet.

    Drawings of an earlier report that are no longer made are removed.
    """
    for name, drawing in drawings.items():
        path = folder / PLOTS_FOLDER / f"{name}.svg"
        if drawing:
            folders.write_file(path, standalone(drawing, style).encode("utf-8", "replace"))
        else:
            path.unlink(missing_ok=True)


def standalone(drawing: str, style: str) -> str:
    """An SVG element as a file: without variables, which few programs but browsers know."""
    text = str(drawing)  # markup would escape what is joined to it
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]+);", style[: style.index("}")]))
    rules = "\n".join(re.findall(r"^\.drawing .*$", style, flags=re.MULTILINE))
    head = (
        '<svg font-family="sans-serif" '
        + ("" if "xmlns=" in text else 'xmlns="http://www.w3.org/2000/svg" ')
        + text.removeprefix("<svg ").partition(">")[0]
        + f"><style>{rules}</style>"
    )
    whole = head + text.partition(">")[2]
    return re.sub(r"var\(--([\w-]+)\)", lambda match: colours[match[1]], whole).strip() + "\n"
