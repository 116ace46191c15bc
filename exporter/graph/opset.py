"""Raises the operator set of a graph, with ONNX's own converter."""

import numpy as np
import onnx
import onnx_ir as ir

from attn_export.exporter.errors import InputError, first_line
from attn_export.exporter.graph.read import named


def raise_opset(model: ir.Model, opset: int) -> ir.Model:
    """The graph in a newer operator set, its weights in memory; nodes keep their names and metadata.

    Raises:
        InputError: ONNX's converter (https://onnx.ai/onnx/api/version_converter.html) can't convert it.
    """
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            value.const_value = ir.Tensor(np.array(value.const_value.numpy()), name=value.name)
    try:
        converted = ir.from_proto(onnx.version_converter.convert_version(ir.to_proto(model), opset))
    except Exception as error:
        raise InputError(
            f"ONNX's converter can't raise the graph to opset {opset}: {first_line(error)}",
            hint="Export it again with a newer opset.",
        ) from error
    known = {node.name: node for node in model.graph}
    for node in converted.graph:
        if node.name in known:
            node.metadata_props.update(known[node.name].metadata_props)
    converted.metadata_props.update(model.metadata_props)
    return named(converted)
