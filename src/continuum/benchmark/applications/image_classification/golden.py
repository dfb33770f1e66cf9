"""Writes `golden.json`: what the model says of each photo, where there is no doubt.

    python -m continuum.benchmark.applications.image_classification.golden

Needs `onnxruntime`. To be run when the model, the photos or their preparation change; the file's
difference is then read by a person. A test makes the photos anew and compares.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from continuum.benchmark.applications.image_classification import build
from continuum_runtime.classifier import Classifier

MARGIN = 0.1
"""Photos whose two most probable labels are closer than this are left out."""


def table(folder: Path) -> dict[str, str]:
    """The labels of the photos that `build.write` put under `folder`, by their file names."""
    classifier = Classifier(folder, threads=1)
    found = {}
    for path in sorted((folder / "photos").iterdir()):
        probabilities = classifier.probabilities(path.read_bytes())
        second, first = np.argsort(probabilities)[-2:]
        if probabilities[first] - probabilities[second] >= MARGIN:
            found[path.name] = classifier.labels[first]
    return found


def main() -> None:
    """Build everything anew and write the table."""
    with tempfile.TemporaryDirectory() as root:
        build.write(Path(root), lambda text: print(text, file=sys.stderr))  # noqa: T201  a script
        found = table(Path(root) / build.FOLDER.lstrip("/"))
    path = Path(__file__).with_name("golden.json")
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
