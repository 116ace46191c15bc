"""Sensitivity of layers and blocks, and the fewest layers in float32 for a required quality."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attn_export.cli import run
from attn_export.exporter.errors import DisagreementError
from attn_export.exporter.precision.int8.choose import Trial, Work
from attn_export.exporter.precision.int8.quality import worst
from attn_export.exporter.precision.int8.ranges import Method
from attn_export.exporter.precision.int8.rounding import Rounding
from attn_export.exporter.precision.int8.search import fewest
from attn_export.exporter.precision.int8.settings import QuantizeSettings
from attn_export.exporter.records.document import encode
from attn_export.exporter.records.quantization import Quantization, SearchState
from attn_export.exporter.workflows.quantize import quantize_file
from tests.faults.planting import Subject

FAST = QuantizeSettings(method=Method.MINMAX, correct_bias=False, rounding=Rounding.NEAREST, threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network and images."""
    folder = tmp_path_factory.mktemp("search")
    assert Subject("se_digits", folder).file.path == folder / "se_digits.onnx"
    images = np.random.default_rng(0).standard_normal((16, 1, 16, 16)).cumsum(2).astype(np.float32)
    np.save(folder / "images.npy", images / 4)
    return folder


def made(folder: Path, settings: QuantizeSettings) -> Quantization:
    return quantize_file(folder / "se_digits.onnx", folder / "a.onnx", folder / "images.npy", settings=settings)


def test_each_layer_and_block_is_quantized_alone(folder: Path) -> None:
    record = made(folder, replace(FAST, sensitivity=True))
    layers = [one for one in record.sensitivity if one.kind == "layer"]
    blocks = [one for one in record.sensitivity if one.kind == "block"]
    assert {layer.node for layer in record.layers} < {name for one in layers for name in one.nodes}
    assert "layer1.0.bn1" in {one.name for one in layers}
    assert "layer1.0" in {one.name for one in blocks}
    for group in (layers, blocks):
        errors = [worst(one.quality) for one in group]
        assert errors == sorted(errors)
        assert min(errors) > worst(record.quality) - 1  # a part has no larger error than the whole
    noise = sum(10 ** (-worst(one.quality) / 10) for one in layers)
    assert noise == pytest.approx(10 ** (-worst(record.quality) / 10), rel=1)  # errors of layers hardly correlate


def test_the_most_sensitive_layers_stay_in_float32_until_the_quality_suffices(folder: Path) -> None:
    plain = made(folder, FAST)
    wanted = worst(plain.quality) + 3
    record = made(folder, replace(FAST, min_sqnr=wanted))
    assert worst(record.quality) >= wanted
    assert 0 < len(record.layers) < len(plain.layers)
    kept = [node.node for node in record.kept if node.reason == "excluded"]
    order = [name for one in record.sensitivity if one.kind == "layer" for name in one.nodes]
    left = len(order) - len({*kept} & {*order})
    assert {*kept} <= {*order[: len(order) - left + 2]}  # residual sums may stand between them
    stored = {node.op_type for node in onnx.load(folder / "a.onnx").graph.node}
    assert "QuantizeLinear" in stored


def test_a_quality_that_no_assignment_reaches_is_an_error(folder: Path) -> None:
    (folder / "a.onnx").unlink(missing_ok=True)
    with pytest.raises(DisagreementError, match=r"no assignment of layers .* is good enough"):
        made(folder, replace(FAST, min_sqnr=200.0))
    assert not (folder / "a.onnx").exists()


def test_the_command_searches_and_shows_the_layers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["quantize", str(folder / "se_digits.onnx"), "--calibration", str(folder / "images.npy"), "--threads", "1"]
    words += ["--ranges", "minmax", "--rounding", "nearest", "--no-correct-bias", "--quiet"]
    words += ["-o", str(folder / "b.onnx")]
    page = folder / "page.html"
    assert run([*words, "--max-drop", "20", "--sensitivity", "--report", str(page)]) == 0
    written = page.read_text()
    assert written.count("<svg") >= 2
    assert "layer1.0.bn1" in written
    assert "error of the outputs" in written
    printed = capsys.readouterr().out
    assert "Each layer quantized alone" in printed
    assert "Each block quantized alone" in printed
    assert run([*words, "--min-sqnr", "200"]) == 1
    assert "--min-sqnr" in capsys.readouterr().err


def test_an_interrupted_search_goes_on_where_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = replace(FAST, min_sqnr=worst(made(folder, FAST).quality) + 3)
    whole, notes, titles = made(folder, wanted), folder / "a.onnx.search.json", list[str]()
    assert not notes.exists()
    trial = Work.trial

    def until(last: int) -> Callable[..., Trial]:
        def counted(work: Work, title: str, *rest: Any) -> Trial:
            if len(titles) == last:
                raise KeyboardInterrupt
            titles.append(title)
            return trial(work, title, *rest)

        return counted

    monkeypatch.setattr(Work, "trial", until(3))
    with pytest.raises(KeyboardInterrupt):
        made(folder, wanted)
    assert notes.exists()
    monkeypatch.setattr(Work, "trial", until(99))
    again = made(folder, wanted)
    assert (again.kept, again.quality) == (whole.kept, whole.quality)
    assert not notes.exists()
    assert len(titles) == len(set(titles)) + 1, "only the ranges are chosen twice"


def test_notes_of_another_search_are_not_believed(folder: Path) -> None:
    wanted = replace(FAST, min_sqnr=worst(made(folder, FAST).quality) + 3)
    (folder / "a.onnx.search.json").write_text(encode(SearchState("other", judged=((0, ""),))))
    assert worst(made(folder, wanted).quality) >= (wanted.min_sqnr or 0)
    assert not (folder / "a.onnx.search.json").exists()


@given(st.integers(1, 40), st.integers(0, 45))
def test_the_smallest_number_of_layers_is_found(layers: int, needed: int) -> None:
    """The last layer has to stay quantized."""
    tried: list[int] = []

    def good_enough(count: int) -> bool:
        tried.append(count)
        return count >= needed

    assert fewest(layers, good_enough) == (needed if needed < layers else None)
    assert len(tried) == len(set(tried)) <= 2 * layers.bit_length() + 1
