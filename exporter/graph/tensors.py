"""Checks of the tensors in a file, before anything is made of them: sizes and types that can't be right."""

import math
from collections.abc import Collection, Iterator
from pathlib import Path

import onnx
import onnx_ir as ir

from attn_export.exporter.errors import UnreadableGraphError
from attn_export.exporter.graph.dialect import bodies_of

MAX_RANK = 64  # NumPy's
LARGEST = 2**47  # elements; more than any address space holds
TYPES = frozenset(onnx.TensorProto.DataType.values()) - {onnx.TensorProto.UNDEFINED}
# Where the elements are that aren't raw data, and how many entries one takes; int32_data for all other types.
FIELDS: dict[int, tuple[str, int]] = {
    onnx.TensorProto.FLOAT: ("float_data", 1),
    onnx.TensorProto.COMPLEX64: ("float_data", 2),
    onnx.TensorProto.DOUBLE: ("double_data", 1),
    onnx.TensorProto.COMPLEX128: ("double_data", 2),
    onnx.TensorProto.INT64: ("int64_data", 1),
    onnx.TensorProto.UINT32: ("uint64_data", 1),
    onnx.TensorProto.UINT64: ("uint64_data", 1),
    onnx.TensorProto.STRING: ("string_data", 1),
}


def check_tensors(proto: onnx.ModelProto, path: Path, mapped: Collection[str]) -> None:
    """Check every weight, and every tensor in an attribute.

    The bytes of the ``mapped`` weights aren't in the message.

    Raises:
        UnreadableGraphError: names the tensor, and says what is wrong.
    """
    nodes = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    weights = ((tensor, tensor.name not in mapped) for tensor in proto.graph.initializer)
    for tensor, has_data in (*weights, *((tensor, True) for tensor in _inner_tensors(nodes))):
        if problem := problem_of(tensor, has_data=has_data):
            raise UnreadableGraphError(
                f"{path} is damaged: its tensor {tensor.name or 'without a name'} {problem}",
                hint="The program that wrote the file has to be mended. Was it copied completely?",
            )


def _inner_tensors(nodes: Collection[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    """The tensors in attributes, and the weights of bodies."""
    bodies = list(bodies_of(nodes))
    for node in (*nodes, *(node for body in bodies for node in body.node)):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
    for body in bodies:
        yield from body.initializer


def problem_of(tensor: onnx.TensorProto, *, has_data: bool) -> str:
    """What can't be right about a tensor; empty if nothing is found."""
    if tensor.data_type not in TYPES:
        return f"is of type {tensor.data_type}, which ONNX doesn't have"
    if len(tensor.dims) > MAX_RANK:
        return f"has {len(tensor.dims)} dimensions, and {MAX_RANK} are the limit"
    if any(size < 0 for size in tensor.dims) or math.prod(size or 1 for size in tensor.dims) > LARGEST:
        return f"has impossible sizes: {'x'.join(map(str, tensor.dims))}"
    if tensor.HasField("segment"):
        return "is stored in segments"
    if not has_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return ""
    return _problem_of_data(tensor)


def _problem_of_data(tensor: onnx.TensorProto) -> str:
    count = math.prod(tensor.dims)
    field, entries = FIELDS.get(tensor.data_type, ("int32_data", 1))
    if tensor.HasField("raw_data"):
        if tensor.data_type == onnx.TensorProto.STRING:
            return "holds text as raw data"
        expected, found = math.ceil(count * ir.DataType(tensor.data_type).bitwidth / 8), len(tensor.raw_data)
        return f"should have {expected} bytes and has {found}" if found != expected else ""
    packed = tensor.data_type != onnx.TensorProto.STRING and ir.DataType(tensor.data_type).bitwidth < 8
    expected, found = 0 if packed else count * entries, len(getattr(tensor, field))
    return f"should have {expected} entries in {field} and has {found}" if found < expected else ""
