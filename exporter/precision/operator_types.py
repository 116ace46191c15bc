"""The inputs and outputs that may have a type of 16 bits, from ONNX's operator schemas."""

from collections.abc import Sequence
from functools import lru_cache

import onnx.defs
import onnx_ir as ir

from attn_export.exporter.graph.facts import is_op
from attn_export.exporter.precision.rounding import HalfType

# The schema allows them, but coordinates in an image need more than 11 bits.
NEVER = {("Resize", 1)}


def opset_of(node: ir.Node) -> int:
    """The opset of the node's domain in its graph."""
    imports = node.graph.opset_imports if node.graph is not None else {}
    return imports.get(node.domain) or 1


def is_known(node: ir.Node) -> bool:
    """Whether ONNX defines the operator."""
    return _schema(node.op_type, opset_of(node), node.domain) is not None


def may_read(node: ir.Node, index: int, kind: HalfType) -> bool:
    """Whether the input at this index may have the type."""
    schema = _schema(node.op_type, opset_of(node), node.domain)
    return (node.op_type, index) not in NEVER and schema is not None and _name(kind) in _types(schema.inputs, index)


def may_write(node: ir.Node, index: int, kind: HalfType) -> bool:
    """Whether the output at this index may have the type."""
    schema = _schema(node.op_type, opset_of(node), node.domain)
    return schema is not None and _name(kind) in _types(schema.outputs, index)


def _name(kind: HalfType) -> str:
    return f"tensor({kind})"


def reads_any_type(node: ir.Node, index: int) -> bool:
    """Whether the node takes this input in any type, independently of its output's."""
    return index == 0 and is_op(node, "Cast", "CastLike", "Shape", "Size")


@lru_cache(maxsize=1024)
def _schema(op_type: str, opset: int, domain: str) -> "onnx.defs.OpSchema | None":
    try:
        return onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None


def _types(parameters: "Sequence[onnx.defs.OpSchema.FormalParameter]", index: int) -> set[str]:
    """The types at this index; the last parameter may be variadic."""
    return set(parameters[min(index, len(parameters) - 1)].types) if parameters else set()
