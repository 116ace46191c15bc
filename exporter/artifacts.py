"""The objects that pass between the packages: models, signatures, graphs, files. All are immutable."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attn_export.exporter.errors import UsageError

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn

    from attn_export.models.registry import Architecture

# The metadata key for a node's submodule path.
MODULE_KEY = "attn_export.module"


@dataclass(frozen=True)
class Normalization:
    """``(image - mean) / std`` for images in 0..1, one number for each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def for_channels(self, channels: int) -> "Normalization":
        """One number for each channel, where one is meant for all. Raises UsageError: they are for other channels."""
        mean, std = (values * channels if len(values) == 1 else values for values in (self.mean, self.std))
        if not len(mean) == len(std) == channels:
            raise UsageError(
                f"--mean and --std have {len(mean)} and {len(std)} numbers, and the network takes {channels} channels",
                hint="Give one number, or one for each channel.",
            )
        return Normalization(mean, std)


NCHW, NHWC = "nchw", "nhwc"
RGB, BGR = "rgb", "bgr"


@dataclass(frozen=True)
class Preprocessing:
    """How pixels (uint8, "nchw" or "nhwc", "rgb" or "bgr") become the input: ``(pixels / 255 - mean) / std``."""

    layout: str
    order: str
    normalization: Normalization


@dataclass(frozen=True)
class Postprocessing:
    """Softmax of logits (N, classes): the ``top`` largest with their classes, or all for 0."""

    top: int = 0
    classes: int = 0


@dataclass(frozen=True)
class LoadOptions:
    """How a file becomes a network, as far as the file doesn't say it.

    Attributes:
        arch: a name of the zoo, such as ``cbam_resnet50``, or of a library: ``timm:seresnet50``.
        inputs: with N, in any order; empty for those that the file says.
        ranges: of the inputs' values, by name; "" is the only one.
        code: the user's sources, a folder or a file, which are imported.
        factory: ``module:function``, which builds the network.
        kwargs: what the factory, or the library's function, is called with.
        trust: run whatever the file names.
        weights: a file with the weights, where the network is named instead of a file.
        key: the entry of a training checkpoint to take.
    """

    arch: str | None = None
    inputs: tuple["Input", ...] = ()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    code: Path | None = None
    factory: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    trust: bool = False
    weights: Path | None = None
    key: str | None = None


LIBRARIES = ("timm", "torchvision")
CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pt2")
ONNX_ENDING = ".onnx"


def names_network(source: Path | str) -> bool:
    """Whether this is the name of a library's network and not of a file: ``timm:seresnet50``."""
    library, colon, _ = str(source).partition(":")
    return bool(colon) and library in LIBRARIES


@dataclass(frozen=True)
class Axis:
    """A dynamic axis of an input, and its minimum size."""

    name: str
    index: int
    minimum: int = 1


Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]  # one for each input


def within(shape: Shape, low: Sequence[int], high: Sequence[int | None]) -> bool:
    """Whether a shape has this rank and each size lies between its bounds; an upper one of None is open."""
    return len(shape) == len(low) and all(
        least <= size and (most is None or size <= most) for least, size, most in zip(low, shape, high, strict=True)
    )


@dataclass(frozen=True)
class Input:
    """An input of a network or an artifact.

    Attributes:
        name: ``input`` for the only one, otherwise that of ``forward``'s parameter; in an artifact the artifact's.
        shape: (N, C, H, W), or of another rank; the first axis is the batch.
        dtype: numpy's name.
        axes: the dynamic axes, by ascending index.
        range: its smallest and largest value; None for normalized images and other floats around zero.
        layout: of an image: where its channels are.
    """

    name: str
    shape: Shape
    dtype: str = "float32"
    axes: tuple[Axis, ...] = ()
    range: tuple[float, float] | None = None
    layout: str = NCHW

    def with_batch(self, batch: int) -> "Input":
        """The input for another N."""
        return replace(self, shape=(batch, *self.shape[1:]))

    def takes(self, shape: Shape) -> bool:
        """Whether a shape differs on dynamic axes only, and isn't too small there."""
        least = {axis.index: axis.minimum for axis in self.axes}
        low = [least.get(i, size) for i, size in enumerate(self.shape)]
        return within(shape, low, [None if i in least else size for i, size in enumerate(self.shape)])

    def __str__(self) -> str:
        names = {axis.index: axis.name for axis in self.axes}
        return f"{self.name} ({', '.join(names.get(i, str(size)) for i, size in enumerate(self.shape))})"


