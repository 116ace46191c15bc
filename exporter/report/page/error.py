"""The section on the error against PyTorch."""

from dataclasses import dataclass
from typing import Any

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


def section(record: dict[str, Any]) -> Section:
    """One table over all artifacts, then for each its tensors as a chart and the worst as a table."""
    title = "Error against PyTorch"
    compared = findings.judged(record)
    if not findings.was_asked(record):
        return Section(
            "error", title, "Error", absent="Nothing was compared with PyTorch; attn-export validate does it."
        )
    return Section(
        "error",
        title,
        "Error",
        {
            "overview": findings.artifact_table(record),
            "artifacts": [_judged(artifact, f"error-{index}") for index, artifact in enumerate(compared)],
        },
    )


def _judged(artifact: dict[str, Any], name: str) -> Judged:
    comparisons = artifact["validation"]["comparisons"]
    worst = findings.worst_first(comparisons)
    path = artifact["path"]
    everything = findings.comparison_table(comparisons, f"All tensors of {path}, in the order of computation")
    return Judged(
        path,
        tuple(findings.artifact_sentences(artifact)),
        errors(name, artifact),
        findings.comparison_table(worst, f"Nearest to the limit in {path}"),
        everything if len(worst) < len(comparisons) else None,
    )
