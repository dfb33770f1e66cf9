"""The 60 photos: crops of ten, flipped or not, as JPEG files of about 68 kB on average.

All that is drawn comes from a fixed seed. The bytes may differ a little where another version of
the JPEG encoder is used; the model's answers do not hang on that.
"""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

COUNT = 60
MEAN_BYTES = 72_000
"""Of the sizes that the photos may reach; what they reach averages the original's 68 kB."""

_SEED = 20
_WIDTH = 640
_SHARES = (0.78, 1.0)
_SIZES = (0.55, 1.45)
_QUALITIES = (30, 96)


@dataclass(frozen=True)
class Source:
    """A photo that ships in a Python package: the package's name, and the file in its wheel."""

    name: str
    package: str
    file: str


SOURCES = (
    Source("astronaut", "scikit-image", "skimage/data/astronaut.png"),
    Source("camera", "scikit-image", "skimage/data/camera.png"),
    Source("chelsea", "scikit-image", "skimage/data/chelsea.png"),
    Source("china", "scikit-learn", "sklearn/datasets/images/china.jpg"),
    Source("coffee", "scikit-image", "skimage/data/coffee.png"),
    Source("flower", "scikit-learn", "sklearn/datasets/images/flower.jpg"),
    Source("grace-hopper", "matplotlib", "matplotlib/mpl-data/sample_data/grace_hopper.jpg"),
    Source("motorcycle-left", "scikit-image", "skimage/data/motorcycle_left.png"),
    Source("motorcycle-right", "scikit-image", "skimage/data/motorcycle_right.png"),
    Source("rocket", "scikit-image", "skimage/data/rocket.jpg"),
)


def make(
    originals: Mapping[str, bytes], progress: Callable[[str], None]
) -> Iterator[tuple[str, bytes]]:
    """(file name, JPEG) of each photo; `originals` are the sources' files by their names."""
    source = random.Random(_SEED)
    low, high = _SIZES
    limits = [MEAN_BYTES * (low + (high - low) * index / (COUNT - 1)) for index in range(COUNT)]
    source.shuffle(limits)
    for name in (each.name for each in SOURCES):
        progress(f"photos of {name}")
        with Image.open(io.BytesIO(originals[name])) as opened:
            original = opened.convert("RGB")
        for number in range(1, COUNT // len(SOURCES) + 1):
            yield f"{name}-{number}.jpg", _encoded(_cropped(original, source), limits.pop())


def _cropped(original: Image.Image, source: random.Random) -> Image.Image:
    share = source.uniform(*_SHARES)
    width, height = round(original.width * share), round(original.height * share)
    left = source.randint(0, original.width - width)
    top = source.randint(0, original.height - height)
    crop = original.resize(
        (_WIDTH, round(_WIDTH * height / width)),
        Image.Resampling.BICUBIC,
        box=(left, top, left + width, top + height),
    )
    return ImageOps.mirror(crop) if source.random() < 0.5 else crop


def _encoded(photo: Image.Image, limit: float) -> bytes:
    """JPEG in the best quality that takes at most `limit` bytes."""
    lowest, highest = _QUALITIES
    best = _jpeg(photo, lowest)
    while highest - lowest > 1:
        middle = (lowest + highest) // 2
        tried = _jpeg(photo, middle)
        if len(tried) <= limit:
            lowest, best = middle, tried
        else:
            highest = middle
    return best


def _jpeg(photo: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=quality)
    return file.getvalue()
