"""Graphs written in ONNX's own text form, changed to float16, and run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from attn_export.exporter.artifacts import MODULE_KEY, Float32Node
from attn_export.exporter.precision import rounding
from attn_export.exporter.precision.half import to_half
from attn_export.exporter.precision.rounding import HalfType

FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16


class Typed:
    """A graph before and after."""

    def __init__(
        self, text: str, largest: Mapping[str, float], opset: int, weights: Mapping[str, Any], kind: HalfType
    ) -> None:
        proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> main {text}')
        for name, array in weights.items():
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        for number, node in enumerate(proto.graph.node):
            node.name = node.name or f"node_{node.output[0] or number}"
            node.metadata_props.add(key=MODULE_KEY, value=f"path.{node.output[0]}")
        self.before = proto
        self.model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
        self.kept: tuple[Float32Node, ...] = to_half(self.model, largest, kind)
        self.after = ir.to_proto(self.model)

    @property
    def reasons(self) -> dict[str, str]:
        return {kept.node: kept.reason for kept in self.kept}

    def reads(self, name: str) -> str:
        """The first input of a node."""
        return next(node.input[0] for node in self.after.graph.node if node.name == name)

    @property
    def types(self) -> dict[str, ir.DataType | None]:
        values = [*self.model.graph.inputs, *self.model.graph.initializers.values()]
        values += [value for node in self.model.graph for value in node.outputs]
        return {str(value.name): value.dtype for value in values}

    def ops(self) -> list[str]:
        return [node.op_type for node in self.model.graph]

    def run(self, **feeds: Any) -> tuple[list[Any], list[Any]]:
        """What both answer in ONNX Runtime, without its optimizations."""
        return answers(self.before, feeds), answers(self.after, feeds)

    def check(self) -> None:
        """What has to be true of every graph."""
        check(self.after)
        for name in ("input", "output"):
            assert [(v.name, v.type.tensor_type.elem_type) for v in getattr(self.before.graph, name)] == [
                (v.name, v.type.tensor_type.elem_type) for v in getattr(self.after.graph, name)
            ]
        before = [node.name for node in self.before.graph.node if node.op_type not in ("Cast", "Constant")]
        after = [node.name for node in self.after.graph.node]
        assert [name for name in after if name in before] == before
        assert len(set(after)) == len(after)


def answers(proto: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[Any] = session.run(None, dict(feeds))
    return found


def check(proto: onnx.ModelProto) -> None:
    """Valid, typed throughout as ONNX infers it anew, and no Cast reads a Cast between the two floats."""
    onnx.checker.check_model(proto, full_check=True)
    bare = onnx.ModelProto.FromString(proto.SerializeToString())
    del bare.graph.value_info[:]
    anew = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(bare).graph.value_info}
    for value in proto.graph.value_info:
        assert anew.get(value.name, value.type.tensor_type.elem_type) == value.type.tensor_type.elem_type, value.name
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    to = {n.output[0]: n.attribute[0].i for n in proto.graph.node if n.op_type == "Cast"}
    for node in proto.graph.node:
        if node.op_type == "Cast" and to[node.output[0]] in floats:
            assert to.get(node.input[0]) not in floats, f"{node.name} reads a Cast"


def typed(
    text: str,
    largest: Mapping[str, float] | None = None,
    opset: int = 20,
    checked: bool = True,
    kind: HalfType = rounding.FLOAT16,
    **weights: Any,
) -> Typed:
    made = Typed(text, largest or {}, opset, weights, kind)
    if checked:
        made.check()
    return made


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    def save(proto: onnx.ModelProto, name: str = "model.onnx") -> Path:
        onnx.save(proto, tmp_path / name)
        return tmp_path / name

    return save
