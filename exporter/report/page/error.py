"""The section on the error against PyTorch."""

from dataclasses import dataclass

from attn_export.exporter.records.report import Report
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.errors import errors
from attn_export.exporter.report.findings import errors as findings
from attn_export.exporter.report.findings.table import Table
from attn_export.exporter.report.page.section import Section


@dataclass(frozen=True)
class Judged:
    """One artifact that was compared."""

    name: str
    sentences: tuple[str, ...]
    chart: Chart
    worst: Table
    everything: Table | None


def section(report: Report) -> Section:
    """One table over all artifacts, then for each its tensors as a chart and the worst as a table."""
    title = "Error against PyTorch"
    compared = findings.judged(report)
    if not findings.was_requested(report):
        return Section(
            "error", title, "Error", absent="Nothing was compared with PyTorch; attn-export validate does it."
        )
    return Section(
        "error",
        title,
        "Error",
        {
            "overview": findings.artifact_table(report.artifacts),
            "artifacts": [_judged(*pair, f"error-{index}") for index, pair in enumerate(compared)],
        },
    )


def _judged(artifact: findings.Runnable, verdict: Verdict, name: str) -> Judged:
    comparisons = verdict.comparisons
    worst = findings.worst_first(comparisons)
    path = artifact.path
    everything = findings.comparison_table(comparisons, f"All tensors of {path}, in the order of computation")
    return Judged(
        path,
        tuple(findings.artifact_sentences(artifact, verdict)),
        errors(name, artifact.path, verdict),
        findings.comparison_table(worst, f"Nearest to the limit in {path}"),
        everything if len(worst) < len(comparisons) else None,
    )
