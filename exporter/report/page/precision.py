"""The section on precision and sensitivity."""

from attn_export.exporter.records.report import Report
from attn_export.exporter.report.charts.growth import growth
from attn_export.exporter.report.findings import precision as findings
from attn_export.exporter.report.page.section import Section


def section(report: Report) -> Section:
    """What artifacts compute in, what stays in float32 and why, and how errors grow."""
    title = "Precision and sensitivity"
    overview = findings.precision_table(report)
    if not overview.rows:
        return Section("precision", title, "Precision", absent="There is no artifact whose precision could be told.")
    several = len(findings.precisions_judged(report)) > 1
    return Section(
        "precision",
        title,
        "Precision",
        {
            "overview": overview,
            "sentence": findings.growth_sentence(report),
            "growth": growth("growth", report) if several else None,
            "table": findings.growth_table(report) if several else None,
            "kept": findings.kept_tables(report),
        },
    )
