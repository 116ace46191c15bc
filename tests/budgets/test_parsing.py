"""`--budget [RUNTIME:]METRIC=VALUE`."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attn_export.exporter.budgets.parse import parse_budget, parse_budgets, refuse_untimed
from attn_export.exporter.commands.parse import parse_budget_options
from attn_export.exporter.errors import UsageError
from attn_export.exporter.records.budget import Budget, Metric

RUNTIMES = ("eager", "compile", "onnxruntime", "tensorrt-rtx")
TIMED = [Metric.LATENCY, Metric.P99, Metric.RATIO]


def parsed(text: str) -> Budget:
    return parse_budget(text, RUNTIMES)


# What is understood.


@pytest.mark.parametrize(
    ("text", "metric", "limit", "runtime"),
    [
        ("latency=3", Metric.LATENCY, 3.0, None),
        ("latency=3ms", Metric.LATENCY, 3.0, None),
        ("latency=0.0033s", Metric.LATENCY, 3.3, None),
        ("p99=.5 ms", Metric.P99, 0.5, None),
        ("ratio=0.8", Metric.RATIO, 0.8, None),
        ("ratio=80%", Metric.RATIO, 0.8, None),
        ("ratio=1.5x", Metric.RATIO, 1.5, None),
        ("ratio=1.5×", Metric.RATIO, 1.5, None),
        ("drop=0.5", Metric.DROP, 0.5, None),
        ("drop=0%", Metric.DROP, 0.0, None),
        ("drop=100", Metric.DROP, 100.0, None),
        ("onnxruntime:latency=3", Metric.LATENCY, 3.0, "onnxruntime"),
        (" tensorrt-rtx : p99 = 2.5 ms ", Metric.P99, 2.5, "tensorrt-rtx"),
        ("latency=1e-3s", Metric.LATENCY, 1.0, None),
        ("latency=3.", Metric.LATENCY, 3.0, None),
    ],
)
def test_a_budget_is_understood(text: str, metric: Metric, limit: float, runtime: str | None) -> None:
    assert parsed(text) == Budget(text.strip(), metric, limit, runtime)


@given(
    metric=st.sampled_from(TIMED),
    value=st.floats(1e-6, 1e9),
    runtime=st.sampled_from([None, *RUNTIMES]),
    gap=st.sampled_from(["", " ", "  "]),
)
def test_every_number_that_is_written_is_read(metric: Metric, value: float, runtime: str | None, gap: str) -> None:
    text = f"{runtime + ':' if runtime else ''}{metric}{gap}={gap}{value!r}"
    assert parsed(text) == Budget(text, metric, value, runtime)


@given(st.floats(1e-3, 1e6), st.sampled_from([Metric.LATENCY, Metric.P99]))
def test_seconds_are_a_thousand_milliseconds(value: float, metric: Metric) -> None:
    assert parsed(f"{metric}={value!r}s").limit == pytest.approx(1000 * parsed(f"{metric}={value!r}ms").limit)


@given(st.text(max_size=30))
def test_whatever_is_written_is_a_budget_or_an_error_with_a_hint(text: str) -> None:
    try:
        budget, error = parsed(text), None
    except UsageError as caught:
        budget, error = None, caught
    if error is not None:
        assert error.hint
        assert "--budget" in error.message
    if budget is not None:
        assert math.isfinite(budget.limit)
        assert budget.limit >= 0


def test_comma_lists_and_repetition_are_alike() -> None:
    assert parse_budget_options(["latency=3,drop=0"]) == parse_budget_options(["latency=3", "drop=0"])
    assert len(parse_budget_options(["latency=3, eager:latency=9", "p99=4"])) == 3
    assert parse_budget_options(None) == ()


# What isn't.


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("", "can't be understood", "For example"),
        ("latency", "can't be understood", "For example"),
        ("latency=", "can't be understood", "For example"),
        ("=3", "no metric ''", "Known are"),
        ("latency=fast", "can't be understood", "For example"),
        ("latency=nan", "can't be understood", "For example"),
        ("latency=inf", "can't be understood", "For example"),
        ("latency=3=4", "can't be understood", "For example"),
        ("a:b:latency=3", "can't be understood", "For example"),
        ("latency=3 4", "can't be understood", "For example"),
        ("latency=1e9999", "can't be understood", "For example"),
        ("latency=٣", "can't be understood", "For example"),
        ("latency=1e400", "anything keeps that; expected is a number", "For example"),
        ("latency=0", "nothing can keep that", "For example"),
        ("ratio=0%", "nothing can keep that", "For example"),
        ("p99=-1", "nothing can keep that", "For example"),
        ("drop=-0.1", "between 0 % and 100 %", "drop=0.5%"),
        ("drop=101", "between 0 % and 100 %", "drop=0.5%"),
        ("latency=3%", "'%' is no unit of latency; expected is ms or s", "latency=3ms"),
        ("latency=3us", "'us' is no unit of latency", "latency=3ms"),
        ("ratio=2ms", "'ms' is no unit of ratio", "ratio=0.8"),
        ("drop=1ms", "'ms' is no unit of drop; expected is %", "drop=0.5%"),
        ("latenzy=3", "there is no metric 'latenzy'", "Did you mean latency?"),
        ("Latency=3", "there is no metric 'Latency'", "Did you mean latency?"),
        ("memory=3", "there is no metric 'memory'", "Known are latency, p99, ratio, drop."),
        ("onxruntime:latency=3", "there is no runtime 'onxruntime'", "Did you mean onnxruntime?"),
        ("tflite:latency=3", "there is no runtime 'tflite'", "Known are eager"),
        (":latency=3", "there is no runtime ''", "Leave out the colon"),
    ],
)
def test_what_cant_be_understood_is_named_and_a_right_one_shown(text: str, says: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(text)
    assert says in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("twin", ["latency=3", "latency=4ms", "latency=0.003s"])
def test_two_budgets_of_one_figure_are_refused(twin: str) -> None:
    with pytest.raises(UsageError, match="limit the same figure"):
        parse_budgets(["latency=3ms", "drop=0", twin], RUNTIMES)


def test_the_same_metric_of_two_runtimes_is_two_figures() -> None:
    budgets = parse_budgets(["latency=3", "eager:latency=3", "onnxruntime:latency=3"], RUNTIMES)
    assert [budget.runtime for budget in budgets] == [None, "eager", "onnxruntime"]


def test_a_list_without_a_budget_is_refused() -> None:
    with pytest.raises(UsageError, match="names none"):
        parse_budget_options([" , "])


# What won't be timed.


@pytest.mark.parametrize("text", ["latency=3", "eager:p99=3"])
def test_a_latency_where_nothing_is_timed_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="nothing is timed"):
        refuse_untimed([parsed(text)], ())


def test_a_runtime_that_isnt_timed_is_refused() -> None:
    with pytest.raises(UsageError, match="onnxruntime isn't timed") as caught:
        refuse_untimed([parsed("onnxruntime:ratio=1")], ("eager", "compile"))
    assert "eager, compile" in caught.value.hint


def test_what_can_be_judged_is_not_refused() -> None:
    refuse_untimed([parsed("latency=3"), parsed("eager:latency=3")], ("eager",))
    refuse_untimed([parsed("drop=0"), parsed("onnxruntime:drop=0")], ())
