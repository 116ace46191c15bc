"""Inputs and outputs of a file's own type: no Casts at the ends, the same names, the same answers."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from attn_export.cli import run
from attn_export.exporter.precision.native_io import make_native
from attn_export.exporter.precision.rounding import FLOAT16 as HALF
from tests.faults.planting import DIGITS
from tests.precision.conftest import FLOAT, FLOAT16, answers, typed

CONV = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
IMAGE = np.random.default_rng(1).standard_normal((2, 3, 12, 12)).astype(np.float32)


def native(text: str, **weights: Any) -> tuple[onnx.ModelProto, ir.Model]:
    model = typed(text, **weights).model
    make_native(model.graph, HALF)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto, model


def test_nothing_is_cast_at_the_ends() -> None:
    text = "(float[N,3,12,12] x) => (float[N,4,10,10] y) { c = Conv(x, w) y = Relu(c) }"
    proto, model = native(text, w=CONV)
    assert [node.op_type for node in model.graph] == ["Conv", "Relu"]
    assert [(v.name, v.dtype) for v in (*model.graph.inputs, *model.graph.outputs)] == [("x", FLOAT16), ("y", FLOAT16)]
    (expected,) = typed(text, w=CONV).run(x=IMAGE)[0]
    (found,) = answers(proto, {"x": IMAGE.astype(np.float16)})
    np.testing.assert_allclose(found.astype(np.float32), expected, atol=0.02)


def test_nodes_in_float32_read_and_write_through_casts() -> None:
    text = "(float[N,3,12,12] x) => (float[N,3,1,1] y, float[N,3,12,12] z) { y = GlobalAveragePool(x) z = Relu(x) }"
    proto, model = native(text)
    assert [node.op_type for node in model.graph] == ["Cast", "GlobalAveragePool", "Relu", "Cast"]
    assert {str(node.op_type): node.outputs[0].dtype for node in model.graph}["GlobalAveragePool"] is FLOAT
    assert [(v.name, v.dtype) for v in model.graph.outputs] == [("y", FLOAT16), ("z", FLOAT16)]
    mean, _ = answers(proto, {"x": IMAGE.astype(np.float16)})
    np.testing.assert_allclose(mean.astype(np.float32), IMAGE.mean((2, 3), keepdims=True), atol=1e-3)


def test_inputs_of_other_types_and_their_readers_stay() -> None:
    text = "(float[3] x, int64[3] k) => (float[3] y, int64[1] n) { f = Cast <to = 1> (k) y = Add(x, f) n = Shape(x) }"
    _, model = native(text)
    assert [(v.name, v.dtype) for v in model.graph.inputs] == [("x", FLOAT16), ("k", ir.DataType.INT64)]
    assert [v.dtype for v in model.graph.outputs] == [FLOAT16, ir.DataType.INT64]


def test_an_export_with_native_types_is_proven_and_built(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    shutil.copy(DIGITS / "se_digits.pt", tmp_path / "model.pt")
    quick = ("--no-bench", "--threads", "1", "--quiet")
    command = (str(tmp_path / "model.pt"), "--engine", "--gpu", "sm86", "--precision", "fp16", "--io", "native", *quick)
    assert run(command) == 0
    report = json.loads((tmp_path / "model.report.json").read_text(encoding="utf-8"))
    (file,) = [artifact for artifact in report["artifacts"] if artifact["format"] == "onnx"]
    assert file["validation"]["agrees"]
    assert [entry["dtype"] for entry in file["inputs"]] == ["float16"]
    engine = json.loads((tmp_path / "model.fp16.engine.json").read_text(encoding="utf-8"))
    assert set(engine["io"]["types"].values()) == {"float16"}
    assert run(["validate", str(tmp_path / "model.pt"), str(tmp_path / "model.fp16.onnx"), "--threads", "1"]) == 0
