from __future__ import annotations

import collections
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from continuum.benchmark.applications.image_classification.network import padding, read_weights
from continuum.errors import StepFailed

MAGIC = 0x1950A86A20F9469CFC6C


class Storage:
    """Pickles as PyTorch names the numbers of a tensor."""

    def __init__(self, key: str, count: int) -> None:
        self.identity = ("storage", Global("torch", "FloatStorage"), key, "cpu", count, None)


class Global:
    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Tensor:
    def __init__(self, storage: Storage, offset: int, shape: Any, strides: Any) -> None:
        self.parts: tuple[Any, ...] = (
            storage,
            offset,
            shape,
            strides,
            False,
            collections.OrderedDict(),
        )


Pickler: Any = pickle._Pickler  # only this one can be told how


class Writer(Pickler):  # type: ignore[misc]  # its base is Any
    def persistent_id(self, obj: Any) -> Any:
        return obj.identity if isinstance(obj, Storage) else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Global):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Tensor):
            self.save(Global("torch._utils", "_rebuild_tensor_v2"))
            self.save(obj.parts)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


def file_of(tensors: dict[str, Any], numbers: dict[str, list[float]], magic: int = MAGIC) -> bytes:
    import io

    file = io.BytesIO()
    system = {"little_endian": True}
    for part in (magic, 1001, system, collections.OrderedDict(tensors), list(numbers)):
        Writer(file, 2).dump(part)
    for values in numbers.values():
        file.write(struct.pack(f"<q{len(values)}f", len(values), *values))
    return file.getvalue()


def test_tensors_are_read_with_their_strides() -> None:
    storage = Storage("7", 7)
    content = file_of(
        {
            "rows": Tensor(storage, 1, (2, 3), (3, 1)),
            "columns": Tensor(storage, 1, (2, 3), (1, 2)),
            "number": Tensor(storage, 0, (), ()),
        },
        {"7": [0, 1, 2, 3, 4, 5, 6]},
    )
    weights = read_weights(content)
    assert weights["rows"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert weights["columns"].tolist() == [[1, 3, 5], [2, 4, 6]]
    assert weights["number"].tolist() == 0
    assert weights["columns"].dtype == np.float32


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (8,), (1,)),
        (5, (3,), (1,)),
        (0, (5,), (2,)),
        (0, (2,), (7,)),
        (6, (2,), (-1,)),
        (-1, (1,), (1,)),
    ],
)
def test_a_tensor_beyond_its_numbers_is_refused(offset: int, shape: Any, strides: Any) -> None:
    content = file_of({"a": Tensor(Storage("0", 7), offset, shape, strides)}, {"0": [0.0] * 7})
    with pytest.raises(StepFailed, match="beyond its numbers"):
        read_weights(content)


class Harm:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_a_file_that_would_run_something_is_refused(tmp_path: Path) -> None:
    content = file_of({"a": Harm(tmp_path / "harm")}, {})
    with pytest.raises(StepFailed, match="has no place in a file of weights"):
        read_weights(content)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02K\x01.", b"hello"])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(StepFailed, match="not a file of weights"):
        read_weights(content)


def test_another_format_is_refused() -> None:
    with pytest.raises(StepFailed, match="another format"):
        read_weights(file_of({}, {}, magic=1))


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "expected"),
    [
        (224, 3, 2, (0, 1)),
        (112, 3, 1, (1, 1)),
        (56, 5, 2, (1, 2)),
        (14, 5, 1, (2, 2)),
        (7, 1, 1, (0, 0)),
    ],
)
def test_padding_gives_an_output_of_the_input_divided_by_the_stride(
    side: int, kernel: int, stride: int, expected: tuple[int, int]
) -> None:
    before, after = padding(side, kernel, stride)
    assert (before, after) == expected
    assert (side + before + after - kernel) // stride + 1 == -(-side // stride)
