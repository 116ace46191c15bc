"""The comparison of two reports, as a document."""

from typing import Literal

from msgspec import Struct

from attn_export.exporter.records.budget import BudgetResult
from attn_export.exporter.records.document import SCHEMA_VERSION
from attn_export.exporter.records.latency import Subject
from attn_export.exporter.records.report import ErrorRecord

PairVerdict = Literal["faster", "slower", "can't tell", "baseline", "not compared"]
Decides = Literal["both", "ratio", "latency"]


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


class Pair(Subject, frozen=True, kw_only=True):
    """One subject in both reports; artifact and provenance are the new report's.

    Attributes:
        old_ratio, new_ratio: to the baseline of each run.
        latency: change of the median; None on another machine, or with too few rounds.
        baseline: the runtime that both ratios are to; None where the runs have no baseline in common.
        ratio: change of the ratio; None where it decides nothing, or with too few rounds.
        decides: the changes that the verdict rests on; None where no verdict is possible.
        verdict: of the new timing against the old.
        broken: slower than allowed, beyond noise.
    """

    old_ms: float
    new_ms: float
    old_ratio: float
    new_ratio: float
    latency: Change | None
    baseline: str | None
    ratio: Change | None
    decides: Decides | None
    verdict: PairVerdict
    broken: bool


class ComparisonReport(Struct, frozen=True, kw_only=True):
    """What became faster or slower between two reports.

    Attributes:
        slower_allowed: by how much a latency may grow, relative.
        only_old, only_new: timings without a counterpart, by name.
        notes: differences between the runs that matter for the comparison, one sentence each.
        error: what is slower than allowed, and the broken budgets; None without either.
    """

    old: ReportSource
    new: ReportSource
    same_machine: bool
    confidence: float
    slower_allowed: float
    pairs: tuple[Pair, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    notes: tuple[str, ...]
    budgets: tuple[BudgetResult, ...] = ()
    error: ErrorRecord | None = None
    schema_version: int = SCHEMA_VERSION
