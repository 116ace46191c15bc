"""Where a graph is quantized: which layers, and which reads of which tensors.

Layers read int8 activations and int8 weights. Attention blocks stay in float32 by default: their layers are small, and
a gate multiplies a whole map by its error. The rules of residual sums are NVIDIA's (TensorRT documentation, "Explicit
quantization") and ONNX Runtime's (its QDQ transformers fuse an operator only between quantized inputs and outputs).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from attn_export.exporter.artifacts import MODULE_KEY, AttentionBlock, Float32Node, Target
from attn_export.exporter.errors import UsageError
from attn_export.exporter.graph.facts import attribute, constant, is_op, only_user, users

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
NOT_FLOAT32 = "its weights aren't float32 constants"
NARROW = "narrow"
# Tensor cores multiply blocks of 16: fewer outputs, or fewer products in each of their sums, gain nothing from int8.
NARROWEST = 16
FOLLOWING = ("Relu", "Clip")
# What only takes values of its input, so that its output has the same range.
SELECTING = ("MaxPool", "ReduceMax", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
# ONNX Runtime computes these in integers between quantized tensors.
IN_INTEGERS = (*SELECTING, "GlobalAveragePool", "AveragePool", "Concat", "Sigmoid")
Read = tuple[ir.Node, int]


@dataclass(frozen=True)
class Placement:
    """Where a graph is quantized.

    Attributes:
        layers: with int8 weights, in topological order.
        reads: (node, input) pairs that read a quantized activation.
        kept: layers that stay in float32, with the reason.
    """

    layers: tuple[ir.Node, ...]
    reads: frozenset[Read]
    kept: tuple[Float32Node, ...]

    @property
    def values(self) -> set[ir.Value]:
        """The quantized activations."""
        return {value for node, index in self.reads if (value := node.inputs[index]) is not None}


@dataclass(frozen=True)
class Choices:
    """What a user may choose.

    Attributes:
        runtime: TensorRT's symmetric form, or ONNX Runtime's.
        gates: quantize the wide layers of attention blocks and the products with their gates too; None for ONNX
            Runtime alone, where they make SE and CBAM networks half as fast again and more (docs/int8.md).
        exclude: names of nodes, or paths of modules with all that is in them, that stay in float32.
    """

    runtime: Target = Target.TENSORRT
    gates: bool | None = None
    exclude: tuple[str, ...] = field(default=())

    @property
    def with_gates(self) -> bool:
        """Whether gates are quantized."""
        return self.runtime is Target.ONNXRUNTIME if self.gates is None else self.gates


def place(graph: ir.Graph, blocks: Sequence[AttentionBlock], choices: Choices) -> Placement:
    """Decide where a graph is quantized.

    The graph is cleaned float32, with named nodes.

    Raises:
        UsageError: an excluded name is in no node, or no layer is left.
    """
    inside = {name: block for block in blocks for name in block.nodes}
    candidates = [node for node in graph if is_op(node, *LAYERS)]
    # A network of narrow layers alone is quantized all the same.
    narrow = {node for node in candidates if choices.runtime is not Target.ONNXRUNTIME and _is_narrow(node)}
    narrow = narrow if any(node.name not in inside for node in candidates if node not in narrow) else set()
    reasons = {node: _reason(node, inside, choices) or NARROW * (node in narrow) for node in candidates}
    _refuse_unknown(graph, choices.exclude)
    layers = tuple(node for node, reason in reasons.items() if not reason)
    if not layers:
        raise _nothing_left(reasons.values())
    reads = {(node, 0) for node in layers}
    everywhere = choices.runtime is Target.ONNXRUNTIME and choices.with_gates
    sums = [n for n in graph if _is_sum(n) and (everywhere or n.name not in inside) and not _excluded(n, choices)]
    for node in sums:
        reads |= _reads_of_sum(node, set(layers), choices.runtime)
    products = [node for node in graph if choices.with_gates and _is_gate_product(node, inside)]
    reads |= {(node, i) for node in products for i in (0, 1)}
    if choices.runtime is Target.ONNXRUNTIME:
        # It multiplies matrices of integers into floats: rounding a classifier's scores would gain nothing.
        convolutions = (node for node in layers if not is_op(node, "Gemm", "MatMul"))
        reads |= _reads_of_outputs((*convolutions, *sums, *products))
    if everywhere:
        for node in graph:
            if is_op(node, *IN_INTEGERS) and _reads_quantized(node, reads):
                reads |= _reads_of_outputs([node])
    kept = tuple(
        Float32Node(node.name or "", node.metadata_props.get(MODULE_KEY, ""), node.op_type, reason)
        for node, reason in reasons.items()
        if reason
    )
    return Placement(layers, frozenset(reads), kept)


def weight_axis(layer: ir.Node) -> int:
    """The axis of a layer's weights that its output channels lie on."""
    if is_op(layer, "ConvTranspose"):
        return 1
    if is_op(layer, "MatMul"):
        return len(layer.inputs[1].shape or ()) - 1 if layer.inputs[1] is not None else 1
    return 1 if is_op(layer, "Gemm") and not attribute(layer, "transB", 0) else 0


