"""``[RUNTIME:]METRIC=VALUE``, as it is written on the command line."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from attn_export.exporter.errors import UsageError
from attn_export.exporter.records.budget import Budget, Metric

FORM = re.compile(
    r"(?:(?P<runtime>[^:=]*):)?(?P<metric>[^:=]*)=\s*(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)"
    r"\s*(?P<unit>[^0-9\s.]*)"
)
# What a number is multiplied with to be in the metric's own unit.
FACTORS: Mapping[Metric, Mapping[str, str]] = {
    Metric.LATENCY: {"": "1", "ms": "1", "s": "1000"},
    Metric.P99: {"": "1", "ms": "1", "s": "1000"},
    Metric.RATIO: {"": "1", "x": "1", "×": "1", "%": "0.01"},
    Metric.DROP: {"": "1", "%": "1"},
}
EXAMPLE: Mapping[Metric, str] = {
    Metric.LATENCY: "latency=3ms",
    Metric.P99: "p99=5ms",
    Metric.RATIO: "ratio=0.8",
    Metric.DROP: "drop=0.5%",
}
SHOWN = "onnxruntime:latency=3ms, ratio=0.8 or drop=0.5%"


def parse_budgets(parts: Iterable[str], runtimes: Sequence[str]) -> tuple[Budget, ...]:
    """Several, each for another figure. Raises UsageError: one can't be understood, or two limit the same figure."""
    budgets: list[Budget] = []
    for part in parts:
        budget = parse_budget(part, runtimes)
        twin = next((b for b in budgets if (b.runtime, b.metric) == (budget.runtime, budget.metric)), None)
        if twin is not None:
            raise UsageError(
                f"--budget {twin.text} and --budget {budget.text} limit the same figure", hint="Leave one of them out."
            )
        budgets.append(budget)
    return tuple(budgets)


def parse_budget(text: str, runtimes: Sequence[str]) -> Budget:
    """``onnxruntime:latency=3ms``, or ``drop=0.5%``.

    ``runtimes`` are the names that it may begin with.

    Raises:
        UsageError: it isn't of this form, names what there isn't, has another metric's unit, or can't be kept.
    """
    text = text.strip()
    found = FORM.fullmatch(text)
    if found is None:
        raise UsageError(
            f"--budget {text!r} can't be understood; expected is [RUNTIME:]METRIC=VALUE", hint=f"For example {SHOWN}."
        )
    metric = _metric(text, found["metric"].strip())
    runtime = _runtime(text, found["runtime"], metric, runtimes)
    factors = FACTORS[metric]
    if found["unit"] not in factors:
        known = " or ".join(unit for unit in factors if unit)
        raise UsageError(
            f"--budget {text}: {found['unit']!r} is no unit of {metric}; expected is {known}",
            hint=f"For example {EXAMPLE[metric]}.",
        )
    limit = float(Decimal(found["number"]) * Decimal(factors[found["unit"]]))
    _refuse_impossible(text, metric, limit)
    return Budget(text, metric, limit, runtime)


def _metric(text: str, name: str) -> Metric:
    known = [metric.value for metric in Metric]
    if name not in known:
        raise UsageError(f"--budget {text}: there is no metric {name!r}", hint=_nearest(name, known))
    return Metric(name)


def _runtime(text: str, name: str | None, metric: Metric, runtimes: Sequence[str]) -> str | None:
    if name is None:
        return None
    name = name.strip()
    if name not in runtimes:
        raise UsageError(
            f"--budget {text}: there is no runtime {name!r}",
            hint=_nearest(name, runtimes) if name else f"Leave out the colon: {EXAMPLE[metric]}.",
        )
    return name


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known are {', '.join(known)}."


def _refuse_impossible(text: str, metric: Metric, limit: float) -> None:
    """Limits that nothing could keep, or that anything would."""
    if metric is Metric.DROP and not 0 <= limit <= 100:
        raise UsageError(f"--budget {text}: a share of images is between 0 % and 100 %", hint="For example drop=0.5%.")
    if math.isinf(limit):
        raise UsageError(f"--budget {text}: anything keeps that; expected is a number", hint=f"For example {SHOWN}.")
    if metric.timed and limit <= 0:
        raise UsageError(
            f"--budget {text}: nothing can keep that; expected is a number above 0", hint=f"For example {SHOWN}."
        )


def refuse_untimed(budgets: Iterable[Budget], runtimes: Sequence[str]) -> None:
    """Find out before the work begins that something isn't timed. Raises UsageError: there is a budget for it."""
    for budget in budgets:
        if budget.metric.timed and not runtimes:
            raise UsageError(f"--budget {budget.text}: nothing is timed", hint="Leave out --no-bench, or the budget.")
        if budget.metric.timed and budget.runtime is not None and budget.runtime not in runtimes:
            raise UsageError(
                f"--budget {budget.text}: {budget.runtime} isn't timed",
                hint=f"Name it in --runtimes too; timed are {', '.join(runtimes)}.",
            )
