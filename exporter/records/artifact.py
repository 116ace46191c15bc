"""A file under test, ONNX or engine, with its metadata."""

from pathlib import Path

from msgspec import Struct

from attn_export.exporter.artifacts import (
    AttentionBlock,
    Dim,
    Gate,
    OnnxFile,
    ParsedFile,
    Precision,
    Shape,
    Signature,
    fixed,
    within,
)
from attn_export.exporter.records.engine import EngineRecord, Profile


class Tensor(Struct, frozen=True):
    """An input or output: a dynamic size is a name or None, an unknown rank None, an unknown dtype empty."""

    name: str
    dims: tuple[Dim, ...] | None
    dtype: str

    def takes(self, shape: Shape) -> bool:
        """Whether a shape differs on dynamic axes only; of an unknown rank any is taken."""
        sizes = [fixed(dim) for dim in self.dims or (None,) * len(shape)]
        return within(shape, [size or 1 for size in sizes], sizes)

    def __str__(self) -> str:
        if self.dims is None:
            return self.name
        sizes = ", ".join(str(size) if isinstance(size, int) else "?" if size is None else size for size in self.dims)
        return f"{self.name} ({sizes})"


class Artifact(Struct, frozen=True):
    """Inputs, outputs and metadata of an artifact.

    Attributes:
        inputs, outputs: in the artifact's order.
        precision: of most of its computation; bfloat16 where any tensor is.
        source_sha256: sha256 of the source checkpoint; empty without provenance.
        profile: min, opt and max shapes of an engine's inputs; None for an ONNX file.
        quantized: the ONNX file with the quantization: this one, or the source of the engine; None if not quantized.
        quantized_type: most frequent quantized type, such as "int8" or "float8e4m3fn"; empty if not quantized.
    """

    path: Path
    format: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    precision: Precision
    source_sha256: str = ""
    profile: Profile | None = None
    opset: int = 0
    nodes: int = 0
    gates: tuple[Gate, ...] = ()
    quantized: Path | None = None
    quantized_type: str = ""
    sidecar: EngineRecord | None = None
    parsed: ParsedFile | None = None

    def as_file(self, signature: Signature, *, blocks: tuple[AttentionBlock, ...] = (), label: str = "") -> OnnxFile:
        """The ONNX file in the form that workflows pass on."""
        return OnnxFile(
            path=self.path,
            signature=signature,
            parent_sha256=self.source_sha256,
            opset=self.opset,
            nodes=self.nodes,
            gates=self.gates,
            blocks=blocks,
            precision=self.precision,
            label=label,
            parsed=self.parsed,
        )
