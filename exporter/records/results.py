"""What each command returns to its caller."""

from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from attn_export.exporter.artifacts import Float32Node, LoadedModel, OnnxFile, Signature
from attn_export.exporter.errors import AttnExportError
from attn_export.exporter.records.artifact import Artifact
from attn_export.exporter.records.attention import AttentionCost
from attn_export.exporter.records.cleanup import Cleaned, RevertedRewrite
from attn_export.exporter.records.document import SCHEMA_VERSION
from attn_export.exporter.records.engine import EngineFile
from attn_export.exporter.records.gates import GateActivations
from attn_export.exporter.records.graphs import GraphOutlines, Outline
from attn_export.exporter.records.latency import Latency, Timing
from attn_export.exporter.records.quantization import Quantization
from attn_export.exporter.records.report import Report
from attn_export.exporter.records.verdict import FirstDivergence, Quality, Verdict


@dataclass(frozen=True)
class ReportAssets:
    """The graphs, gate activations and attention costs for a report."""

    graphs: tuple[GraphOutlines, ...] = ()
    activations: GateActivations | None = None
    costs: tuple[AttentionCost, ...] = ()


@dataclass(frozen=True)
class Benched:
    """The result of `bench`; ``files`` are the ONNX files, with their attention blocks."""

    model: LoadedModel | None
    artifacts: tuple[Artifact, ...]
    names: tuple[str, ...]
    files: tuple[OnnxFile, ...]
    latency: Latency
    assets: ReportAssets


@dataclass(frozen=True)
class CleanResult:
    """The result of `clean`; the verdict is on the whole graph in ONNX Runtime, or ``not_compared`` says why not."""

    path: Path
    cleaned: Cleaned
    verdict: Verdict | None
    not_compared: str
    nodes_before: int
    nodes_after: int


@dataclass(frozen=True)
class Deployed:
    """Engines and bundles of one ONNX file; no engine if only bundles were requested."""

    engines: tuple[EngineFile, ...]
    bundles: tuple[Path, ...]


class Retyped(Struct, frozen=True, rename={"kept": "kept_in_float32", "verdict": "validation"}):
    """A file converted to another precision; the verdict is that of the comparison with the float32 file."""

    path: Path
    kept: tuple[Float32Node, ...]
    verdict: Verdict


class BuildResult(Struct, frozen=True, rename={"retyped": "onnx"}):
    """The result of `build`: files of other precisions, and engines and bundles of these or of the source."""

    retyped: tuple[Retyped, ...]
    engines: tuple[EngineFile, ...]
    bundles: tuple[Path, ...]
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Proven:
    """An ONNX file that agrees with PyTorch."""

    file: OnnxFile
    verdict: Verdict
    quality: Quality | None = None
    quantization: Quantization | None = None


@dataclass(frozen=True)
class Validated:
    """The validation of one artifact.

    Attributes:
        artifact: its description; None if it can't be read.
        signature: its input, and the network's outputs that it has; None if they aren't the network's.
        notes: differences between the signatures, and how they were resolved.
        verdict: None if it can't run.
        error: None if it agrees.
    """

    path: Path
    artifact: Artifact | None = None
    signature: Signature | None = None
    notes: tuple[str, ...] = ()
    verdict: Verdict | None = None
    quality: Quality | None = None
    first_divergence: FirstDivergence | None = None
    error: AttnExportError | None = None


@dataclass(frozen=True)
class ExportResult:
    """The result of `export`, files in the order of the precisions; ``reverted`` rewrites are bugs of rules."""

    files: tuple[Path, ...]
    report_path: Path
    verdicts: tuple[Verdict, ...]
    latency: Latency
    report: Report
    engines: tuple[EngineFile, ...] = ()
    bundles: tuple[Path, ...] = ()
    reverted: tuple[RevertedRewrite, ...] = ()

    @property
    def onnx(self) -> Path:
        """The first ONNX file."""
        return self.files[0]

    @property
    def timings(self) -> tuple[Timing, ...]:
        """One for each runtime, in order."""
        return self.latency.timings

    @property
    def verdict(self) -> Verdict:
        """The verdict of the first ONNX file."""
        return self.verdicts[0]


@dataclass(frozen=True)
class Made:
    """A file and the record of its cleanup. ``before``: the captured graph, if the report needs it."""

    file: OnnxFile
    reverted: tuple[RevertedRewrite, ...]
    before: Outline | None