INPUT_NAME = "input"
# Of inputs: what ONNX, ONNX Runtime and numpy all take.
INPUT_TYPES = ("float32", "uint8", "int8", "int32", "int64", "bool")


def only_input(shape: Shape) -> tuple[Input, ...]:
    """The one float32 input of most networks; ``shape`` is (C, H, W)."""
    return (Input(INPUT_NAME, (1, *shape)),)


@dataclass(frozen=True)
class LoadedModel:
    """A network that is ready to run, and its description.

    Attributes:
        module: in eval mode, float32, on the CPU.
        inputs: in the order of ``forward``'s parameters, with N = 1 and no dynamic axes.
        sha256: of the checkpoint file, or of the weights of a live module.
        path: the checkpoint file, None for a live module.
        label: what the network is called where it isn't of the zoo, such as ``timm:seresnet50``.
        preprocessing: part of the module: its input is pixels, and ``normalization`` is None.
        postprocessing: part of the module.
    """

    module: "nn.Module"
    inputs: tuple[Input, ...]
    sha256: str
    path: Path | None = None
    architecture: "Architecture | None" = None
    normalization: Normalization | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    label: str = ""
    preprocessing: Preprocessing | None = None
    postprocessing: Postprocessing | None = None

    @property
    def name(self) -> str:
        """The architecture's name, the label, or the class of the module."""
        return self.architecture.name if self.architecture else self.label or type(self.module).__name__


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a network and its artifacts, in the network's order, with the shapes as traced."""

    inputs: tuple[Input, ...]
    output_names: tuple[str, ...]

    @property
    def batch(self) -> int:
        """N as traced."""
        return self.inputs[0].shape[0]

    @property
    def least_batch(self) -> int:
        """The smallest N: 1, or the only one where it is static."""
        return 1 if any(axis.index == 0 for axis in self.inputs[0].axes) else self.batch

    @property
    def input_names(self) -> tuple[str, ...]:
        """The name of each input."""
        return tuple(taken.name for taken in self.inputs)

    @property
    def shapes(self) -> Shapes:
        """The shape of each input as traced."""
        return tuple(taken.shape for taken in self.inputs)

    def with_shapes(self, shapes: Shapes) -> "Signature":
        """The signature for other sizes."""
        inputs = (replace(taken, shape=shape) for taken, shape in zip(self.inputs, shapes, strict=True))
        return replace(self, inputs=tuple(inputs))

    def with_batch(self, batch: int) -> "Signature":
        """The signature for another N."""
        return replace(self, inputs=tuple(taken.with_batch(batch) for taken in self.inputs))

    def feeds(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """A network's inputs by the names that they have here; both are in the network's order."""
        return {taken.name: array for taken, array in zip(self.inputs, arrays.values(), strict=True)}


@dataclass(frozen=True)
class Gate:
    """A block's gate: its module's path, empty if unknown, and the ``tensor`` that goes into the (hard) sigmoid."""

    module_path: str
    tensor: str


@dataclass(frozen=True)
class Step:
    """One cleanup step."""

    name: str
    nodes_before: int
    nodes_after: int


@dataclass(frozen=True)
class Graph:
    """An ONNX graph in memory. Functions that change ``model`` take it over and return a new `Graph`."""

    model: "ir.Model"
    signature: Signature
    parent_sha256: str
    opset: int
    steps: tuple[Step, ...] = ()
    blocks: tuple["AttentionBlock", ...] = ()


class Precision(str, Enum):
    """The type that most of a graph computes in.

    TF32 is a property of engines: their graph is float32. Of int8 and fp8 graphs it is the type that layers read; what
    isn't quantized in them is float32 or float16.
    """

    FP32 = "fp32"
    TF32 = "tf32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"

    def __str__(self) -> str:
        return self.value

    @property
    def suffix(self) -> str:
        """The suffix of a file's stem, empty for float32."""
        return "" if self is Precision.FP32 else f".{self.value}"

    @property
    def onnx_name(self) -> str:
        """The type's name in numpy and in ONNX."""
        return ONNX_NAMES[self]

    @property
    def is_quantized(self) -> bool:
        """Whether it is written as QuantizeLinear and DequantizeLinear."""
        return self in QUANTIZED


ONNX_NAMES = {
    Precision.FP32: "float32",
    Precision.TF32: "float32",
    Precision.FP16: "float16",
    Precision.BF16: "bfloat16",
    Precision.INT8: "int8",
    Precision.FP8: "float8e4m3fn",
}
QUANTIZED = (Precision.INT8, Precision.FP8)
AROUND = (Precision.FP32, Precision.FP16)  # of what isn't quantized in these


@dataclass(frozen=True)
class Float32Node:
    """A node that stays in float32 in a graph of another precision; ``module_path`` is empty if unknown."""

    node: str
    module_path: str
    op_type: str
    reason: str


@dataclass(frozen=True, eq=False)
class ParsedFile:
    """An ONNX file, parsed and checked once. Nobody changes ``model``; `copy` gives a graph to change."""

    path: Path
    model: "ir.Model"

    def copy(self) -> "ir.Model":
        """The graph once more. Weights that it loads are mapped from the file for as long as the copy lives."""
        model = self.model.clone()
        for value in model.graph.initializers.values():
            value.const_value = copy(value.const_value)
        return model


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file on disk.

    Attributes:
        path: the file; weights beyond 2 GiB are in ``<path>.data``.
        parent_sha256: of the source checkpoint.
        nodes: their number in the main graph.
        precision: of most nodes.
        kept: the nodes that stay in float32.
        label: a distinct name for a file whose name isn't unique, else empty.
    """

    path: Path
    signature: Signature
    parent_sha256: str
    opset: int
    nodes: int
    gates: tuple[Gate, ...]
    steps: tuple[Step, ...] = ()
    blocks: tuple["AttentionBlock", ...] = ()
    precision: Precision = Precision.FP32
    kept: tuple[Float32Node, ...] = ()
    label: str = ""
    parsed: ParsedFile | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The name in records and tables."""
        return self.label or self.path.name


Dim = int | str | None


def fixed(dim: Dim) -> int | None:
    """The size of an axis; None where it is dynamic: a name, None, or what some exporters write, 0 and -1."""
    return dim if isinstance(dim, int) and dim > 0 else None


UNKNOWN = "gate"


@dataclass(frozen=True)
class AttentionBlock:
    """One attention block of a graph.

    Attributes:
        kind: such as "SE" or "CBAM channel", see docs/cleanup.md; "gate" for blocks of no known kind.
        module_path: such as ``layer3.4.attention``, empty if unknown.
        channels: C of the gated map, None if unknown.
        reduction: C divided by the width of the channel gate's hidden layer.
        kernel: of the spatial gate's convolution (k x k), or of ECA's over the channels.
        gates: the inputs of its gate activations, in topological order.
        maps: the gated maps: one, or for CBAM one for each gate.
        nodes_before: their number before the first cleanup.
    """

    kind: str
    module_path: str
    channels: int | None
    reduction: int | None
    kernel: int | None
    gates: tuple[str, ...]
    maps: tuple[str, ...]
    nodes: tuple[str, ...]
    nodes_before: int

    @property
    def place(self) -> str:
        """The module's path, or the name of the gated map."""
        return self.module_path or self.maps[-1]


CPU, CUDA = "cpu", "cuda"
DEVICES = (CPU, CUDA)


class Target(str, Enum):
    """The runtime to optimize a graph for; docs/cleanup.md has the measurements."""

    ANY = "any"
    TENSORRT = "tensorrt"
    ONNXRUNTIME = "onnxruntime"

    def __str__(self) -> str:
        return self.value
