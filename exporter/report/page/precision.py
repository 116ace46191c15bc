"""The section on precision and sensitivity."""

from attn_export.exporter.records.report import Report
from attn_export.exporter.report.charts.growth import growth
from attn_export.exporter.report.findings import precision as findings
from attn_export.exporter.report.page.section import Section


def section(report: Report) -> Section:
    """The precision of each artifact, nodes kept in float32 with the reasons, and errors by precision."""
    title = "Precision and sensitivity"
    overview = findings.precision_table(report)
    if not overview.rows:
        return Section("precision", title, "Precision", absent="The report contains no artifact that can run.")
    several = len(findings.precisions_judged(report)) > 1
    content = {
        "overview": overview,
        "sentence": findings.growth_sentence(report),
        "growth": growth("growth", report) if several else None,
        "table": findings.growth_table(report) if several else None,
        "kept": findings.kept_tables(report),
    }
    return Section("precision", title, "Precision", content)
