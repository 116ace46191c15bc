"""The section on precision and sensitivity."""

from typing import Any

from attn_export.exporter.report.charts.growth import growth
from attn_export.exporter.report.findings import precision as findings
from attn_export.exporter.report.page.section import Section


def section(record: dict[str, Any]) -> Section:
    """What artifacts compute in, what stays in float32 and why, and how errors grow."""
    title = "Precision and sensitivity"
    overview = findings.precision_table(record)
    if not overview.rows:
        return Section("precision", title, "Precision", absent="There is no artifact whose precision could be told.")
    several = len(findings.precisions_judged(record)) > 1
    return Section(
        "precision",
        title,
        "Precision",
        {
            "overview": overview,
            "sentence": findings.growth_sentence(record),
            "growth": growth("growth", record) if several else None,
            "table": findings.growth_table(record) if several else None,
            "kept": findings.kept_tables(record),
        },
    )
