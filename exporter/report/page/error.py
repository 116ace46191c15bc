"""The section on the error against PyTorch."""

from collections.abc import Mapping

from attn_export.exporter.records.report import Report
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.report.charts.errors import errors
from attn_export.exporter.report.findings import errors as findings
from attn_export.exporter.report.page.section import Section


def section(report: Report) -> Section:
    """A table over all artifacts, and for each the error ratios of its tensors."""
    title = "Error against PyTorch"
    if not findings.was_requested(report):
        absent = "Nothing was compared with PyTorch; attn-export validate does it."
        return Section("error", title, "Error", absent=absent)
    judged = [_judged(*pair, f"error-{index}") for index, pair in enumerate(findings.judged(report))]
    content = {"overview": findings.artifact_table(report.artifacts), "artifacts": judged}
    return Section("error", title, "Error", content)


def _judged(artifact: findings.Runnable, verdict: Verdict, name: str) -> Mapping[str, object]:
    comparisons, path = verdict.comparisons, artifact.path
    worst = findings.worst_first(comparisons)
    everything = findings.comparison_table(comparisons, f"All tensors of {path}, in the order of computation")
    return {
        "name": path,
        "sentences": findings.artifact_sentences(artifact, verdict),
        "chart": errors(name, path, verdict),
        "worst": findings.comparison_table(worst, f"Nearest to the limit in {path}"),
        "everything": everything if len(worst) < len(comparisons) else None,
    }
