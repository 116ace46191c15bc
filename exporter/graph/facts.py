"""What a rule may know of a node or value: constants, dimensions, axes, users. Nothing here changes a graph."""

from typing import Any

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import Dim

DEFAULT_DOMAINS = ("", "ai.onnx")
# What turns a gate's logits into factors between 0 and 1.
GATE_ACTIVATIONS = ("Sigmoid", "HardSigmoid")
# Types of sizes, indices and conditions.
WHOLE = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether the node is one of these operators of ONNX's own domain."""
    return node is not None and node.domain in DEFAULT_DOMAINS and node.op_type in op_types


def made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that computes the value as its first output, if it is one of these operators."""
    node = value.producer() if value is not None else None
    return node if node is not None and is_op(node, *op_types) and node.outputs[0] is value else None


def constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The content of an initializer; None for what is computed, and for an initializer that a caller may override."""
    return None if is_overridable(value) else stored(value)


def stored(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The content of an initializer, also of one that a caller may override, or of a Constant; None otherwise."""
    if value is None or (value.producer() is not None and not is_op(value.producer(), "Constant")):
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def is_overridable(value: ir.Value | None) -> bool:
    """Whether the value is an initializer that is listed as a graph input too."""
    return value is not None and value.const_value is not None and value.is_graph_input()


def scalar(value: ir.Value | None) -> float | None:
    """The one number that a constant holds."""
    array = constant(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def dims(value: ir.Value | None) -> tuple[Dim, ...] | None:
    """A number, a name, or None for each axis; None where the rank isn't known."""
    if value is None or value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)


def rank(value: ir.Value | None) -> int | None:
    """How many axes the value has, if that is known."""
    return None if value is None or value.shape is None else len(value.shape)


def is_pooled(value: ir.Value | None) -> bool:
    """Whether the value is (N, C, 1, 1) with a known C."""
    shape = dims(value)
    return shape is not None and len(shape) == 4 and shape[2:] == (1, 1) and isinstance(shape[1], int)


def name_of(value: ir.Value | None, default: str = "weight") -> str:
    """The value's name, for what is made of it."""
    return (value.name if value is not None else None) or default


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """The attribute's Python value."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def attributes_of(node: ir.Node) -> dict[str, Any]:
    """All attributes' Python values."""
    return {name: attribute.value for name, attribute in node.attributes.items()}


def axes_of(node: ir.Node) -> tuple[int, ...] | None:
    """The axes of a Reduce, Squeeze or Unsqueeze, sorted and counted from the front.

    They stand in an attribute or, from opset 13 (18 for the reductions), in an input.

    Returns:
        None where they aren't constant or the rank isn't known. All axes where a reduction names none.
    """
    stated = attribute(node, "axes", None)
    if stated is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        array = constant(node.inputs[1])
        if array is None:
            return None
        stated = array.reshape(-1).tolist()
    total = rank(node.inputs[0])
    if total is None:
        return None
    if node.op_type == "Unsqueeze":
        total += len(stated or ())
    if stated is None:
        if node.op_type == "Squeeze" or attribute(node, "noop_with_empty_axes", 0):
            return None
        return tuple(range(total))
    return tuple(sorted(int(axis) % total for axis in stated))


def other_input(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """Of a binary operator's inputs the one that isn't ``value``."""
    first, second = node.inputs[0], node.inputs[1]
    return second if first is value else first


def read_by(node: ir.Node) -> list[ir.Value]:
    """The values that a node reads, also in the bodies of If and Loop."""
    read = list(node.inputs)
    for found in node.attributes.values():
        bodies = [found.value] if found.type == ir.AttributeType.GRAPH else []
        for body in found.value if found.type == ir.AttributeType.GRAPHS else bodies:
            read += [value for inner in body.all_nodes() for value in inner.inputs]
            read.extend(body.outputs)
    return [value for value in read if value is not None]


def users(value: ir.Value) -> list[ir.Node]:
    """The nodes that read the value, those in the bodies of If and Loop included."""
    return list(dict.fromkeys(node for node, _ in value.uses()))


def only_user(value: ir.Value) -> ir.Node | None:
    """The one node that reads the value, if nothing else does and the graph doesn't return it."""
    reading = users(value)
    return reading[0] if len(reading) == 1 and not value.is_graph_output() else None


def is_read_once(value: ir.Value) -> bool:
    """Whether exactly one node reads the value, and the graph doesn't return it."""
    return only_user(value) is not None and len(value.uses()) == 1
