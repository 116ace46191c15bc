"""What an artifact may take: limits that are asked for on the command line, and whether a record keeps them."""

from attn_export.exporter.budgets.check import check_budgets, failure
from attn_export.exporter.budgets.parse import parse_budget, parse_budgets, refuse_untimed
from attn_export.exporter.records.budget import BROKEN, CANT_TELL, KEPT, Budget, BudgetResult, Metric

__all__ = [
    "BROKEN",
    "CANT_TELL",
    "KEPT",
    "Budget",
    "BudgetResult",
    "Metric",
    "check_budgets",
    "failure",
    "parse_budget",
    "parse_budgets",
    "refuse_untimed",
]
