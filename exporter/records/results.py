"""What each command returns to its caller."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import Float32Node, LoadedModel, OnnxFile, Signature
from attn_export.exporter.errors import AttnExportError
from attn_export.exporter.records.artifact import Artifact
from attn_export.exporter.records.cleanup import Cleaned
from attn_export.exporter.records.engine import EngineFile
from attn_export.exporter.records.graphs import Outline, Outlined
from attn_export.exporter.records.latency import Latency, Timing
from attn_export.exporter.records.report import Report
from attn_export.exporter.records.verdict import Verdict

if TYPE_CHECKING:
    from attn_export.exporter.records.attention import AttentionCost
    from attn_export.exporter.records.cleanup import RevertedRewrite
    from attn_export.exporter.records.gates import GateActivations
    from attn_export.exporter.records.verdict import FirstDivergence, Quality


@dataclass(frozen=True)
class ReportAssets:
    """What there is to look at.

    Attributes:
        graphs: of every ONNX file.
        activations: of the gates; None without a network.
        costs: what attention costs in each file, where that was measured.
    """

    graphs: tuple[Outlined, ...] = ()
    activations: "GateActivations | None" = None
    costs: tuple["AttentionCost", ...] = ()


@dataclass(frozen=True)
class Benched:
    """What was found out.

    Attributes:
        model: the network, None where no checkpoint was given.
        artifacts: the files, in their order, as they take the first batch.
        names: what they are called.
        files: those of ONNX among them, with their attention.
        latency: of everything, for every batch.
        assets: what attention costs in each ONNX file that has some, graphs and gates.
    """

    model: LoadedModel | None
    artifacts: tuple[Artifact, ...]
    names: tuple[str, ...]
    files: tuple[OnnxFile, ...]
    latency: Latency
    assets: ReportAssets


@dataclass(frozen=True)
class CleanResult:
    """What was made of a file.

    Attributes:
        path: the cleaned file.
        cleaned: what was done.
        verdict: of the comparison with the source graph in ONNX Runtime; None where the source graph does not run.
        not_compared: why it does not; empty where it runs.
        nodes_before, nodes_after: in the main graph.
    """

    path: Path
    cleaned: Cleaned
    verdict: Verdict | None
    not_compared: str
    nodes_before: int
    nodes_after: int


@dataclass(frozen=True)
class Deployed:
    """What was made of one ONNX file.

    Attributes:
        engines: one, or none if only bundles were asked for.
        bundles: one for each architecture that is built for on the device.
    """

    engines: tuple[EngineFile, ...]
    bundles: tuple[Path, ...]


@dataclass(frozen=True)
class Retyped:
    """A file of another precision, made of the one that was given.

    Attributes:
        path: the file.
        kept: nodes that stay in float32.
        verdict: of the comparison with the float32 file.
    """

    path: Path
    kept: tuple[Float32Node, ...]
    verdict: Verdict


@dataclass(frozen=True)
class BuildResult:
    """What `build_all` made, under the names that people see.

    Attributes:
        retyped: files of other precisions.
        engines, bundles: made of these, or of the file that was given.
    """

    retyped: tuple[Retyped, ...]
    engines: tuple[EngineFile, ...]
    bundles: tuple[Path, ...]


@dataclass(frozen=True)
class Proven:
    """An ONNX file, and that it computes what PyTorch computes."""

    file: OnnxFile
    verdict: Verdict


@dataclass(frozen=True)
class Validated:
    """One artifact and what was found.

    Attributes:
        artifact: what it says of itself.
        signature: what it was given, and what of the network its outputs are.
        notes: what isn't alike, and how it was taken.
        verdict: None where it couldn't be run.
        quality: quantization quality, of a quantized artifact.
        first_divergence: the first divergent layer, where found.
        error: why it isn't good; None for one that agrees.
    """

    artifact: Artifact
    signature: Signature
    notes: tuple[str, ...]
    verdict: Verdict | None = None
    quality: "Quality | None" = None
    first_divergence: "FirstDivergence | None" = None
    error: AttnExportError | None = None


@dataclass(frozen=True)
class ExportResult:
    """What was made.

    Attributes:
        files: the ONNX files, in the order of the precisions.
        report_path: the report, as a file.
        verdicts: of the files, agreeing; a disagreement is an error and no result.
        latency: of everything that was timed.
        report: its content.
        engines, bundles: where engines were asked for.
        reverted: rewrites that the cleanup reverted because they would have changed the result: defects of rules.
    """

    files: tuple[Path, ...]
    report_path: Path
    verdicts: tuple[Verdict, ...]
    latency: Latency
    report: Report
    engines: tuple[EngineFile, ...] = ()
    bundles: tuple[Path, ...] = ()
    reverted: tuple["RevertedRewrite", ...] = ()

    @property
    def onnx(self) -> Path:
        """The first ONNX file."""
        return self.files[0]

    @property
    def timings(self) -> tuple[Timing, ...]:
        """One for each runtime, in the order asked."""
        return self.latency.timings

    @property
    def verdict(self) -> Verdict:
        """Of the first ONNX file."""
        return self.verdicts[0]


@dataclass(frozen=True)
class Made:
    """A file, and what the way to it tells.

    Attributes:
        file: on disk.
        reverted: rewrites that were reverted.
        before: the graph as it was captured, where somebody wants to see it.
    """

    file: OnnxFile
    reverted: tuple["RevertedRewrite", ...]
    before: Outline | None
