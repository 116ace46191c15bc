"""Latencies in a terminal: every figure has digits enough, and says what it is a multiple of."""

import io
from dataclasses import asdict
from typing import Any

import pytest
from rich.console import Console

from attn_export.exporter.latency.measure import measure
from attn_export.exporter.records.latency import Schedule
from attn_export.exporter.report.latency import latency_table
from tests.latency.fakes import IMAGES, Scripted


def timed(*seconds: float, files: bool = False) -> list[dict[str, Any]]:
    everyone = [Scripted("onnxruntime" if files else f"runtime{i}", each) for i, each in enumerate(seconds)]
    for i, each in enumerate(everyone):
        each.artifact = f"model{i}.onnx" if files else None
    schedule = Schedule(seconds=60.0, fewest_rounds=8, most_rounds=8)
    return [asdict(timing) for timing in measure(everyone, IMAGES, schedule).timings]


def lines(timings: list[dict[str, Any]]) -> list[str]:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(latency_table({"timings": timings}))
    return console.export_text().splitlines()


@pytest.mark.parametrize(
    ("median", "told"), [(0.00734, "0.00734"), (0.0734, "0.0734"), (0.734, "0.734"), (7.34, "7.34")]
)
def test_a_latency_has_three_digits_however_short_it_is(median: float, told: str) -> None:
    (timing,) = timed(0.001)
    assert told in lines([timing | {"median_ms": median, "median_interval_ms": [median, median]}])[-1].split()


def test_a_long_latency_has_no_more_than_two_decimals() -> None:
    (timing,) = timed(0.001)
    assert "648.12" in lines([timing | {"median_ms": 648.1234, "median_interval_ms": [648.0, 649.0]}])[-1].split()


def test_a_small_ratio_has_three_digits_and_so_have_its_ends() -> None:
    first, second = timed(0.001, 0.001)
    words = lines([first, second | {"ratio": 0.00214, "ratio_interval": [0.00209, 0.741]}])[-1].split()
    assert "0.00214" in words
    assert "0.00209–0.74100" in words


def test_the_baseline_is_named_by_its_runtime_where_that_says_which_it_is() -> None:
    assert "× runtime0" in lines(timed(0.001, 0.001))[1]


def test_the_baseline_is_the_first_where_others_run_in_the_same_runtime() -> None:
    head = lines(timed(0.001, 0.001, files=True))[1]
    assert "× the first" in head
    assert "× onnxruntime" not in head


def test_a_single_runtime_in_two_batches_is_still_named() -> None:
    (timing,) = timed(0.001)
    assert "× runtime0" in lines([timing, timing | {"batch": 8}])[1]
