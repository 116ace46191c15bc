"""A file under test: an ONNX file or an engine, and what it says of itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import Dim, Gate, OnnxFile, Precision, Signature
from attn_export.exporter.records.engine import EngineRecord, Range

if TYPE_CHECKING:
    from attn_export.exporter.artifacts import AttentionBlock


@dataclass(frozen=True)
class Tensor:
    """An input or an output.

    Attributes:
        name: in the artifact.
        dims: a number where the size is fixed, a name or None where it is open; None where not even the rank is known.
        dtype: numpy's name of the type, empty where it isn't known.
    """

    name: str
    dims: tuple[Dim, ...] | None
    dtype: str

    def __str__(self) -> str:
        if self.dims is None:
            return self.name
        sizes = ", ".join(str(size) if isinstance(size, int) else "?" if size is None else size for size in self.dims)
        return f"{self.name} ({sizes})"


@dataclass(frozen=True)
class Artifact:
    """What an artifact takes and returns.

    Attributes:
        path: the file.
        format: "onnx" or "engine".
        inputs, outputs: in its own order.
        precision: that most of it computes in; bfloat16 where anything does.
        source_sha256: sha256 of the checkpoint, empty where the artifact doesn't say.
        range: the shapes that an engine takes; None for an ONNX file, and for an engine without a record.
        opset, nodes, gates: of an ONNX file.
        quantized: the ONNX file that says how it rounds to whole numbers, itself or the one it was built of; None where
            it doesn't.
        rounds_to: what most of them are, such as "int8" or "float8e4m3fn"; empty where it doesn't.
        record: the sidecar of an engine.
    """

    path: Path
    format: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    precision: Precision
    source_sha256: str = ""
    range: Range | None = None
    opset: int = 0
    nodes: int = 0
    gates: tuple[Gate, ...] = ()
    quantized: Path | None = None
    rounds_to: str = ""
    record: EngineRecord | None = None

    def as_file(self, signature: Signature, *, blocks: "tuple[AttentionBlock, ...]" = (), label: str = "") -> OnnxFile:
        """An ONNX file of any origin as what the rooms hand on.

        Args:
            signature: of the network, with the shape that it is given.
            blocks: its attention, where somebody looked for it.
            label: what it is called; by default its name.
        """
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
        )
