"""EfficientNet-Lite0: from the weights of a PyTorch file to an ONNX model.

The architecture is the one published as "EfficientNet-Lite" (M. Tan, R. Liu, 2020): MobileNet-like
blocks without squeeze-and-excitation, activations clipped to 0 … 6, padding such that an output is
the input divided by the stride, rounded up, with the odd row and column at the end.

The file is read without PyTorch: a pickle of tensor descriptions, then the numbers themselves. The
unpickler knows four names and refuses every other, so that a file can only describe tensors.
"""

from __future__ import annotations

import collections
import io
import itertools
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from continuum.errors import StepFailed

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 224
LABELS = 1000

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_EPSILON = 1e-3
_OPSET = 17
_IR_VERSION = 8

_STAGES = (
    # blocks, and the stride of the first; all else shows in the weights' shapes
    (1, 1),
    (2, 2),
    (2, 2),
    (3, 2),
    (3, 1),
    (4, 2),
    (1, 1),
)

_FIRST_BLOCKS = frozenset(itertools.accumulate((blocks for blocks, _ in _STAGES), initial=0))

_TYPES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True)
class _Tensor:
    storage: str
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild(
    storage: tuple[str, str, str, str, int],
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *_: object,
) -> _Tensor:
    return _Tensor(storage[2], _TYPES[storage[1]], offset, shape, strides)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401  what pickle asks for
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in _TYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of weights")

    def persistent_load(self, identity: Any) -> Any:  # noqa: ANN401  what pickle asks for
        return identity


def read_weights(content: bytes) -> dict[str, NDArray[Any]]:
    """The tensors of a PyTorch file (the format before 1.6), by their names.

    Raises:
        StepFailed: the bytes are something else.
    """
    file = io.BytesIO(content)

    def load() -> Any:  # noqa: ANN401  a pickle holds anything
        return _Unpickler(file).load()

    try:
        if load() != _MAGIC or load() != _PROTOCOL or load()["little_endian"] is not True:
            raise StepFailed("not a file of weights that can be read: another format")
        tensors: dict[str, _Tensor] = load()
        keys: list[str] = load()
        dtypes = {tensor.storage: tensor.dtype for tensor in tensors.values()}
        storages = {key: _read_storage(file, dtypes[key]) for key in keys}
        return {name: _strided(tensor, storages) for name, tensor in tensors.items()}
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise StepFailed(f"not a file of weights that can be read: {error}") from error


def _read_storage(file: io.BytesIO, dtype: np.dtype[Any]) -> NDArray[Any]:
    count = int.from_bytes(file.read(8), "little")
    data = file.read(count * dtype.itemsize)
    return np.frombuffer(data, dtype, count)


def _strided(tensor: _Tensor, storages: dict[str, NDArray[Any]]) -> NDArray[Any]:
    storage = storages[tensor.storage]
    last = tensor.offset + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if last >= len(storage) or tensor.offset < 0 or min((0, *tensor.strides)) < 0:
        raise ValueError("a tensor reaches beyond its numbers")
    view = np.lib.stride_tricks.as_strided(
        storage[tensor.offset :],
        tensor.shape,
        tuple(stride * storage.itemsize for stride in tensor.strides),
    )
    return np.array(view)


