"""The section on budgets."""

from typing import Any

from attn_export.exporter.report.findings import budgets as findings
from attn_export.exporter.report.page.section import Section


def section(record: dict[str, Any]) -> Section:
    """One table."""
    if not findings.budgets_of(record):
        return Section("budgets", "Budgets", "Budgets", absent="No budget was set.")
    return Section("budgets", "Budgets", "Budgets", {"budgets": findings.budget_table(record)})
