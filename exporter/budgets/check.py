"""Whether a record keeps its budgets."""

from collections.abc import Iterator, Sequence

from attn_export.exporter.errors import BudgetError, InputError
from attn_export.exporter.records.budget import (
    BROKEN,
    CANT_TELL,
    FIGURES,
    KEPT,
    Budget,
    BudgetResult,
    BudgetState,
    Metric,
)
from attn_export.exporter.records.report import Report


def state_of(limit: float, value: float, interval: tuple[float, float] | None) -> BudgetState:
    """Broken beyond noise, kept beyond noise, or neither can be told.

    ``limit`` is the largest value that keeps the budget, ``interval`` None for an exact value.
    """
    low, high = interval or (value, value)
    if high <= limit:
        return KEPT
    return BROKEN if low > limit else CANT_TELL


def check_budgets(report: Report, budgets: Sequence[Budget]) -> tuple[BudgetResult, ...]:
    """Hold every budget against all that it is about.

    A budget with a runtime is about that runtime; one without is about every artifact. With several batches it holds
    for each of them. Runs of the module itself (`eager`, `compile`) are meant where they are named only. An artifact
    whose figure isn't known makes one result without a value.

    Raises:
        InputError: a budget is about nothing whose figure is in the report.
    """
    return tuple(result for budget in budgets for result in _results(report, budget))


def failure(results: Sequence[BudgetResult], others: Sequence[str] = ()) -> BudgetError | None:
    """The error for all that is broken, None if nothing is.

    ``others`` are sentences on broken limits of another kind.
    """
    sentences = [*(result.sentence for result in results if result.state == BROKEN), *others]
    if not sentences:
        return None
    return BudgetError("; ".join(sentences), hint="Noise doesn't explain it. Make it faster or better, or allow more.")


def _results(report: Report, budget: Budget) -> list[BudgetResult]:
    found = list(_timed(report, budget) if budget.metric.timed else _dropped(report, budget))
    if not any(result.value is not None for result in found):
        raise InputError(
            f"--budget {budget.text} is about nothing that is known: {_missing(report, budget, found)}",
            hint="A budget that can't be checked isn't taken for kept. Leave it out, or have its figure measured.",
        )
    return found


def _timed(report: Report, budget: Budget) -> Iterator[BudgetResult]:
    value_name, interval_name = FIGURES[budget.metric]
    timings = report.latency.timings
    for timing in timings:
        if budget.runtime is None and timing.artifact is None:
            continue
        if budget.runtime is not None and timing.runtime != budget.runtime:
            continue
        if budget.metric is Metric.RATIO and timing.verdict == "baseline":
            continue  # its ratio to itself
        low, high = getattr(timing, interval_name)
        yield _result(budget, getattr(timing, value_name), (low, high), timing.runtime, timing.artifact, timing.batch)
    if budget.runtime is None:
        ran = {timing.artifact for timing in timings}
        for artifact in report.runnable:
            if artifact.path not in ran:
                yield _unknown(budget, artifact.path, "it wasn't timed")


def _dropped(report: Report, budget: Budget) -> Iterator[BudgetResult]:
    for artifact in report.runnable:
        validation = artifact.validation
        runtime = validation.runtime if validation else None
        if budget.runtime not in (None, runtime):
            continue
        classes = validation.classes if validation else None
        if classes and classes.images:
            share = 100.0 * classes.differ / classes.images
            yield _result(budget, share, None, runtime, artifact.path, None)
        else:
            yield _unknown(
                budget, artifact.path, "it gives no scores of classes" if validation else "it wasn't compared"
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


def _missing(report: Report, budget: Budget, unknown: Sequence[BudgetResult]) -> str:
    """Why there is nothing, in words."""
    if unknown:
        return "; ".join(f"{result.artifact}: {result.reason}" for result in unknown)
    if not budget.metric.timed:
        ran = sorted({a.validation.runtime for a in report.runnable if a.validation})
        return f"nothing was compared in {budget.runtime}" if ran and budget.runtime else "nothing was compared"
    ran = list(dict.fromkeys(timing.runtime for timing in report.latency.timings))
    if not ran:
        return "nothing was timed"
    if budget.runtime in ran:
        return f"{budget.runtime} is the baseline, which ratios are to"
    if budget.metric is Metric.RATIO and any(timing.artifact for timing in report.latency.timings):
        return "the only artifact that was timed is the baseline, which ratios are to"
    return f"timed were {', '.join(ran)}" + ("" if budget.runtime else ", and no artifact")
