"""Charts: that they show the numbers they were given, and leave everything else as it was."""

import base64
import struct
import zlib
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from attn_export.exporter.records.report import Report
from attn_export.exporter.records.verdict import Comparison, Verdict
from attn_export.exporter.report.charts.axes import Scale, legend_places, scale_for, tick_words
from attn_export.exporter.report.charts.distributions import density, distributions
from attn_export.exporter.report.charts.errors import errors
from attn_export.exporter.report.charts.heat import LEVELS, heat, picture
from attn_export.exporter.report.charts.layered import layered
from attn_export.exporter.report.charts.ratios import ratios
from attn_export.exporter.report.charts.strip import strip
from attn_export.exporter.report.charts.svg import canvas, drawing_board, inline
from attn_export.exporter.report.findings.latency import by_batch, labels_of
from tests.report import page
from tests.report.page import Element
from tests.report.sample import sample

FINITE = st.floats(1e-6, 1e6)


@pytest.fixture(scope="module")
def record() -> Report:
    return sample(blocks=3, runtimes=("eager", "onnxruntime", "compile"), rounds=10)


def drawn(svg: str) -> Element:
    (chart,) = page.read(svg).find("svg")
    return chart


def words(svg: str) -> list[str]:
    return [e.text for e in drawn(svg).find("text")]


# What charts share.


@given(low=FINITE, factor=st.floats(1.001, 1e6), logarithmic=st.booleans())
def test_ticks_are_few_in_order_and_on_the_axis(low: float, factor: float, logarithmic: bool) -> None:
    scale = Scale(low, low * factor, logarithmic)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 7
    assert ticks == sorted(ticks)
    assert all(low * 0.999 <= tick <= low * factor * 1.001 for tick in ticks)


@given(values=st.lists(FINITE, min_size=1, max_size=20))
def test_a_scale_holds_all_values(values: list[float]) -> None:
    scale = scale_for(values)
    assert scale.low < scale.high
    assert scale.low <= min(values)
    assert max(values) <= scale.high


def test_values_far_apart_are_drawn_on_a_logarithmic_axis() -> None:
    assert scale_for([0.1, 100.0]).logarithmic
    assert not scale_for([9.0, 10.0]).logarithmic
    assert not scale_for([0.0, 100.0]).logarithmic


def test_ticks_are_spelled_as_people_spell_them() -> None:
    assert tick_words([0.0, 0.5, 1.0]) == ["0.0", "0.5", "1.0"]
    assert tick_words([1, 2, 5, 10]) == ["1", "2", "5", "10"]
    assert tick_words([1000, 2000, 3000]) == ["1000", "2000", "3000"]
    assert tick_words([1e-6, 1e-5]) == ["1e-6", "1e-5"]


@given(entries=st.lists(st.text("abc", min_size=1, max_size=40), min_size=1, max_size=30))
def test_entries_of_a_legend_never_lie_on_each_other(entries: list[str]) -> None:
    places = legend_places(entries, 500.0)
    assert len(places) == len(entries)
    assert len(set(places)) == len(places)
    assert places == sorted(places, key=lambda place: (place[1], place[0]))


def test_settings_of_matplotlib_are_afterwards_as_before(record: Report) -> None:
    before = dict(mpl.rcParams)
    timings = by_batch(record.latency)[1]
    distributions("chart", timings, labels_of(timings))
    assert dict(mpl.rcParams) == before


def test_a_picture_has_the_colours_of_its_page() -> None:
    with canvas(100, 50) as figure:
        drawing_board(figure).text(10, 10, "words")
        svg = inline(figure, "chart", "title", "finding")
    assert "var(--ink)" in svg
    assert "#0101" not in svg
    assert drawn(svg).attributes["viewbox"] == "0 0 100 50"


def test_a_dollar_sign_is_no_formula() -> None:
    with canvas(100, 50) as figure:
        drawing_board(figure).text(10, 10, r"$\frac{1$")
        assert words(inline(figure, "chart", "title", "finding")) == [r"$\frac{1$"]


# Latencies.


def test_every_runtime_has_a_row_and_its_median_is_written(record: Report) -> None:
    timings = by_batch(record.latency)[1]
    chart = distributions("chart", timings, labels_of(timings))
    for timing in timings:
        assert timing.runtime in words(chart.svg)
        assert f"{timing.median_ms:.2f} ms" in words(chart.svg)
        assert timing.runtime in chart.finding
    assert [row[0].text for row in chart.data.rows] == [t.runtime for t in timings]


def test_a_density_is_highest_where_most_values_are_and_ends_where_they_do() -> None:
    times = np.concatenate([np.full(90, 1.0), np.full(10, 2.0)]) + np.linspace(0, 0.01, 100)
    places, dense = density(times, Scale(0.9, 2.2))
    assert dense.max() == 1.0
    assert 0.95 < places[dense.argmax()] < 1.1
    assert (places[0], places[-1]) == (times.min(), times.max())


def test_a_single_latency_is_a_distribution_too(record: Report) -> None:
    timing = replace(by_batch(record.latency)[1][0], rounds_ms=((3.0,),))
    assert "3.00 ms" in words(distributions("chart", [timing], ["eager"]).svg)


def test_ratios_say_the_verdict_and_where_the_interval_lies(record: Report) -> None:
    timings = by_batch(record.latency)[1]
    chart = ratios("chart", timings, labels_of(timings), "99 %")
    assert chart is not None
    low, high = timings[1].ratio_interval
    assert f"{timings[1].ratio:.3f}, faster" in words(chart.svg)
    assert f"{low:.3f} to {high:.3f}" in words(chart.svg)
    assert f"onnxruntime takes {timings[1].ratio:.3f} of eager's time" in chart.finding
    assert len(chart.data.rows) == len(timings) - 1


