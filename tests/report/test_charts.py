"""Charts: they show the given numbers, and stay within one page."""

import base64
from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from msgspec.structs import replace

from attn_export.exporter.records.report import Report
from attn_export.exporter.records.verdict import Comparison, Verdict
from attn_export.exporter.report.charts.axes import set_ticks
from attn_export.exporter.report.charts.distributions import distributions
from attn_export.exporter.report.charts.errors import errors
from attn_export.exporter.report.charts.pictures import heat, overlay, picture
from attn_export.exporter.report.charts.speed import speeds
from attn_export.exporter.report.charts.svg import canvas, finished
from attn_export.exporter.report.findings.gates import Gate, Image
from attn_export.exporter.report.findings.latency import by_batch, labels_of
from attn_export.exporter.report.findings.table import table
from attn_export.exporter.report.findings.words import speed
from tests.report import page
from tests.report.page import Element
from tests.report.sample import sample


@pytest.fixture(scope="module")
def record() -> Report:
    return sample(blocks=3, runtimes=("eager", "onnxruntime", "compile"), rounds=10)


def drawn(svg: str) -> Element:
    (chart,) = page.read(svg).find("svg")
    return chart


def words(svg: str) -> list[str]:
    return [e.text for e in drawn(svg).find("text")]


def hints(svg: str) -> list[str]:
    return [title.own_text for use in drawn(svg).find("use") for title in use.find("title")]


def written(text: str, name: str = "chart") -> str:
    with canvas(100, 50) as figure:
        figure.text(0.1, 0.1, text)
        return finished(figure, name, "finding", table("title", ["name"], [["row"]])).svg


# Shared by all charts.


@settings(max_examples=50, deadline=None)
@given(low=st.floats(1e-6, 1e6), factor=st.floats(1.001, 1e6), logarithmic=st.booleans())
def test_an_axis_has_few_ticks_and_at_least_two(low: float, factor: float, logarithmic: bool) -> None:
    with canvas(500, 200) as figure:
        axes = figure.subplots()
        axes.set(xscale="log" if logarithmic else "linear", xlim=(low, low * factor))
        set_ticks(axes.xaxis)
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= low * factor]
        assert 2 <= len(ticks) <= 10
        labels = [label.get_text() for label in axes.get_xticklabels()]
        assert not any("$" in label for label in labels)


def test_settings_of_matplotlib_are_restored(record: Report) -> None:
    before = dict(mpl.rcParams)
    timings = by_batch(record.latency)[1]
    distributions("chart", timings, labels_of(timings))
    assert dict(mpl.rcParams) == before


def test_a_chart_has_the_colours_of_its_page() -> None:
    svg = written("words")
    assert "var(--ink)" in svg
    assert "#0101" not in svg
    assert drawn(svg).attributes["viewbox"] == "0 0 100 50"


def test_identifiers_of_two_charts_differ(record: Report) -> None:
    timings = by_batch(record.latency)[1]
    first, second = (
        [
            e.attributes["id"]
            for e in drawn(distributions(name, timings, labels_of(timings)).svg).walk()
            if "id" in e.attributes
        ]
        for name in ("one", "two")
    )
    assert len({*first, *second}) == len(first) + len(second)


@pytest.mark.parametrize("text", [r"$\frac{1$", "<script>", 'id="a"', "#010101", "_hidden"])
def test_text_is_drawn_as_it_is(text: str) -> None:
    assert words(written(text)) == [text]


def test_a_legend_names_every_series_whatever_its_name(record: Report) -> None:
    names = ("_hidden", "$x$", "eager")
    chart = errors("chart", dict.fromkeys(names, verdict_of(record)))
    assert chart is not None
    assert set(names) <= set(words(chart.svg))


# Latencies.


def test_every_runtime_has_a_row_with_its_median(record: Report) -> None:
    timings = by_batch(record.latency)[1]
    chart = distributions("chart", timings, labels_of(timings))
    for timing in timings:
        assert timing.runtime in words(chart.svg)
        assert f"{timing.median_ms:.2f} ms" in words(chart.svg)
        assert timing.runtime in chart.finding
    assert [row[0].text for row in chart.data.rows] == [t.runtime for t in timings]


def test_the_slowest_inference_is_in_the_numbers(record: Report) -> None:
    timing = replace(by_batch(record.latency)[1][0], rounds_ms=((1.0,) * 100, (*(1.0,) * 99, 77.0)))
    chart = distributions("chart", [timing], ["eager"])
    assert "77.0" in chart.data.rows[0][-1].text
    assert "77.0 ms" in chart.finding


