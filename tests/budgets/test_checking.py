"""Whether a record keeps its budgets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attn_export.exporter.budgets.check import check_budgets, failure, state_of
from attn_export.exporter.budgets.parse import parse_budgets
from attn_export.exporter.errors import InputError
from attn_export.exporter.records.budget import BROKEN, CANT_TELL, KEPT, BudgetResult
from attn_export.exporter.records.report import Report
from tests.budgets.sample import BUNDLE, ENGINE, FILE, sample_artifact, sample_report, sample_timing, sample_timings

RUNTIMES = ("eager", "onnxruntime", "tensorrt")
RECORD = sample_report()


def checked(record: Report, *budgets: str) -> tuple[BudgetResult, ...]:
    return check_budgets(record, parse_budgets(budgets, RUNTIMES))


def states(record: Report, *budgets: str) -> list[str]:
    return [result.state for result in checked(record, *budgets)]


# The three states.

numbers = st.floats(1e-3, 1e3)


@given(numbers, numbers, st.lists(numbers, min_size=2, max_size=2).map(sorted))
def test_a_state_says_what_the_whole_interval_says(limit: float, value: float, ends: list[float]) -> None:
    low, high = ends
    state = state_of(limit, value, (low, high))
    assert (state == KEPT) == (high <= limit)
    assert (state == BROKEN) == (low > limit)
    assert (state == CANT_TELL) == (low <= limit < high)


@given(numbers, numbers)
def test_what_is_exact_is_always_told(limit: float, value: float) -> None:
    assert state_of(limit, value, None) == (KEPT if value <= limit else BROKEN)


@given(numbers, st.lists(numbers, min_size=2, max_size=2).map(sorted), st.floats(0, 1e3))
def test_a_larger_limit_is_never_harder_to_keep(limit: float, ends: list[float], more: float) -> None:
    order = [BROKEN, CANT_TELL, KEPT]
    before, after = (state_of(each, ends[0], (ends[0], ends[1])) for each in (limit, limit + more))
    assert order.index(after) >= order.index(before)


@pytest.mark.parametrize("metric", ["latency", "p99", "ratio"])
def test_at_the_ends_of_the_interval_the_state_changes(metric: str) -> None:
    timing = RECORD.latency.timings[1]
    intervals = {"latency": timing.median_interval_ms, "p99": timing.p99_interval_ms, "ratio": timing.ratio_interval}
    low, high = intervals[metric]
    assert states(RECORD, f"{metric}={high!r}") == [KEPT]
    assert states(RECORD, f"{metric}={(low + high) / 2!r}") == [CANT_TELL]
    assert states(RECORD, f"{metric}={low!r}") == [CANT_TELL]
    assert states(RECORD, f"{metric}={low * (1 - 1e-9)!r}") == [BROKEN]


# What a budget is about.


def test_without_a_runtime_it_is_about_artifacts_and_not_the_module() -> None:
    (result,) = checked(RECORD, "latency=3.5")
    assert (result.runtime, result.artifact, result.batch) == ("onnxruntime", FILE, 1)
    assert result.state == KEPT, "PyTorch's 10 ms don't count"


def test_the_module_is_meant_where_its_runtime_is_named() -> None:
    (result,) = checked(RECORD, "eager:latency=3.5")
    assert (result.runtime, result.artifact, result.state) == ("eager", None, BROKEN)


def test_a_budget_holds_for_every_batch() -> None:
    record = sample_report([*sample_timings(batch=1), *sample_timings(80, 24, batch=8)])
    results = checked(record, "latency=10")
    assert [(result.batch, result.state) for result in results] == [(1, KEPT), (8, BROKEN)]


def test_a_budget_holds_for_every_artifact() -> None:
    eager = sample_timing("eager", 10)
    files = [sample_timing("onnxruntime", ms, eager, artifact=name) for name, ms in (("a.onnx", 3), ("b.onnx", 5))]
    record = sample_report([eager, *files], artifacts=(sample_artifact("a.onnx"), sample_artifact("b.onnx")))
    assert [(r.artifact, r.state) for r in checked(record, "latency=4")] == [("a.onnx", KEPT), ("b.onnx", BROKEN)]
    assert len(checked(record, "onnxruntime:latency=4")) == 2


def test_a_ratio_is_never_about_the_baseline() -> None:
    assert [result.runtime for result in checked(RECORD, "ratio=0.9")] == ["onnxruntime"]
    only = sample_timing("onnxruntime", 3, artifact=FILE)
    for budget in ("ratio=2", "onnxruntime:ratio=2"):
        with pytest.raises(InputError, match="the baseline, which ratios are to"):
            checked(sample_report([only]), budget)


def test_drop_is_a_share_of_the_images_and_exact() -> None:
    record = sample_report(artifacts=(sample_artifact(differ=1),))
    (result,) = checked(record, "drop=2%")
    assert (result.value, result.interval, result.unit, result.state) == (2.0, None, "%", KEPT)
    assert states(record, "drop=1.9") == [BROKEN]
    assert states(record, "onnxruntime:drop=0") == [BROKEN]


def test_values_come_with_their_unit_and_limit() -> None:
    (result,) = checked(RECORD, "onnxruntime:latency=0.0035s")
    timing = RECORD.latency.timings[1]
    assert (result.budget, result.metric, result.limit, result.unit) == (
        "onnxruntime:latency=0.0035s",
        "latency",
        3.5,
        "ms",
    )
    assert (result.value, result.interval) == (timing.median_ms, timing.median_interval_ms)


# What isn't known.


def test_an_artifact_that_wasnt_timed_is_said_and_not_taken_for_kept() -> None:
    record = sample_report(artifacts=(sample_artifact(), ENGINE, BUNDLE))
    timed, untimed = checked(record, "latency=3.5")
    assert timed.state == KEPT
    assert (untimed.artifact, untimed.value, untimed.state) == ("model.engine", None, CANT_TELL)
    assert untimed.reason == "it wasn't timed"
    assert failure([timed, untimed]) is None


def test_an_artifact_that_wasnt_compared_is_said_and_not_taken_for_kept() -> None:
    record = sample_report(artifacts=(sample_artifact(), sample_artifact("b.onnx", differ=None), ENGINE, BUNDLE))
    results = checked(record, "drop=0")
    assert [(result.artifact, result.state) for result in results] == [
        (FILE, KEPT),
        ("b.onnx", CANT_TELL),
        ("model.engine", CANT_TELL),
    ]
    assert [result.reason for result in results[1:]] == ["it gives no scores of classes", "it wasn't compared"]


@pytest.mark.parametrize(
    ("record", "budget", "says"),
    [
        (RECORD, "tensorrt:latency=3", "timed were eager, onnxruntime"),
        (sample_report([]), "eager:latency=3", "nothing was timed"),
        (sample_report([]), "latency=3", "model.onnx: it wasn't timed"),
        (sample_report([sample_timing("eager", 9)], artifacts=()), "latency=3", "timed were eager, and no artifact"),
        (RECORD, "eager:ratio=1", "eager is the baseline"),
        (RECORD, "eager:drop=0", "nothing was compared in eager"),
        (sample_report(artifacts=()), "drop=0", "nothing was compared"),
        (
            sample_report(artifacts=(sample_artifact(differ=None),)),
            "drop=0",
            "model.onnx: it gives no scores of classes",
        ),
        (
            sample_report(artifacts=(sample_artifact(validation=None),)),
            "drop=0",
            "model.onnx: it wasn't compared",
        ),
    ],
)
def test_a_budget_about_nothing_is_an_error(record: Report, budget: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        checked(record, budget)
    assert f"--budget {budget}" in caught.value.message
    assert says in caught.value.message
    assert caught.value.hint


# What is said.


def test_the_error_names_budget_value_and_interval_of_all_that_is_broken() -> None:
    results = checked(RECORD, "latency=2", "eager:p99=1s", "eager:latency=5")
    error = failure(results)
    assert error is not None
    assert error.exit_code == 1
    first, second = error.message.split("; ")
    low, high = RECORD.latency.timings[1].median_interval_ms
    assert "--budget latency=2 is broken: the latency of model.onnx in onnxruntime at batch 1 is" in first
    assert f"({low:.4g} to {high:.4g})" in first
    assert "--budget eager:latency=5" in second


def test_what_is_kept_or_cant_be_told_is_no_error() -> None:
    low, high = RECORD.latency.timings[1].median_interval_ms
    assert failure(checked(RECORD, f"latency={(low + high) / 2}", "drop=0")) is None
    assert failure([]) is None
