"""Which inputs and outputs of an operator may be float16, as ONNX's own definitions say it."""

from collections.abc import Sequence
from functools import lru_cache

import onnx.defs
import onnx_ir as ir

from attn_export.exporter.graph.facts import is_op

FLOAT16 = "tensor(float16)"
# Allowed in float16 and better left: coordinates in an image, of which 11 bits are too few.
NEVER = {("Resize", 1)}


def opset_of(node: ir.Node) -> int:
    """The version of the node's domain that its graph imports."""
    imports = node.graph.opset_imports if node.graph is not None else {}
    return imports.get(node.domain) or (imports.get("ai.onnx") if not node.domain else None) or 1


def is_known(node: ir.Node) -> bool:
    """Whether ONNX defines the operator, so that its types are known."""
    return _schema(node.op_type, opset_of(node), node.domain) is not None


def may_read(node: ir.Node, index: int) -> bool:
    """Whether the input at this place may be float16."""
    schema = _schema(node.op_type, opset_of(node), node.domain)
    return (node.op_type, index) not in NEVER and schema is not None and FLOAT16 in _types(schema.inputs, index)


def may_write(node: ir.Node, index: int) -> bool:
    """Whether the output at this place may be float16."""
    schema = _schema(node.op_type, opset_of(node), node.domain)
    return schema is not None and FLOAT16 in _types(schema.outputs, index)


def reads_any_type(node: ir.Node, index: int) -> bool:
    """Whether the node takes this input in whatever type it has, and nothing follows from that for its output."""
    return index == 0 and is_op(node, "Cast", "CastLike", "Shape", "Size")


@lru_cache(maxsize=1024)
def _schema(op_type: str, opset: int, domain: str) -> "onnx.defs.OpSchema | None":
    try:
        return onnx.defs.get_schema(op_type, opset, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        return None


def _types(parameters: "Sequence[onnx.defs.OpSchema.FormalParameter]", index: int) -> set[str]:
    """The types at this place; the last parameter may stand for any number of places."""
    return set(parameters[min(index, len(parameters) - 1)].types) if parameters else set()