def test_a_runtime_alone_has_no_ratios(record: Report) -> None:
    assert ratios("chart", by_batch(record.latency)[1][:1], ["eager"], "99 %") is None


# Errors.


def verdict_of(record: Report) -> Verdict:
    verdict = record.onnx_files[0].validation
    assert verdict is not None
    return verdict


def with_second(record: Report, *, error: float, shapes: dict[str, float | None]) -> Verdict:
    """The verdict with another second comparison."""
    verdict = verdict_of(record)
    first, second, *rest = verdict.comparisons
    made = Comparison(second.tensor, second.role, second.kind, error, second.baseline, second.limit, {}, shapes)
    return Verdict(verdict.runtime, (first, made, *rest), verdict.batches)


def test_each_tensor_has_a_mark_for_each_shape_and_says_its_name(record: Report) -> None:
    verdict = verdict_of(record)
    chart = errors("chart", "model.onnx", verdict)
    comparisons = verdict.comparisons
    hints = [e.own_text for use in drawn(chart.svg).find("use") for e in use.find("title")]
    assert len(hints) == len(comparisons) * 3
    for comparison in comparisons:
        assert sum(hint.startswith(f"{comparison.tensor}: ") for hint in hints) == 3
    assert "allowed: 8×" in words(chart.svg)


def test_what_disagrees_is_named_in_the_picture(record: Report) -> None:
    nothing: dict[str, float | None] = dict.fromkeys(verdict_of(record).comparisons[1].shapes, float("inf"))
    broken = with_second(record, error=float("inf"), shapes=nothing)
    chart = errors("chart", "model.onnx", broken)
    assert any("not a number" in text for text in words(chart.svg))
    assert "1 is beyond" in chart.finding
    assert "DISAGREES" in chart.finding
    assert not any("DISAGREES" in text for text in words(errors("chart", "model.onnx", verdict_of(record)).svg))


# Graphs.


def test_the_strip_names_every_block_and_counts_every_node(record: Report) -> None:
    chart = strip("chart", record.graphs[0])
    hints = [e.own_text for e in drawn(chart.svg).find("title")]
    for place in ("layer1.0.attention", "layer2.1.attention"):
        assert any(hint.startswith(f"{place}: CBAM, 16 nodes after") for hint in hints)
    assert [cell.text for cell in chart.data.rows[0]] == ["CBAM", "90", "48"]
    assert "107 nodes as captured, 59 after the cleanup" in chart.finding


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    count = draw(st.integers(1, 24))
    return [sorted(draw(st.sets(st.integers(0, i - 1), max_size=3))) if i else [] for i in range(count)]


@settings(max_examples=80, deadline=None)
@given(inputs=graphs())
def test_nodes_stand_below_what_they_read_and_never_on_each_other(inputs: list[list[int]]) -> None:
    drawing = layered(inputs)
    for node, read in enumerate(inputs):
        assert all(drawing.places[producer][1] < drawing.places[node][1] for producer in read)
    rows: dict[int, list[float]] = {}
    for across, layer in drawing.places:
        rows.setdefault(layer, []).append(across)
    for row in rows.values():
        row.sort()
        assert all(after - before > 0.999 for before, after in pairwise(row))
    ends = sorted((edge[0], edge[-1]) for edge in drawing.edges)
    assert ends == sorted((drawing.places[p], drawing.places[n]) for n, read in enumerate(inputs) for p in read)
    assert all(b[1] - a[1] == 1 for edge in drawing.edges for a, b in pairwise(edge))


def test_a_chain_is_drawn_as_a_straight_line() -> None:
    drawing = layered([[], [0], [1], [2], [0, 3]])
    assert len({round(across, 2) for across, _ in drawing.places}) == 1


# Pictures.


def png(address: str) -> tuple[int, int, int, bytes]:
    """Width, height, kind and rows of a PNG."""
    data = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    parts, place = {}, 8
    while place < len(data):
        (size,), name = struct.unpack(">I", data[place : place + 4]), data[place + 4 : place + 8]
        body = data[place + 8 : place + 8 + size]
        (checksum,) = struct.unpack(">I", data[place + 8 + size : place + 12 + size])
        assert checksum == zlib.crc32(name + body)
        parts[name], place = body, place + 12 + size
    width, height, _, kind = struct.unpack(">IIBB", parts[b"IHDR"][:10])
    return width, height, kind, zlib.decompress(parts[b"IDAT"])


def test_a_gate_is_a_picture_with_a_pixel_for_each_value() -> None:
    width, height, kind, rows = png(heat(bytes([0, 128, 255, 64, 32, 16]), 3, 2))
    assert (width, height, kind) == (3, 2, 3)
    assert rows == bytes([0, 0, LEVELS // 2, LEVELS - 1, 0, LEVELS // 4, LEVELS // 8, LEVELS // 16])


@pytest.mark.parametrize(("channels", "kind"), [(1, 0), (3, 2)])
def test_the_sample_image_is_shown_as_it_is(channels: int, kind: int) -> None:
    pixels = bytes(range(6 * channels))
    width, height, found, rows = png(picture(pixels, 3, 2, channels))
    assert (width, height, found) == (3, 2, kind)
    assert rows == b"\0" + pixels[: 3 * channels] + b"\0" + pixels[3 * channels :]