def test_a_single_latency_is_a_distribution_too(record: Report) -> None:
    timing = replace(by_batch(record.latency)[1][0], rounds_ms=((3.0,),))
    assert "3.00 ms" in words(distributions("chart", [timing], ["eager"]).svg)


def test_speeds_come_with_verdict_and_interval(record: Report) -> None:
    timings = by_batch(record.latency)[1]
    chart = speeds("chart", timings, labels_of(timings), "99 %")
    assert chart is not None
    fast, between = speed(timings[1].ratio, timings[1].ratio_interval)
    assert f"{fast}×, faster" in words(chart.svg)
    assert between in words(chart.svg)
    assert f"{fast} times as fast as eager ({between})" in chart.finding
    assert len(chart.data.rows) == len(timings) - 1


def test_a_single_runtime_has_no_speeds(record: Report) -> None:
    assert speeds("chart", by_batch(record.latency)[1][:1], ["eager"], "99 %") is None


# Errors.


def verdict_of(record: Report) -> Verdict:
    verdict = record.onnx_files[0].validation
    assert verdict is not None
    return verdict


def with_second(record: Report, *, error: float, shapes: dict[str, float | None]) -> Verdict:
    """The verdict with another second comparison."""
    verdict = verdict_of(record)
    first, second, *rest = verdict.comparisons
    changed = Comparison(second.tensor, second.role, second.kind, error, second.baseline, second.limit, {}, shapes)
    return Verdict(verdict.runtime, (first, changed, *rest), verdict.batches)


def test_each_tensor_has_a_named_marker_for_each_artifact(record: Report) -> None:
    verdict = verdict_of(record)
    chart = errors("chart", {"model.onnx": verdict, "model.fp16.onnx": verdict})
    assert chart is not None
    texts = hints(chart.svg)
    assert len(texts) == len(verdict.comparisons) * 2
    for comparison in verdict.comparisons:
        assert sum(text.startswith(f"{comparison.tensor} in ") for text in texts) == 2
    assert "limit" in words(chart.svg)
    assert len(chart.data.rows) == len(verdict.comparisons)


def test_a_tensor_that_disagrees_is_named(record: Report) -> None:
    shapes: dict[str, float | None] = dict.fromkeys(verdict_of(record).comparisons[1].shapes, float("inf"))
    chart = errors("chart", {"model.onnx": with_second(record, error=float("inf"), shapes=shapes)})
    assert chart is not None
    assert any("not a number" in text for text in words(chart.svg))
    assert "DISAGREES in 1 tensor" in chart.finding
    agreeing = errors("chart", {"model.onnx": verdict_of(record)})
    assert agreeing is not None
    assert "DISAGREES" not in agreeing.finding


# Pictures.


def decoded(address: str) -> np.ndarray:
    """The RGB pixels 0..255 of a PNG, (H, W, 3)."""
    data = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    return np.round(imread(BytesIO(data), format="png")[..., :3] * 255).astype(np.uint8)


@pytest.mark.parametrize(("shape", "size"), [((6,), (1, 6)), ((2, 3), (2, 3))])
def test_a_heat_map_has_a_pixel_for_each_value(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    values = bytes([0, 128, 255, 64, 32, 16])
    pixels = decoded(heat(values, shape))
    assert pixels.shape == (*size, 3)
    expected = mpl.colormaps["viridis"](np.frombuffer(values, np.uint8), bytes=True)[:, :3]
    assert np.abs(pixels.reshape(-1, 3).astype(int) - expected).max() <= 2


@pytest.mark.parametrize("channels", [1, 3])
def test_the_sample_image_is_shown_unchanged(channels: int) -> None:
    pixels = bytes(range(6 * channels))
    expected = np.frombuffer(pixels, np.uint8).reshape(2, 3, channels)
    assert np.abs(decoded(picture(Image(pixels, 3, 2, channels, "real"))).astype(int) - expected).max() <= 1


def test_an_overlay_is_as_large_as_needed_and_follows_the_gate() -> None:
    image = Image(bytes([100] * 16), 4, 4, 1, "real")
    gate = Gate("gate", "spatial", (2, 2), {"PyTorch": bytes([0, 0, 255, 255])}, {})
    drawn = overlay(image, gate)
    assert drawn.shape == (224, 224, 3)
    assert drawn[0].mean() < drawn[112].mean() < drawn[-1].mean()
