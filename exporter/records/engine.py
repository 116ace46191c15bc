"""What is known of a TensorRT engine: shapes, kernels, precision and cost."""

from pathlib import Path

from msgspec import Struct

from attn_export.exporter.artifacts import AttentionBlock
from attn_export.exporter.records.document import SCHEMA_VERSION
from attn_export.exporter.records.environment import Environment
from attn_export.exporter.records.verdict import Verdict

Shape = tuple[int, ...]


class Range(Struct, frozen=True):
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


class BlockCost(Struct, frozen=True):
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


class Kernel(Struct, frozen=True):
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


class KernelReport(Struct, frozen=True):
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

PORTABLE = "portable"


class MixedKernel(Struct, frozen=True):
    """A kernel that reads or writes a type which its nodes don't have in the graph."""

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
        tf32: round float32 products to 10 bits of mantissa on tensor cores; otherwise float32 means float32.
        workspace_mib: most memory that a kernel may use besides its inputs and outputs.
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
    """The TensorRT that built an engine, and why it was chosen."""

    name: str
    version: str
    why: str = ""


class PrecisionAudit(Struct, frozen=True):
    """The precision asked for, the types in the graph, the types that kernels compute in, and kernels that differ."""

    asked: str | None
    graph: tuple[str, ...]
    kernels: tuple[str, ...]
    mixed: tuple[MixedKernel, ...]


class EngineIo(Struct, frozen=True):
    """Inputs and outputs with their dimensions; a dynamic one is a name or None."""

    inputs: dict[str, tuple[Dim, ...]]
    outputs: dict[str, tuple[Dim, ...]]


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


class BuildRecord(Struct, frozen=True):
    """Seconds of parsing and building, and the peak memory of the process in bytes; None where unknown."""

    seconds: float
    peak_bytes: int | None


class EngineRecord(Struct, frozen=True, kw_only=True):
    """The sidecar of an engine: what it was built from, with and for, and which kernels it has.

    Attributes:
        created: UTC, ISO 8601, to the second.
        sha256, bytes: of the engine file.
        gpus: architectures that it was built for.
        failed: architectures that it couldn't be built for, with the reasons.
        platform: operating system and processor.
        profile: min, opt and max shapes of each input.
        bundle: None for an engine that was built from an ONNX file.
        validation: the verdict; None where the engine didn't run.
        not_run: why it didn't run; None where it did.
    """

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
    """An engine on disk, and the content of the sidecar beside it."""

    path: Path
    record: EngineRecord
