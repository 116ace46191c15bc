"""What commands other than export and bench print as JSON."""

from msgspec import Struct

from attn_export.exporter.artifacts import AttentionBlock, Step
from attn_export.exporter.records.accuracy import Evaluation
from attn_export.exporter.records.cleanup import AppliedRewrite, RevertedRewrite, SkippedRewrite
from attn_export.exporter.records.document import SCHEMA_VERSION
from attn_export.exporter.records.engine import EngineRecord
from attn_export.exporter.records.images import ImageSource
from attn_export.exporter.records.report import ErrorRecord, Findings, ModelRecord
from attn_export.exporter.records.verdict import Verdict


class CleanSummary(Struct, frozen=True, kw_only=True):
    """`clean`: what the cleanup did to a file, and how the result compares with its source graph."""

    path: str
    nodes_before: int
    nodes_after: int
    steps: tuple[Step, ...]
    applied: tuple[AppliedRewrite, ...]
    skipped: tuple[SkippedRewrite, ...]
    reverted: tuple[RevertedRewrite, ...]
    attention: tuple[AttentionBlock, ...]
    source: Verdict | None
    error: ErrorRecord | None = None
    schema_version: int = SCHEMA_VERSION


class ValidatedArtifact(Findings, frozen=True, kw_only=True):
    """One artifact of `validate`; all but its path and error are None where it can't be read."""

    path: str
    format: str | None
    sha256: str | None
    precision: str | None
    source_sha256: str | None


class ValidationSummary(Struct, frozen=True, kw_only=True):
    """`validate` against a checkpoint."""

    model: ModelRecord
    agrees: bool
    artifacts: tuple[ValidatedArtifact, ...]
    images: ImageSource | None = None
    evaluation: Evaluation | None = None
    error: ErrorRecord | None = None
    schema_version: int = SCHEMA_VERSION


class BundleDescription(Struct, frozen=True):
    """The deployment bundle of `validate BUNDLE ARTIFACT`."""

    path: str
    sha256: str
    architecture: str


class BundleValidation(Struct, frozen=True, kw_only=True):
    """`validate` against the golden outputs of a bundle."""

    bundle: BundleDescription
    artifact: str
    validation: Verdict
    error: ErrorRecord | None = None
    schema_version: int = SCHEMA_VERSION


class PackageSummary(Struct, frozen=True, kw_only=True):
    """`package`: folders of Triton's models, the device folder, and the bytes of each file in them."""

    models: tuple[str, ...] = ()
    device: str | None = None
    files: dict[str, int] = {}
    schema_version: int = SCHEMA_VERSION


class VerifySummary(Struct, frozen=True):
    """`verify` of a package that is as it was made; ``verified`` if its signature was, with a key."""

    folder: str
    files: int
    signed: bool
    verified: bool
    schema_version: int = SCHEMA_VERSION


class Inventory(Struct, frozen=True, kw_only=True):
    """`inspect` of an ONNX file."""

    path: str
    attention: tuple[AttentionBlock, ...]
    schema_version: int = SCHEMA_VERSION


class EngineInspection(Struct, frozen=True, kw_only=True):
    """`inspect` of an engine."""

    path: str
    engine: EngineRecord
    schema_version: int = SCHEMA_VERSION