def _reason(node: ir.Node, inside: dict[str, AttentionBlock], choices: Choices) -> str:
    """Why a layer stays in float32, empty if it doesn't."""
    weights = constant(node.inputs[1])
    if weights is None or weights.dtype != "float32":
        return NOT_FLOAT32
    if _excluded(node, choices):
        return "excluded"
    if is_op(node, "ConvTranspose") and attribute(node, "group", 1) != 1:
        return "a grouped ConvTranspose has no axis of output channels"
    block = inside.get(node.name or "")
    return f"{block.kind} of {block.place}" if block is not None and not choices.with_gates else ""


def _is_narrow(node: ir.Node) -> bool:
    weights = constant(node.inputs[1])
    if weights is None:
        return False
    outputs = weights.shape[weight_axis(node)]
    products = weights.size // outputs * int(attribute(node, "group", 1))
    return min(outputs, products) < NARROWEST


def _nothing_left(reasons: Iterable[str]) -> UsageError:
    if NOT_FLOAT32 in (several := set(reasons)) and "excluded" not in several:
        return UsageError(
            "no layer outside of attention has constant float32 weights, so none can be quantized",
            hint="Quantize the float32 file that a float16 one was made of; --around fp16 makes the rest float16.",
        )
    return UsageError("no layer is left to quantize", hint="Exclude less.")


def _excluded(node: ir.Node, choices: Choices) -> bool:
    return any(_covers(name, node) for name in choices.exclude)


def _covers(name: str, node: ir.Node) -> bool:
    path = node.metadata_props.get(MODULE_KEY, "")
    return name in (node.name, path) or path.startswith(f"{name}.")


def _refuse_unknown(graph: ir.Graph, names: Iterable[str]) -> None:
    for name in names:
        if not any(_covers(name, node) for node in graph):
            raise UsageError(
                f"--exclude {name} is no node and no module of the graph",
                hint="attn-export inspect lists the modules of the attention blocks; a viewer shows every node.",
            )


def _is_sum(node: ir.Node) -> bool:
    """Whether a node adds two activations of one shape, as a residual connection does."""
    if not is_op(node, "Add") or any(value is None or constant(value) is not None for value in node.inputs):
        return False
    first, second = node.inputs[0], node.inputs[1]
    return first is not second and first is not None and second is not None and first.shape == second.shape


def _reads_of_sum(node: ir.Node, layers: set[ir.Node], runtime: Target) -> set[Read]:
    """The quantized inputs of a residual sum: for TensorRT all but the one that a layer's kernel can add to."""
    if runtime is Target.ONNXRUNTIME:
        return {(node, 0), (node, 1)}
    fused = [i for i in (0, 1) if (value := node.inputs[i]) is not None and _ends_layer(value, layers)]
    alone = [i for i in (0, 1) if (value := node.inputs[i]) is not None and only_user(value) is node]
    left = next(iter([*fused, *alone]), None)
    return {(node, i) for i in (0, 1) if i != left}


def _ends_layer(value: ir.Value, layers: set[ir.Node]) -> bool:
    return value.producer() in layers and only_user(value) is not None


def _is_gate_product(node: ir.Node, inside: dict[str, AttentionBlock]) -> bool:
    block = inside.get(node.name or "")
    return block is not None and is_op(node, "Mul") and node.outputs[0].name in block.maps


def _reads_quantized(node: ir.Node, reads: set[Read]) -> bool:
    """Whether all activations that a node reads are quantized."""
    read = [index for index, value in enumerate(node.inputs) if value is not None and constant(value) is None]
    return all((node, index) in reads for index in read)


def _reads_of_outputs(nodes: Iterable[ir.Node]) -> set[Read]:
    """All reads of what quantized nodes compute, behind the activation that belongs to them."""
    reads: set[Read] = set()
    for node in nodes:
        value = node.outputs[0]
        follower = only_user(value)
        if follower is not None and is_op(follower, *FOLLOWING):
            value = follower.outputs[0]
        reads |= {
            (reader, index) for reader in users(value) for index, read in enumerate(reader.inputs) if read is value
        }
    return reads
