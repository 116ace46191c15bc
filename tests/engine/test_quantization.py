"""Quantized files that TensorRT refuses: the hint says what to change in the quantizer."""

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from attn_export.exporter.engine.quantization import BIASES, SCALES, ZERO_POINTS, unmet_demands
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.errors import EngineError
from tests.engine.building import build_file
from tests.engine.graphs import saved, weight

logging.getLogger().setLevel(logging.ERROR)  # the quantizer recommends to prepare the file first
SM86 = EngineSettings(gpus=("sm86",))
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True}


class Noise(CalibrationDataReader):  # type: ignore[misc] # the library has no types
    """Two batches."""

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self.waiting = iter([{"x": draw.standard_normal((2, 8, 8, 8)).astype(np.float32)} for _ in range(2)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.waiting, None)


def quantized(folder: Path, options: dict[str, bool]) -> Path:
    """A convolution with a bias."""
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", pads=[1, 1, 1, 1])]
    source, path = saved(folder / "a.onnx", nodes, [weight("w", 8, 8, 3, 3), weight("b", 8)]), folder / "int8.onnx"
    types = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8}
    quantize_static(str(source), str(path), Noise(), quant_format=QuantFormat.QDQ, extra_options=options, **types)
    return path


def with_a_scale_of_zero(path: Path) -> None:
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == "w_scale")
    tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("options", "zero_scale", "expected"),
    [
        ({**SYMMETRIC, "QuantizeBias": False}, False, []),
        (SYMMETRIC, False, [BIASES]),
        ({"WeightSymmetric": True, "ActivationSymmetric": False, "QuantizeBias": False}, False, [ZERO_POINTS]),
        ({**SYMMETRIC, "QuantizeBias": False}, True, [SCALES]),
    ],
    ids=["good", "int32 biases", "zero points", "scale of zero"],
)
def test_the_hint_says_what_to_change(
    options: dict[str, bool], zero_scale: bool, expected: list[str], tmp_path: Path
) -> None:
    path = quantized(tmp_path, options)
    if zero_scale:
        with_a_scale_of_zero(path)
    assert unmet_demands(path) == expected
    if not expected:
        build_file(path, tmp_path / "a.engine", SM86)
        return
    with pytest.raises(EngineError, match="can't parse") as caught:
        build_file(path, tmp_path / "a.engine", SM86)
    assert caught.value.hint == " ".join(expected)
