"""Budgets and their verdict."""

from collections import Counter
from collections.abc import Sequence

from attn_export.exporter.records.budget import BudgetResult
from attn_export.exporter.report.findings.table import BAD, GOOD, QUIET, UNSURE, Cell, Table, table
from attn_export.exporter.report.findings.words import SPACE, listed

MOST_NAMED = 4
MARKS = {"kept": GOOD, "broken": BAD, "can't tell": UNSURE}


def budget_table(budgets: Sequence[BudgetResult]) -> Table:
    """One row for each figure with a limit."""
    return table(
        "Budgets",
        ["budget", "<state", "<of", "batch", "limit", "value", "interval", "<because"],
        [
            [
                budget.budget,
                Cell(budget.state, MARKS[budget.state]),
                Cell(", ".join(filter(None, (budget.runtime, budget.artifact or "the module"))), QUIET),
                "" if budget.batch is None else str(budget.batch),
                f"{budget.limit:g}{_unit(budget)}",
                value_words(budget),
                "" if not budget.interval else f"{budget.interval[0]:.4g} to {budget.interval[1]:.4g}",
                budget.reason,
            ]
            for budget in budgets
        ],
    )


def _unit(budget: BudgetResult) -> str:
    return budget.unit if budget.unit in ("", "×") else f"{SPACE}{budget.unit}"


def value_words(budget: BudgetResult) -> str:
    """The value with its unit."""
    return "unknown" if budget.value is None else f"{budget.value:.4g}{_unit(budget)}"


def verdict_words(budgets: Sequence[BudgetResult]) -> tuple[str, str, str] | None:
    """The verdict over all budgets: two words, a sentence with the basis, and a mark; None without budgets."""
    if not budgets:
        return None
    states = Counter(budget.state for budget in budgets)
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    if broken := [f"{b.budget} ({value_words(b)})" for b in budgets if b.state == "broken"]:
        return f"{len(broken)} of {len(budgets)} broken", f"{counts}. Broken: {listed(broken)}.", BAD
    if states["can't tell"]:
        return "Can't tell", f"{counts}. The confidence intervals contain the limit.", UNSURE
    values = f"{listed([f'{b.budget} ({value_words(b)})' for b in budgets])}."
    return (
        "Kept" if len(budgets) == 1 else f"All {len(budgets)} kept",
        values if len(budgets) <= MOST_NAMED else f"{counts}.",
        GOOD,
    )