@dataclass
class _Graph:
    """An ONNX graph under construction; every method returns the name of its output."""

    weights: dict[str, NDArray[Any]]
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        from onnx import numpy_helper  # noqa: PLC0415  slow to import

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:  # noqa: ANN401  as in `make_node`
        from onnx import helper  # noqa: PLC0415  slow to import

        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def convolution(  # noqa: PLR0913  what a convolution is
        self,
        source: str,
        side: int,
        name: str,
        normalization: str,
        *,
        stride: int = 1,
        groups: int = 1,
        clipped: bool = True,
    ) -> str:
        """Convolution with its batch normalization folded in; `side` is that of its input."""
        kernel: NDArray[Any] = self.weights[f"{name}.weight"]
        scale, shift, mean, variance = (
            self.weights[f"{normalization}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = scale / np.sqrt(variance + _EPSILON)
        folded = kernel.astype(np.float64) * factor[:, None, None, None]
        size = kernel.shape[-1]
        before, after = padding(side, size, stride)
        result = self.node(
            "Conv",
            [
                source,
                self.constant(f"{name}.weight", folded.astype(np.float32)),
                self.constant(f"{name}.bias", (shift - mean * factor).astype(np.float32)),
            ],
            name,
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=groups,
        )
        if not clipped:
            return result
        return self.node("Clip", [result, "zero", "six"], f"{name}.clipped")


def padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Rows to add before and after an input of `side` rows."""
    whole = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return whole // 2, whole - whole // 2


def to_onnx(weights: dict[str, NDArray[Any]], progress: Callable[[str], None]) -> bytes:
    """The model as an ONNX file.

    Input `image`: uint8 (1, 224, 224, 3), red, green, blue. Output `probabilities`: float32
    (1, 1000). Colours are scaled in the model: (x - 127) / 128.

    Raises:
        StepFailed: the weights are not those of EfficientNet-Lite0.
    """
    progress("writing the model")
    from onnx import TensorProto, checker, helper  # noqa: PLC0415  slow to import

    graph = _Graph(weights)
    try:
        _build(graph)
    except KeyError as error:
        raise StepFailed(f"the weights lack {error}") from error
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "efficientnet-lite0",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIDE, SIDE, 3])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, LABELS])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        producer_name="continuum",
    )
    model.ir_version = _IR_VERSION
    checker.check_model(model)
    return bytes(model.SerializeToString())


def _build(graph: _Graph) -> None:
    from onnx import TensorProto  # noqa: PLC0415  slow to import

    for name, value in (("zero", 0), ("six", 6), ("middle", 127), ("width", 128)):
        graph.constant(name, np.array(value, np.float32))
    current = graph.node("Cast", ["image"], "image.float", to=TensorProto.FLOAT)
    current = graph.node("Transpose", [current], "image.planes", perm=[0, 3, 1, 2])
    current = graph.node("Sub", [current, "middle"], "image.centred")
    current = graph.node("Div", [current, "width"], "image.scaled")
    current = graph.convolution(current, SIDE, "_conv_stem", "_bn0", stride=2)
    side, number = SIDE // 2, 0
    for blocks, first_stride in _STAGES:
        for index in range(blocks):
            stride = first_stride if index == 0 else 1
            current = _block(graph, current, side, number, stride)
            side, number = -(-side // stride), number + 1
    current = graph.convolution(current, side, "_conv_head", "_bn1")
    current = graph.node("GlobalAveragePool", [current], "pool")
    current = graph.node("Flatten", [current], "features")
    current = graph.node(
        "Gemm",
        [
            current,
            graph.constant("_fc.weight", graph.weights["_fc.weight"]),
            graph.constant("_fc.bias", graph.weights["_fc.bias"]),
        ],
        "scores",
        transB=1,
    )
    graph.node("Softmax", [current], "probabilities", axis=1)


def _block(graph: _Graph, source: str, side: int, number: int, stride: int) -> str:
    """Expand, filter each channel on its own, project; add the input where the shape allows it."""
    prefix = f"_blocks.{number}"
    current = source
    if f"{prefix}._expand_conv.weight" in graph.weights:
        current = graph.convolution(current, side, f"{prefix}._expand_conv", f"{prefix}._bn0")
    current = graph.convolution(
        current,
        side,
        f"{prefix}._depthwise_conv",
        f"{prefix}._bn1",
        stride=stride,
        groups=graph.weights[f"{prefix}._depthwise_conv.weight"].shape[0],
    )
    current = graph.convolution(
        current,
        -(-side // stride),
        f"{prefix}._project_conv",
        f"{prefix}._bn2",
        clipped=False,
    )
    # Only blocks after a stage's first have as many channels out as in.
    if number not in _FIRST_BLOCKS:
        return graph.node("Add", [current, source], f"{prefix}.sum")
    return current
