"""What is known of a TensorRT engine: shapes, kernels, precision and cost."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attn_export.exporter.errors import EngineError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Range:
    """The shapes of one input, each (N, C, H, W) or of the input's own rank."""

    min: Shape
    opt: Shape
    max: Shape

    def covers(self, shape: Shape) -> bool:
        """Whether the engine takes this shape."""
        return len(shape) == len(self.min) and all(
            low <= size <= high for low, size, high in zip(self.min, shape, self.max, strict=True)
        )

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The different ones, from small to large."""
        return tuple(dict.fromkeys((self.min, self.opt, self.max)))


@dataclass(frozen=True)
class EngineFile:
    """An engine on disk.

    Attributes:
        path: the file; ``<path>.json`` beside it is its record.
        record: the record's content.
        failed: GPUs that it couldn't be built for, with the reasons.
    """

    path: Path
    record: dict[str, Any]
    failed: dict[str, EngineError] = field(default_factory=dict)

    def taken(self, name: str) -> Range:
        """The shapes that it takes of an input."""
        return Range(*(tuple(shape) for shape in self.record["profile"][name].values()))


@dataclass(frozen=True)
class BlockCost:
    """One attention block in an engine.

    Attributes:
        module_path, kind: of the block.
        kernels: that compute any node of it.
        shared: of these, kernels that also compute what isn't attention, such as the addition after it.
        fused_nodes: ONNX nodes of the block that these kernels compute.
        weights_bytes: of its layers.
        activation_bytes: that its kernels write for each image; None where sizes are open.
    """

    module_path: str
    kind: str
    kernels: int
    shared: int
    fused_nodes: int
    weights_bytes: int
    activation_bytes: int | None


@dataclass(frozen=True)
class Kernel:
    """One entry of an engine's plan.

    Attributes:
        name: TensorRT's.
        kind: "correlation" is a convolution, "kgen" a generated kernel, "gemm" a matrix product.
        nodes: names of the ONNX nodes that it computes; none for a change of layout.
        reads, writes: types, by their ONNX names, without repetition.
        weights: the same of the constants that hold more than one number.
        bytes_written: for each image; None where a size other than the batch is open.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    weights: tuple[str, ...]
    bytes_written: int | None


@dataclass(frozen=True)
class KernelReport:
    """All kernels.

    Attributes:
        kernels: in the order in which they run; empty where TensorRT told nothing.
        source: where they were read.
        weights_bytes, activation_bytes: of the whole engine, for the largest shape; None where it isn't told.
    """

    kernels: tuple[Kernel, ...]
    source: str
    weights_bytes: int | None = None
    activation_bytes: int | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """All types that kernels read or write, most frequent first."""
        counts: dict[str, int] = {}
        for kernel in self.kernels:
            for name in {*kernel.reads, *kernel.writes}:
                counts[name] = counts.get(name, 0) + 1
        return tuple(sorted(counts, key=lambda name: (-counts[name], name)))


Dim = int | str | None


Profile = dict[str, Range]

SCHEMA_VERSION = 1

PORTABLE = "portable"


@dataclass(frozen=True)
class MixedKernel:
    """A kernel that reads or writes a type which its nodes don't have in the graph."""

    kernel: str
    nodes: tuple[str, ...]
    found: tuple[str, ...]
    expected: tuple[str, ...]

    def __str__(self) -> str:
        place = ", ".join(self.nodes[:3]) + (", …" if len(self.nodes) > 3 else "")
        return f"{place or self.kernel} runs in {'/'.join(self.found)}, the graph says {'/'.join(self.expected)}"
