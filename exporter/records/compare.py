"""The comparison of two reports, as a document."""

from typing import Literal

from msgspec import Struct

from attn_export.exporter.records.budget import BudgetResult
from attn_export.exporter.records.document import SCHEMA_VERSION
from attn_export.exporter.records.report import ErrorRecord

PairVerdict = Literal["faster", "slower", "can't tell", "baseline", "not compared"]


class ReportSource(Struct, frozen=True):
    """One of the two reports."""

    path: str
    created: str
    model: str | None
    sha256: str | None


class Change(Struct, frozen=True):
    """A ratio new / old, with its confidence interval."""

    estimate: float
    low: float
    high: float


class PairRecord(Struct, frozen=True, kw_only=True):
    """One artifact in one runtime at one batch, in both reports.

    Attributes:
        runtime, artifact, provenance, device, precision, batch: of the new timing.
        old_ms, new_ms: medians.
        old_ratio, new_ratio: to the baseline.
        latency: change of the median; None where the machines differ.
        baseline: the runtime that both ratios are to; None where the reports have different ones.
        ratio: change of the ratio to the baseline.
        decides: which of the two changes the verdict rests on.
        verdict: of the new one.
        broken: slower than allowed.
    """

    runtime: str
    artifact: str | None
    provenance: str
    device: str
    precision: str
    batch: int
    old_ms: float
    new_ms: float
    old_ratio: float
    new_ratio: float
    latency: Change | None
    baseline: str | None
    ratio: Change | None
    decides: Literal["both", "ratio", "latency"] | None
    verdict: PairVerdict
    broken: bool


class Standing(Struct, frozen=True):
    """A validation in one of the reports."""

    agrees: bool | None
    worst_ratio: float | None
    differ: int | None
    images: int | None


class ValidationChange(Struct, frozen=True):
    """An artifact's validation in both reports; None where it has none."""

    artifact: str
    before: Standing | None
    now: Standing | None


class ComparisonReport(Struct, frozen=True, kw_only=True):
    """What became faster or slower between two reports.

    Attributes:
        confidence: of the intervals.
        slower_allowed: by how much a latency may grow, relative.
        only_old, only_new: timings without a counterpart, by name.
        notes: differences in circumstances that matter for the comparison.
    """

    old: ReportSource
    new: ReportSource
    same_machine: bool
    confidence: float
    slower_allowed: float
    pairs: tuple[PairRecord, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    validations: tuple[ValidationChange, ...]
    notes: tuple[str, ...]
    budgets: tuple[BudgetResult, ...] = ()
    error: ErrorRecord | None = None
    schema_version: int = SCHEMA_VERSION
