"""What an artifact may take: limits that are asked for on the command line, and whether a record keeps them."""

from attn_export.exporter.budgets.budget import Budget, Metric
from attn_export.exporter.budgets.check import BROKEN, CANT_TELL, KEPT, BudgetResult, check_budgets, failure
from attn_export.exporter.budgets.parse import parse_budget, parse_budgets, refuse_untimed

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
