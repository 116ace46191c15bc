"""The section on budgets."""

from attn_export.exporter.records.report import Report
from attn_export.exporter.report.findings import budgets as findings
from attn_export.exporter.report.page.section import Section


def section(report: Report) -> Section:
    """One table."""
    if not report.budgets:
        return Section("budgets", "Budgets", "Budgets", absent="No budget was set.")
    return Section("budgets", "Budgets", "Budgets", {"budgets": findings.budget_table(report.budgets)})
