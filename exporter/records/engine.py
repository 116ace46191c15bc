"""The record of a TensorRT engine: shapes, kernels, precision and cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from attn_export.exporter.artifacts import AttentionBlock, Dim, Input, Shape, Signature, within
from attn_export.exporter.records.document import SCHEMA_VERSION
from attn_export.exporter.records.environment import Environment
from attn_export.exporter.records.verdict import Verdict


class Range(Struct, frozen=True):
    """The shapes of one input, each (N, C, H, W) or of the input's rank."""

    min: Shape
    opt: Shape
    max: Shape

    def covers(self, shape: Shape) -> bool:
        """Whether the range contains this shape."""
        return within(shape, self.min, self.max)


def covers(profile: Mapping[str, Range], names: Sequence[str], shapes: Sequence[Shape]) -> bool:
    """Whether a profile contains the shape of each of the named inputs."""
    return all(profile[name].covers(shape) for name, shape in zip(names, shapes, strict=True))


def shapes_of(profile: Mapping[str, Range], names: Sequence[str]) -> tuple[tuple[Shape, ...], ...]:
    """The distinct min, opt and max shapes of the named inputs."""
    ranges = [profile[name] for name in names]
    return tuple(dict.fromkeys(tuple(getattr(own, which) for own in ranges) for which in ("min", "opt", "max")))


def fitted(signature: Signature, profile: Mapping[str, Range]) -> Signature:
    """The signature with the profile's opt sizes on dynamic axes if the profile excludes the traced shapes."""
    if covers(profile, signature.input_names, signature.shapes):
        return signature
    return signature.with_shapes(tuple(_opt(taken, profile[taken.name].opt) for taken in signature.inputs))


def _opt(taken: Input, opt: Shape) -> Shape:
    if len(taken.shape) != len(opt):
        return taken.shape
    dynamic = {axis.index for axis in taken.axes}
    return tuple(opt[i] if i in dynamic else size for i, size in enumerate(taken.shape))


class BlockCost(Struct, frozen=True):
    """One attention block in an engine.

    Attributes:
        kernels: the number of kernels with its nodes.
        shared: of these, kernels with other nodes too, such as the addition after it.
        fused_nodes: the number of its ONNX nodes in these kernels.
        activation_bytes: written by its kernels for one image; None for dynamic sizes.
    """

    module_path: str
    kind: str
    kernels: int
    shared: int
    fused_nodes: int
    weights_bytes: int
    activation_bytes: int | None


class Kernel(Struct, frozen=True):
    """One entry of an engine's plan.

    Attributes:
        kind: "correlation" is a convolution, "kgen" a generated kernel, "gemm" a matrix product.
        nodes: names of its ONNX nodes; empty for a layout change.
        reads, writes: types, by their ONNX names, without repetition.
        weights: types of the constants with more than one element.
        bytes_written: for one image; None if a size other than the batch is dynamic.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    weights: tuple[str, ...]
    bytes_written: int | None


class KernelReport(Struct, frozen=True):
    """The kernels in execution order, empty if unknown; bytes are for the max shape, None if unknown."""

    kernels: tuple[Kernel, ...]
    source: str
    weights_bytes: int | None = None
    activation_bytes: int | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """The types that kernels read or write, most frequent first."""
        counts: dict[str, int] = {}
        for kernel in self.kernels:
            for name in {*kernel.reads, *kernel.writes}:
                counts[name] = counts.get(name, 0) + 1
        return tuple(sorted(counts, key=lambda name: (-counts[name], name)))


Profile = dict[str, Range]

PORTABLE = "portable"


class MixedKernel(Struct, frozen=True):
    """A kernel with a type that its nodes don't have in the graph."""

    kernel: str
    nodes: tuple[str, ...]
    found: tuple[str, ...]
    expected: tuple[str, ...]

    def __str__(self) -> str:
        place = ", ".join(self.nodes[:3]) + (", …" if len(self.nodes) > 3 else "")
        return f"{place or self.kernel} runs in {'/'.join(self.found)}, the graph says {'/'.join(self.expected)}"


class BuildOptions(Struct, frozen=True):
    """Options passed through to TensorRT; one that a TensorRT doesn't have is refused.

    Attributes:
        tf32: allow TF32, which rounds float32 products to 10 bits of mantissa.
        workspace_mib: limit of a kernel's scratch memory.
        timing_cache: a file with the timings of earlier builds, read and written.
        version_compatible: the engine runs with later versions of TensorRT.
        hardware_compatible: the engine runs on GPUs of other architectures, from sm80 on.
    """

    tf32: bool = False
    workspace_mib: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False


class BackendRecord(Struct, frozen=True):
    """The TensorRT that built an engine, and the reason for the choice."""

    name: str
    version: str
    why: str = ""


class PrecisionAudit(Struct, frozen=True):
    """The requested precision, the types of the graph and of the kernels, and the kernels that differ."""

    requested: str | None
    graph: tuple[str, ...]
    kernels: tuple[str, ...]
    mixed: tuple[MixedKernel, ...]


class EngineIo(Struct, frozen=True):
    """Inputs and outputs with their dimensions; a dynamic one is a name or None. ``types`` are numpy's, by name."""

    inputs: dict[str, tuple[Dim, ...]]
    outputs: dict[str, tuple[Dim, ...]]
    types: dict[str, str] = {}


class SourceFile(Struct, frozen=True):
    """The ONNX file that an engine was built from, and its weight files."""

    path: str
    sha256: str
    weights_sha256: dict[str, str]


class BundleSource(Struct, frozen=True):
    """The deployment bundle that an engine was built from."""

    path: str
    sha256: str


class EngineCost(Struct, frozen=True):
    """Kernels of an engine and of the ablated model, and the cost of each attention block; None where unknown."""

    kernels: int | None
    kernels_without_attention: int | None
    blocks: tuple[BlockCost, ...]

    @property
    def added(self) -> int | None:
        """The kernels that attention adds; None where unknown."""
        if self.kernels is None or self.kernels_without_attention is None:
            return None
        return self.kernels - self.kernels_without_attention


class BuildRecord(Struct, frozen=True):
    """Seconds of parsing and building, and the peak memory of the process in bytes; None where unknown."""

    seconds: float
    peak_bytes: int | None


class EngineRecord(Struct, frozen=True, kw_only=True):
    """The sidecar of an engine; ``failed`` has the reason of each architecture that was left out."""

    created: str
    sha256: str
    bytes: int
    backend: BackendRecord
    gpus: tuple[str, ...]
    failed: dict[str, str]
    platform: str
    precision: PrecisionAudit
    options: BuildOptions
    profile: dict[str, Range]
    io: EngineIo
    onnx: SourceFile
    bundle: BundleSource | None
    attention: tuple[AttentionBlock, ...]
    cost: EngineCost
    kernels: KernelReport
    build: BuildRecord
    environment: Environment
    validation: Verdict | None = None
    not_run: str | None = None
    schema_version: int = SCHEMA_VERSION


class EngineFile(Struct, frozen=True):
    """An engine on disk and its record."""

    path: Path
    record: EngineRecord
