"""One spelling for what programs write into ONNX files in several ways."""

from collections.abc import Iterable, Iterator

import onnx

DEFAULT, SPELLED_OUT = "", "ai.onnx"
# From this version on a weight that is a graph input may be overridden; before, every weight had to be one.
FIRST_IR_WITH_CONSTANTS = 4
# What programs write for the size of any dynamic axis: axes of that "name" needn't be equal.
PLACEHOLDERS = frozenset({"?", "*", "-1", "None", "none", "null", "unknown", "dynamic", "Unknown", "Dynamic"})
Listed = onnx.GraphProto | onnx.FunctionProto


def unify(proto: onnx.ModelProto) -> None:
    """Rewrite a message, in place, to the usual spelling.

    - The default domain may be called "ai.onnx".
    - A dynamic axis may have the size -1 (Paddle2ONNX) or a placeholder for its name: it is one without a name.
    - Before IR version 4 weights are graph inputs; they are constants.
    """
    _name_default_domain(proto.opset_import)
    for function in proto.functions:
        _name_default_domain(function.opset_import)
    for listed in (proto.graph, *proto.functions):
        for inner in (listed, *bodies_of(listed.node)):
            for node in inner.node:
                node.domain = DEFAULT if node.domain == SPELLED_OUT else node.domain
            for value in _values(inner):
                _open_sizes(value.type)
    if proto.ir_version < FIRST_IR_WITH_CONSTANTS:
        weights = {tensor.name for tensor in proto.graph.initializer}
        inputs = [value for value in proto.graph.input if value.name not in weights]
        del proto.graph.input[:]
        proto.graph.input.extend(inputs)
        proto.ir_version = FIRST_IR_WITH_CONSTANTS


def _name_default_domain(imports: "list[onnx.OperatorSetIdProto]") -> None:
    usual = any(entry.domain == DEFAULT for entry in imports)
    for entry in list(imports):
        if entry.domain == SPELLED_OUT and usual:
            imports.remove(entry)
        elif entry.domain == SPELLED_OUT:
            entry.domain = DEFAULT


def bodies_of(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """The bodies of If, Loop and Scan among these nodes, and those in them."""
    for node in nodes:
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                if body.ByteSize():
                    yield body
                    yield from bodies_of(body.node)


def _values(listed: Listed) -> Iterator[onnx.ValueInfoProto]:
    yield from listed.value_info
    if isinstance(listed, onnx.GraphProto):
        yield from listed.input
        yield from listed.output


def _open_sizes(kind: onnx.TypeProto) -> None:
    for size in kind.tensor_type.shape.dim:
        if size.dim_value < 0 or size.dim_param in PLACEHOLDERS:
            size.ClearField(size.WhichOneof("value"))
