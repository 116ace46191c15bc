"""What a record says about budgets."""

from collections import Counter
from typing import Any

from attn_export.exporter.report.findings.table import BAD, GOOD, PLAIN, QUIET, UNSURE, Cell, Table, table
from attn_export.exporter.report.findings.words import SPACE, listed

MOST_TOLD = 4
MARKS = {"kept": GOOD, "broken": BAD, "can't tell": UNSURE}


def budgets_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    """All budgets; none where none was set."""
    return list(record.get("budgets") or [])


def budget_table(record: dict[str, Any]) -> Table:
    """One row for each budget."""
    return table(
        "Budgets",
        ["budget", "<state", "<of", "batch", "allowed", "value", "interval", "<because"],
        [
            [
                b["budget"],
                Cell(b["state"], MARKS.get(b["state"], PLAIN)),
                Cell(of_words(b), QUIET),
                "" if b.get("batch") is None else str(b["batch"]),
                "" if b.get("limit") is None else f"{b['limit']:g}{unit_words(b)}",
                value_words(b),
                "" if not b.get("interval") else f"{b['interval'][0]:.4g} to {b['interval'][1]:.4g}",
                b.get("reason") or "",
            ]
            for b in budgets_of(record)
        ],
    )


def of_words(budget: dict[str, Any]) -> str:
    """The runtime and the artifact that it is of."""
    return ", ".join(dict.fromkeys(str(budget[key]) for key in ("runtime", "artifact") if budget.get(key)))


def unit_words(budget: dict[str, Any]) -> str:
    """The unit, as it stands behind a number; a percent sign and a cross stand close."""
    unit = budget.get("unit") or ""
    return f"{SPACE}{unit}" if unit not in ("", "×") else unit


def value_words(budget: dict[str, Any]) -> str:
    """The value with its unit."""
    if budget.get("value") is None:
        return "not known"
    return f"{budget['value']:.4g}{unit_words(budget)}"


def verdict_words(record: dict[str, Any]) -> tuple[str, str, str] | None:
    """The verdict over all budgets: two words, what they rest on, and a mark; None where none was set."""
    budgets = budgets_of(record)
    if not budgets:
        return None
    states = Counter(b["state"] for b in budgets)
    broken = [b for b in budgets if b["state"] == "broken"]
    counts = ", ".join(f"{states[state]} {state}" for state in MARKS if states[state])
    told = [f"{b['budget']} ({value_words(b)})" for b in budgets]
    if broken:
        names = listed([f"{b['budget']} ({value_words(b)})" for b in broken])
        return f"{len(broken)} of {len(budgets)} broken", f"{counts}. Broken: {names}.", BAD
    if states["can't tell"]:
        return "Can't tell", f"{counts}. The measured intervals reach over the limit.", UNSURE
    every = f"{listed(told)}." if len(budgets) <= MOST_TOLD else f"{counts}."
    return "Kept" if len(budgets) == 1 else f"All {len(budgets)} kept", every, GOOD
