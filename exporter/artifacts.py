"""What flows from room to room. Each of these knows where it came from, and none is changed after it was made."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn

    from attn_export.models import Architecture


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
    """A dimension of the input that stays open, with the sizes that the network can take."""

    name: str
    index: int
    minimum: int = 1
    maximum: int | None = None


@dataclass(frozen=True)
class Graph:
    """An ONNX graph in memory.

    Attributes:
        model: the graph. Rooms that change it make a new `Graph` around a changed copy or the same, consumed, model.
        parent_sha256: of the checkpoint it was captured from.
        opset: of the default domain.
        input_name: of the one image input.
        input_shape: (N, C, H, W) as traced; open axes are in ``axes``.
        output_names: in the order in which the network returns them.
        steps: what was done to it so far, with counts.
    """

    model: "ir.Model"
    parent_sha256: str
    opset: int
    input_name: str
    input_shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    output_names: tuple[str, ...]
    steps: tuple["Step", ...] = ()

    @property
    def nodes(self) -> int:
        """Nodes of the main graph."""
        return len(self.model.graph)


@dataclass(frozen=True)
class Step:
    """One cleanup step and what it did."""

    name: str
    nodes_before: int
    nodes_after: int


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file on disk.

    Attributes:
        path: the file; weights of 2 GiB and more stand in ``<path>.data`` beside it.
        sha256: of the file itself.
        parent_sha256: of the checkpoint.
        input_shape: (N, C, H, W) as traced; open axes are in ``axes``.
    """

    path: Path
    sha256: str
    parent_sha256: str
    input_name: str
    input_shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    output_names: tuple[str, ...]
    metadata: dict[str, Any] = field(default_factory=dict)
