"""Whether a record keeps its budgets."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from attn_export.exporter.errors import BudgetError, InputError
from attn_export.exporter.records.budget import BROKEN, CANT_TELL, FIGURES, KEPT, Budget, BudgetResult, Metric

RUNNABLE = ("onnx", "engine")


def state_of(limit: float, value: float, interval: tuple[float, float] | None) -> str:
    """Broken beyond noise, kept beyond noise, or neither can be told.

    Args:
        limit: the largest value that keeps the budget.
        value: the figure.
        interval: where it lies; None where it is exact.
    """
    low, high = interval or (value, value)
    if high <= limit:
        return KEPT
    return BROKEN if low > limit else CANT_TELL


def check_budgets(record: dict[str, Any], budgets: Sequence[Budget]) -> tuple[BudgetResult, ...]:
    """Hold every budget against all that it is about.

    A budget with a runtime is about that runtime; one without is about every artifact. With several batches it holds
    for each of them. Runs of the module itself (`eager`, `compile`) are meant where they are named only. An artifact
    whose figure isn't known makes one result without a value.

    Args:
        record: of an export or a bench, see docs/report.md.
        budgets: each for another figure.

    Raises:
        InputError: a budget is about nothing whose figure is in the record.
    """
    return tuple(result for budget in budgets for result in _results(record, budget))


def failure(results: Sequence[BudgetResult], others: Sequence[str] = ()) -> BudgetError | None:
    """The error for all that is broken, None if nothing is.

    Args:
        results: of budgets.
        others: sentences on limits of another kind that are broken too.
    """
    sentences = [*(result.sentence for result in results if result.state == BROKEN), *others]
    if not sentences:
        return None
    return BudgetError(
        "; ".join(sentences),
        broken=sentences,
        hint="That is more than noise explains. Make it as good as it has to be, or allow more.",
    )


def _results(record: dict[str, Any], budget: Budget) -> list[BudgetResult]:
    found = list(_timed(record, budget) if budget.metric.timed else _dropped(record, budget))
    if not any(result.value is not None for result in found):
        raise InputError(
            f"--budget {budget.text} is about nothing that is known: {_missing(record, budget, found)}",
            hint="A budget that can't be checked isn't taken for kept. Leave it out, or have its figure measured.",
        )
    return found


def _timed(record: dict[str, Any], budget: Budget) -> Iterator[BudgetResult]:
    value_key, interval_key = FIGURES[budget.metric]
    timings = record["latency"]["timings"]
    for timing in timings:
        if budget.runtime is None and timing["artifact"] is None:
            continue
        if budget.runtime is not None and timing["runtime"] != budget.runtime:
            continue
        if budget.metric is Metric.RATIO and timing["verdict"] == "baseline":
            continue  # its ratio to itself
        low, high = timing[interval_key]
        yield _result(budget, timing[value_key], (low, high), timing["runtime"], timing["artifact"], timing["batch"])
    if budget.runtime is None:
        ran = {timing["artifact"] for timing in timings}
        for artifact in record["artifacts"]:
            if artifact["format"] in RUNNABLE and artifact["path"] not in ran:
                yield _unknown(budget, artifact["path"], "it wasn't timed")


def _dropped(record: dict[str, Any], budget: Budget) -> Iterator[BudgetResult]:
    for artifact in record["artifacts"]:
        if artifact["format"] not in RUNNABLE:
            continue
        validation = artifact.get("validation")
        runtime = validation["runtime"] if validation else None
        if budget.runtime not in (None, runtime):
            continue
        classes = validation.get("classes") if validation else None
        if classes and classes["images"]:
            share = 100.0 * classes["differ"] / classes["images"]
            yield _result(budget, share, None, runtime, artifact["path"], None)
        else:
            yield _unknown(
                budget, artifact["path"], "it gives no scores of classes" if validation else "it wasn't compared"
            )


def _result(
    budget: Budget,
    value: float,
    interval: tuple[float, float] | None,
    runtime: str | None,
    artifact: str | None,
    batch: int | None,
) -> BudgetResult:
    metric, state = budget.metric, state_of(budget.limit, value, interval)
    return BudgetResult(
        budget.text, metric.value, budget.limit, metric.unit, value, interval, state, runtime, artifact, batch
    )


def _unknown(budget: Budget, artifact: str, reason: str) -> BudgetResult:
    metric = budget.metric
    return BudgetResult(
        budget.text, metric.value, budget.limit, metric.unit, None, None, CANT_TELL, None, artifact, reason=reason
    )


def _missing(record: dict[str, Any], budget: Budget, unknown: Sequence[BudgetResult]) -> str:
    """Why there is nothing, in words."""
    if unknown:
        return "; ".join(f"{result.artifact}: {result.reason}" for result in unknown)
    if not budget.metric.timed:
        ran = sorted({a["validation"]["runtime"] for a in record["artifacts"] if a.get("validation")})
        return f"nothing was compared in {budget.runtime}" if ran and budget.runtime else "nothing was compared"
    ran = list(dict.fromkeys(timing["runtime"] for timing in record["latency"]["timings"]))
    if not ran:
        return "nothing was timed"
    if budget.runtime in ran:
        return f"{budget.runtime} is the baseline, which ratios are to"
    if budget.metric is Metric.RATIO and any(timing["artifact"] for timing in record["latency"]["timings"]):
        return "the only artifact that was timed is the baseline, which ratios are to"
    return f"timed were {', '.join(ran)}" + ("" if budget.runtime else ", and no artifact")


def budget_records(results: Sequence["BudgetResult"]) -> list[dict[str, Any]]:
    """The record's ``budgets``."""
    return [
        {**asdict(result), "interval": None if result.interval is None else list(result.interval)} for result in results
    ]


def apply_budgets(document: dict[str, Any], budgets: "Sequence[Budget]") -> tuple["BudgetResult", ...]:
    """How the figures of a record stand to budgets; noted in it.

    Raises:
        InputError: one is about nothing whose figure is known.
    """
    checked = check_budgets(document, budgets)
    document["budgets"] = budget_records(checked)
    return checked
