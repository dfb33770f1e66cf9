"""A neural network that names what a photo shows: an ONNX file, and its labels.

The model takes one RGB image of 224 × 224 as bytes (1, 224, 224, 3) and gives the probability of
each label (1, labels); scaling of the colours is part of the model.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

MODEL_FILE = "model.onnx"
LABELS_FILE = "labels.json"
PHOTO_FOLDER = "photos"
SIDE = 224

_LARGEST_PHOTO = 50_000_000
"""Pixels; what is larger is refused before it is decoded."""


class CannotClassify(ValueError):
    """The bytes are not a photo that can be decoded."""


class Classifier:
    """The model in memory. `threads` compute one photo, `passes` times; photos come one after the
    other.
    """

    def __init__(self, folder: Path, threads: int, passes: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that wait must not use the machine's share of the processor.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            folder / MODEL_FILE, options, providers=["CPUExecutionProvider"]
        )
        self._passes = passes
        self._input = self._session.get_inputs()[0].name
        self.labels: tuple[str, ...] = tuple(json.loads((folder / LABELS_FILE).read_bytes()))

    def classify(self, photo: bytes | memoryview) -> tuple[int, float]:
        """Index of the most probable label, and its probability.

        Raises:
            CannotClassify: the photo cannot be decoded.
        """
        probabilities = self.probabilities(photo)
        best = int(probabilities.argmax())
        return best, float(probabilities[best])

    def probabilities(
        self, photo: bytes | memoryview
    ) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """Probability of each label.

        Raises:
            CannotClassify: the photo cannot be decoded.
        """
        pixels = decode(photo)[np.newaxis]
        # As slower hardware would take longer for the same answer.
        for _ in range(self._passes - 1):
            self._session.run(None, {self._input: pixels})
        found: np.ndarray[tuple[int], np.dtype[np.float32]] = self._session.run(
            None, {self._input: pixels}
        )[0][0]
        return found

    def warm(self) -> None:
        """Compute once, so that the first request finds everything in memory."""
        black = np.zeros((1, SIDE, SIDE, 3), dtype=np.uint8)
        self._session.run(None, {self._input: black})


def decode(photo: bytes | memoryview) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """The largest centred square of a photo, scaled to 224 × 224, as RGB bytes.

    Raises:
        CannotClassify: the photo cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(photo), formats=("JPEG",)) as image:
            width, height = image.size
            if width * height > _LARGEST_PHOTO:
                raise CannotClassify(f"a photo of {width} × {height} pixels is too large")
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            square = image.convert("RGB").resize(
                (SIDE, SIDE),
                Image.Resampling.BICUBIC,
                box=(left, top, left + side, top + side),
            )
            return np.asarray(square)
    except (OSError, SyntaxError, Image.DecompressionBombError, ValueError) as error:
        raise CannotClassify(f"not a photo that can be decoded: {error}") from error
