"""Facts about the ONNX file that an engine is built from: inputs, types, modules, attention blocks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir

from attn_export.exporter.artifacts import AttentionBlock, Dim, ParsedFile, Precision
from attn_export.exporter.cleanup.inspect import attention_of
from attn_export.exporter.engine.precision_audit import NodeTypes
from attn_export.exporter.graph.attention.blocks import METADATA_KEY
from attn_export.exporter.graph.attention.paths import module_path
from attn_export.exporter.graph.facts import attribute, dims, is_op, made_by, users
from attn_export.exporter.graph.read import files_of, named, parse
from attn_export.exporter.graph.shapes import infer_shapes
from attn_export.exporter.graph.write import PRODUCER
from attn_export.exporter.precision.half import LAYERS, float_type
from attn_export.exporter.precision.rounding import HALF_TYPES
from attn_export.exporter.system.quiet import quiet

# ONNX defines their statistics in float32 for every input type, unless ``stash_type`` says otherwise.
FLOAT32_STATISTICS = ("LayerNormalization", "GroupNormalization", "RMSNormalization")
SELECTING = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Concat")

PRECISIONS = {kind.dtype: precision for precision, kind in HALF_TYPES.items()} | {ir.DataType.FLOAT: Precision.FP32}


@dataclass(frozen=True)
class GraphFacts:
    """Facts about one ONNX file.

    Attributes:
        io_types: numpy's types of inputs and outputs, by name, where they are known.
        types: node -> types of its inputs and outputs.
        modules: node -> its module path, if known.
        weights: node -> bytes of its constants.
    """

    path: Path
    inputs: dict[str, tuple[Dim, ...]]
    outputs: dict[str, tuple[Dim, ...]]
    types: Mapping[str, NodeTypes]
    modules: Mapping[str, str]
    weights: Mapping[str, int]
    blocks: tuple[AttentionBlock, ...]
    weight_files: tuple[Path, ...] = ()
    io_types: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_types(self) -> frozenset[str]:
        """The types that any node reads or writes."""
        return frozenset().union(*(types.all for types in self.types.values()))


@dataclass(frozen=True)
class OnnxSource:
    """An ONNX file to build engines from; ``cleaned`` says whether the cleanup wrote it."""

    parsed: ParsedFile
    facts: GraphFacts
    precision: Precision
    cleaned: bool


def read_source(path: Path) -> OnnxSource:
    """Read an ONNX file of any exporter.

    Raises:
        UnreadableGraphError: the file is missing, damaged, or not valid ONNX.
        RuntimeUnavailableError: it has no inventory, and onnxscript, which is needed to make one, isn't installed.
    """
    return source_of(parse(path))


def source_of(parsed: ParsedFile) -> OnnxSource:
    """An ONNX file that is parsed already. Raises RuntimeUnavailableError: as `read_source`."""
    model = named(parsed.copy())
    with quiet():
        infer_shapes(model)
    precision = PRECISIONS[float_type(model.graph)]
    cleaned = METADATA_KEY in model.metadata_props or model.producer_name == PRODUCER
    return OnnxSource(parsed, _facts(model, parsed.path), precision, cleaned)


def read_graph(path: Path) -> GraphFacts:
    """The facts alone; raises as `read_source`."""
    return read_source(path).facts


def _facts(model: ir.Model, path: Path) -> GraphFacts:
    """The facts; finding the attention blocks changes the graph, so they come last."""
    outside = sorted(files_of(model) - {path.resolve()})
    return GraphFacts(
        path=path,
        inputs={str(v.name): dims(v) or () for v in model.graph.inputs if v.const_value is None},
        outputs={str(v.name): dims(v) or () for v in model.graph.outputs},
        io_types={str(v.name): str(v.dtype.numpy()) for v in (*model.graph.inputs, *model.graph.outputs) if v.dtype},
        types=_by_name(model, _types, NodeTypes()),
        modules={str(node.name): module for node in model.graph if (module := module_path(node))},
        weights=_by_name(model, _weights, 0),
        blocks=attention_of(model),
        weight_files=tuple(outside),
    )


def _by_name(model: ir.Model, look: Callable[[ir.Node], Any], nothing: Any) -> dict[str, Any]:
    """``look(node)`` added up for each name; names needn't be unique."""
    found: dict[str, Any] = {}
    for node in model.graph:
        before = found.get(str(node.name), nothing)
        found[str(node.name)] = before | look(node) if isinstance(before, NodeTypes) else before + look(node)
    return found


def _types(node: ir.Node) -> NodeTypes:
    reads, writes = ([value for value in values if value is not None] for values in (node.inputs, node.outputs))
    before = [cast.inputs[0] for value in reads if (cast := made_by(value, "Cast")) is not None]
    after = [user.outputs[0] for value in writes for user in users(value) if is_op(user, "Cast")]
    inside = {"FLOAT"} if is_op(node, *FLOAT32_STATISTICS) and attribute(node, "stash_type", 1) == 1 else set()
    types = NodeTypes(_names(reads), _names(writes), _names([*before, *after]) | inside)
    return types | _quantized_types(node, reads, writes)


def _quantized_types(node: ir.Node, reads: Sequence[ir.Value], writes: Sequence[ir.Value]) -> NodeTypes:
    """The types that TensorRT may use beside those of a node that is quantized, or is between quantized tensors.

    It scales in float32 what a layer has summed, and moves a quantization before what only selects or moves values.
    """
    back = [made.inputs[0] for value in reads if (made := made_by(value, "DequantizeLinear")) is not None]
    steps = [user.outputs[0] for value in writes for user in users(value) if is_op(user, "QuantizeLinear")]
    scaling = frozenset({"FLOAT"})
    if is_op(node, *LAYERS) and len(back) > 1:
        return NodeTypes(reads=scaling, writes=scaling, quantized=_names(back))
    if is_op(node, "QuantizeLinear", "DequantizeLinear"):
        return NodeTypes(reads=scaling)
    if is_op(node, *SELECTING) and (back or steps):
        return NodeTypes(reads=scaling, adjacent=_names([*back, *steps]))
    return NodeTypes()


def _names(values: Sequence[ir.Value | None]) -> frozenset[str]:
    return frozenset(value.dtype.name for value in values if value is not None and value.dtype is not None)


def _weights(node: ir.Node) -> int:
    tensors = [value.const_value for value in node.inputs if value is not None and value.const_value is not None]
    return sum(tensor.nbytes for tensor in tensors)
