"""What flows from room to room. Each of these knows where it came from, and none is changed after it was made."""

from copy import copy
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn

    from attn_export.models.registry import Architecture

# Where a node of a graph keeps the path of the submodule that it came from.
MODULE_KEY = "attn_export.module"


@dataclass(frozen=True)
class Normalization:
    """How an image, scaled to 0..1, becomes an input: ``(image - mean) / std``, one number for each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class LoadedModel:
    """A network that is ready to run, and what is known of it.

    Attributes:
        module: in eval mode, float32, on the CPU.
        input_shape: (C, H, W) of one input.
        sha256: of the checkpoint file, or of the weights where there is no file.
        path: the checkpoint file, None for a live module.
        architecture: the zoo's description, None for a network of somebody else's.
        notes: what the user should know about how the file was read.
    """

    module: "nn.Module"
    input_shape: tuple[int, ...]
    sha256: str
    path: Path | None = None
    architecture: "Architecture | None" = None
    normalization: Normalization | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The architecture's name, or the class of the module."""
        return self.architecture.name if self.architecture else type(self.module).__name__


@dataclass(frozen=True)
class Axis:
    """A dimension of the input that stays open, and the smallest size that the network takes there."""

    name: str
    index: int
    minimum: int = 1


@dataclass(frozen=True)
class Signature:
    """What a network takes and returns, the same for every artifact made of it.

    Attributes:
        input_name: of the one input, float32.
        input_shape: (N, C, H, W) as traced; the axes that stay open are in ``axes``.
        axes: by ascending index.
        output_names: in the order in which the network returns them.
    """

    input_name: str
    input_shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    output_names: tuple[str, ...]

    def axis(self, name: str) -> Axis | None:
        """The open axis of this name, None where it is fixed."""
        return next((axis for axis in self.axes if axis.name == name), None)


@dataclass(frozen=True)
class Gate:
    """The place in a graph where an attention gate is about to be squashed into 0..1.

    Attributes:
        module_path: of the submodule it came from, empty where that isn't known.
        tensor: name of the tensor that goes into the Sigmoid or HardSigmoid.
    """

    module_path: str
    tensor: str


@dataclass(frozen=True)
class Step:
    """One cleanup step and what it did."""

    name: str
    nodes_before: int
    nodes_after: int


@dataclass(frozen=True)
class Graph:
    """An ONNX graph in memory.

    Attributes:
        model: the graph. A room that changes it consumes it and returns a new `Graph`.
        signature: of the network.
        parent_sha256: of the checkpoint it was captured from.
        opset: of the default domain.
        steps: what was done to it so far.
        blocks: its attention blocks, once it is cleaned.
    """

    model: "ir.Model"
    signature: Signature
    parent_sha256: str
    opset: int
    steps: tuple[Step, ...] = ()
    blocks: tuple["AttentionBlock", ...] = ()


class Precision(str, Enum):
    """The format that most of a graph computes in; the inputs and outputs of those we make are float32 in any case."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"

    def __str__(self) -> str:
        return self.value

    @property
    def suffix(self) -> str:
        """What stands between the stem and the ending of a file: none for float32, which is the plain name."""
        return "" if self is Precision.FP32 else f".{self.value}"

    @property
    def onnx_name(self) -> str:
        """The type's name in numpy and in ONNX."""
        return {Precision.FP32: "float32", Precision.FP16: "float16", Precision.BF16: "bfloat16"}[self]


@dataclass(frozen=True)
class Kept:
    """A node that computes in float32 within a graph of another format.

    Attributes:
        node: its name.
        module_path: of the submodule it came from, empty where that isn't known.
        op_type: the operator.
        reason: half a sentence.
    """

    node: str
    module_path: str
    op_type: str
    reason: str


@dataclass(frozen=True, eq=False)
class ParsedFile:
    """An ONNX file, parsed and checked once and then passed on.

    Attributes:
        path: the file.
        model: its graph. Nobody changes it; `copy` gives a graph to change.
    """

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
        path: the file; weights that are too many for one file stand in ``<path>.data`` beside it.
        signature: of the network.
        parent_sha256: of the checkpoint.
        opset: of the default domain.
        nodes: in the main graph.
        gates: in the order in which they are computed.
        steps: what the graph went through.
        blocks: its attention blocks.
        precision: that most of it computes in.
        kept: the nodes that compute in float32 nevertheless.
        label: its name in reports where another file has the same file name; empty otherwise.
        parsed: the file's content; None before it is parsed.
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
    kept: tuple[Kept, ...] = ()
    label: str = ""
    parsed: ParsedFile | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """What records and people call it."""
        return self.label or self.path.name


Dim = int | str | None

UNKNOWN = "gate"


@dataclass(frozen=True)
class AttentionBlock:
    """One attention block of a graph.

    Attributes:
        kind: "SE", "ECA", "CBAM", "CBAM channel", "CBAM spatial", or "gate" for one of another make.
        module_path: of the module it came from, such as ``layer3.4.attention``; empty where the graph doesn't tell.
        channels: C of the map it gates, None where the graph doesn't tell.
        reduction: C divided by the width of the channel gate's hidden layer.
        kernel: of the spatial gate's convolution (k x k), or of ECA's over the channels.
        gates: names of the tensors that go into its Sigmoid or HardSigmoid, in the order in which they are computed.
        maps: names of the gated maps: one, or for CBAM the map behind each of its gates.
        nodes: names of the nodes that it consists of, from the map it gates to the gated map.
        nodes_before: how many there were before the first cleanup.
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
        """For people: the module's path, or the name of the gated map."""
        return self.module_path or self.maps[-1]


CPU, CUDA = "cpu", "cuda"
DEVICES = (CPU, CUDA)


# What files are made in; those of others are judged in all.
MADE = (Precision.FP32, Precision.FP16)


class Target(str, Enum):
    """The runtime whose preferences decide where two forms compute the same; docs/cleanup.md has the measurements."""

    ANY = "any"
    TENSORRT = "tensorrt"
    ONNXRUNTIME = "onnxruntime"

    def __str__(self) -> str:
        return self.value
