"""A small model, as a runtime of this process that isn't open."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from tests.latency.samples import ONE, SIGNATURE


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mean of every map, for images of any size."""
    open_shape: list[str | int | None] = ["batch", 3, "height", "width"]
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["input"], ["output"])],
        "mean",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, open_shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3, 1, 1])],
    )
    path = tmp_path_factory.mktemp("model") / "mean.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def runtime(model: Path) -> OnnxRuntime:
    return OnnxRuntime(model, SIGNATURE, ONE)
