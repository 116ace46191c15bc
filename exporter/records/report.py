"""The report of a run: everything that was found out, as one type. docs/report.md describes the fields."""

from typing import Any

from msgspec import Struct

from attn_export.exporter.artifacts import (
    AttentionBlock,
    Axis,
    Float32Node,
    Gate,
    Normalization,
    Postprocessing,
    Preprocessing,
    Step,
)
from attn_export.exporter.errors import AttnExportError
from attn_export.exporter.records.accuracy import Evaluation
from attn_export.exporter.records.attention import AttentionCost
from attn_export.exporter.records.budget import BudgetResult
from attn_export.exporter.records.document import SCHEMA_VERSION
from attn_export.exporter.records.engine import (
    BackendRecord,
    BuildOptions,
    BuildRecord,
    EngineCost,
    PrecisionAudit,
    Range,
    SourceFile,
)
from attn_export.exporter.records.environment import Environment
from attn_export.exporter.records.gates import GateActivations
from attn_export.exporter.records.graphs import GraphOutlines
from attn_export.exporter.records.images import ImageSource
from attn_export.exporter.records.latency import Count, Latency
from attn_export.exporter.records.quantization import Quantization
from attn_export.exporter.records.verdict import FirstDivergence, Quality, Verdict


class ErrorRecord(Struct, frozen=True):
    """An error, as a command prints it."""

    message: str
    hint: str
    exit_code: int

    @classmethod
    def of(cls, error: AttnExportError | None) -> "ErrorRecord | None":
        """The record of an exception, None without one."""
        return cls(error.message, error.hint, error.exit_code) if error else None


class InputRecord(Struct, frozen=True):
    """An input, (N, C, H, W) as traced; the range is None for normalized images and the like."""

    name: str
    dtype: str
    shape: tuple[Count | str | None, ...]
    dynamic_axes: tuple[Axis, ...] = ()
    range: tuple[float, float] | None = None

    def __str__(self) -> str:
        return f"{self.name} {'×'.join('?' if size is None else str(size) for size in self.shape[1:])}"


class ModelRecord(Struct, frozen=True):
    """The network, and how its checkpoint was read.

    Attributes:
        name: the architecture's, or the class of the module.
        checkpoint: path of the file, None for a live module.
        sha256: of the checkpoint, or of the weights where there is no file.
        architecture: the zoo's description, None for another network.
        preprocessing: in the artifacts, which take pixels; ``normalization`` is part of it then.
        postprocessing: in the artifacts, which return probabilities.
    """

    name: str
    checkpoint: str | None
    sha256: str | None
    architecture: dict[str, Any] | None
    inputs: tuple[InputRecord, ...]
    normalization: Normalization | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    postprocessing: Postprocessing | None = None


class Findings(Struct, frozen=True, kw_only=True):
    """What a validation finds out about an artifact: notes, the verdict if it ran, and why it isn't good."""

    notes: tuple[str, ...] = ()
    quantized: Quality | None = None
    first_divergence: FirstDivergence | None = None
    validation: Verdict | None = None
    error: ErrorRecord | None = None

    @property
    def agrees(self) -> bool | None:
        """Whether it computes what the network computes, in the quality that is required; None if that isn't known."""
        return None if self.validation is None else self.validation.agrees and self.error is None


class OnnxRecord(Findings, frozen=True, kw_only=True, tag_field="format", tag="onnx"):
    """An ONNX file; see `OnnxFile`. ``bytes`` counts its weights; None in records of earlier versions."""

    path: str
    precision: str
    kept_in_float32: tuple[Float32Node, ...]
    sha256: str
    opset: int
    nodes: int
    inputs: tuple[InputRecord, ...]
    outputs: tuple[str, ...]
    gates: tuple[Gate, ...]
    cleanup: tuple[Step, ...]
    attention: tuple[AttentionBlock, ...]
    bytes: int | None = None
    quantization: Quantization | None = None


class EngineSummary(Findings, frozen=True, kw_only=True, tag_field="format", tag="engine"):
    """An engine without what its own sidecar lists, see `EngineRecord`; ``kernels`` is their number, if known."""

    path: str
    precision: str | None
    types: PrecisionAudit
    sha256: str
    bytes: int
    backend: BackendRecord
    gpus: tuple[str, ...]
    platform: str
    options: BuildOptions
    profile: dict[str, Range]
    onnx: SourceFile
    cost: EngineCost
    build: BuildRecord
    kernels: int | None
    failed: dict[str, str]
    not_run: str | None


class BundleRecord(Struct, frozen=True, tag_field="format", tag="bundle"):
    """A deployment bundle."""

    path: str
    sha256: str
    bytes: int


ArtifactRecord = OnnxRecord | EngineSummary | BundleRecord


class Report(Struct, frozen=True, kw_only=True):
    """What an export, a bench or a validation found out.

    Attributes:
        command: the command line, None for a call from Python.
        model: the network, None where no checkpoint was given.
        artifacts: in the order in which they were made or named.
        attention_cost: one for each ONNX file with attention, where that was measured.
        gate_activations: of one image; None where nobody looked.
        error: why the run failed; None for one that succeeded.
    """

    created: str
    command: tuple[str, ...] | None
    model: ModelRecord | None
    artifacts: tuple[ArtifactRecord, ...]
    latency: Latency
    environment: Environment
    attention_cost: tuple[AttentionCost, ...] = ()
    graphs: tuple[GraphOutlines, ...] = ()
    gate_activations: GateActivations | None = None
    budgets: tuple[BudgetResult, ...] = ()
    images: ImageSource | None = None
    evaluation: Evaluation | None = None
    error: ErrorRecord | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def runnable(self) -> tuple[OnnxRecord | EngineSummary, ...]:
        """The artifacts without deployment bundles."""
        return tuple(artifact for artifact in self.artifacts if not isinstance(artifact, BundleRecord))

    @property
    def onnx_files(self) -> tuple[OnnxRecord, ...]:
        """The ONNX files among the artifacts."""
        return tuple(artifact for artifact in self.artifacts if isinstance(artifact, OnnxRecord))

    @property
    def engines(self) -> tuple[EngineSummary, ...]:
        """The engines among the artifacts."""
        return tuple(artifact for artifact in self.artifacts if isinstance(artifact, EngineSummary))
