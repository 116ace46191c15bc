"""The generic steps before and after the rules, from onnx-ir, onnxscript and here."""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import onnx_ir.passes.common as common
from onnxscript.optimizer import fold_constants_ir

from attn_export.exporter.cleanup.apply import RewriteLog, apply_to_fixpoint
from attn_export.exporter.cleanup.rule import Context, Rule
from attn_export.exporter.cleanup.rules import fold_known_sizes, resolve_sizes
from attn_export.exporter.graph.facts import WHOLE, attribute, dims, is_op
from attn_export.exporter.graph.limits import grown
from attn_export.exporter.graph.names import unique_name
from attn_export.exporter.graph.randomness import may_share
from attn_export.exporter.graph.shapes import (
    confirm_claims,
    drop_generated_names,
    infer_from_inputs,
    infer_missing_shapes,
    infer_shapes,
)

Apply = Callable[[ir.Model], Any]

# Larger folded constants would bloat the file.
FOLDED_ELEMENTS = 8192
MAX_INFERENCES = 4
# Operators that may be folded: ONNX's reference implementation of others, such as LRN, isn't always right.
FOLDABLE = frozenset(
    "Abs Add And Cast CastLike Ceil Concat Cos Div Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND "
    "Greater GreaterOrEqual Identity Less LessOrEqual Log MatMul Max Mean Min Mod Mul Neg Not OneHot Or Pow Range "
    "Reciprocal ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Round Shape Sigmoid Sign Sin Size "
    "Slice Split Sqrt Squeeze Sub Sum Tanh Tile Transpose Trilu Unsqueeze Where".split()
)
APART = "attn_export.apart"


def apply_and_infer(model: ir.Model, rules: Sequence[Rule], context: Context) -> list[RewriteLog]:
    """Apply rules to a fixpoint, fold and infer shapes with the new constants, and repeat."""
    logs: list[RewriteLog] = []
    for _ in range(MAX_INFERENCES):
        logs.append(apply_to_fixpoint(model, rules, context))
        has_sizes = any(entry.rule == fold_known_sizes.RULE.name for entry in logs[-1].applied)
        if has_sizes:
            fold_constants(model)
        if not logs[-1].applied or (_all_ranked(model) and not has_sizes):
            break
        infer_shapes(model)
    return logs


def resolve_all_sizes(model: ir.Model, context: Context) -> list[RewriteLog]:
    """Fold computed shapes that block shape inference: the inventory needs ranks."""
    return [] if _all_ranked(model) else apply_and_infer(model, (resolve_sizes.RULE, fold_known_sizes.RULE), context)


def _all_ranked(model: ir.Model) -> bool:
    return all(output.shape is not None for node in model.graph for output in node.outputs)


def drop_identities(model: ir.Model) -> None:
    """Drop Identity nodes of the main graph; in the body of an If one may return an outer value."""
    for node in list(model.graph):
        source, output = (node.inputs[0], node.outputs[0]) if is_op(node, "Identity") else (None, None)
        if source is None or output is None or output.is_graph_output():
            continue
        if source.shape is None:
            source.shape, source.type = output.shape, output.type
        ir.convenience.replace_all_uses_with(output, source)
        model.graph.remove(node, safe=True)


def name_identities(model: ir.Model) -> None:
    """Name an Identity that returns an input or a constant after its output: repeated cleanups must agree."""
    for node in model.graph:
        if is_op(node, "Identity") and node.outputs[0].is_graph_output():
            node.name = f"{node.outputs[0].name}/Identity"


def order_initializers(model: ir.Model) -> None:
    """Order initializers by their first reader, whatever the number of passes."""
    used = [value for node in model.graph.all_nodes() for value in node.inputs if value is not None]
    initializers = dict(model.graph.initializers)
    ordered = dict.fromkeys(value.name for value in used if initializers.get(str(value.name)) is value)
    model.graph.initializers.clear()
    model.graph.initializers.update({str(n): initializers[str(n)] for n in (*ordered, *initializers)})


class NameAfterOutput:
    """Names for `NameFixPass`: a node without a name is called after its output."""

    def generate_node_name(self, node: ir.Node) -> str:
        """The node's name, or that of its output and its operator."""
        return node.name or f"{next((value.name for value in node.outputs if value.name), '')}/{node.op_type}"

    def generate_value_name(self, value: ir.Value) -> str:
        """The value's name."""
        return value.name or "v"


def name_values_once(model: ir.Model) -> None:
    """Rename values that share a name; the graph's inputs and outputs keep theirs. Nodes stay as files call them."""
    graph, taken = model.graph, set[str | None]()
    computed = [value for node in graph.all_nodes() for value in node.outputs]
    for value in dict.fromkeys((*graph.inputs, *graph.outputs, *graph.initializers.values(), *computed)):
        if value.name:
            unique = unique_name(value.name, taken)
            if unique != value.name:
                value.name = unique


def fold_constants(model: ir.Model) -> None:
    """Compute what depends on constants only, by operators whose reference implementation can be trusted."""
    fold_constants_ir(model, output_size_limit=sys.maxsize, should_fold=_should_fold)


def _should_fold(node: ir.Node) -> bool | None:
    """None leaves the choice to the folder, which would keep ConstantOfShape, even of sizes, and what reads weights."""
    if grown(node) > FOLDED_ELEMENTS:  # the folder would compute it, and then look at its size
        return False
    if any(value is not None and value.dtype is ir.DataType.STRING for value in node.inputs):
        return False  # onnx-ir can't write the strings that it computed
    if is_op(node, "ConstantOfShape") and node.outputs[0].dtype in WHOLE:
        return True
    if not may_share(node) or not (is_op(node, *FOLDABLE) or _is_evaluated_norm(node)):
        return False
    sizes, weights = (
        dims(node.outputs[0]),
        {v: size for v in node.inputs if v is not None and (size := _weight_size(v))},
    )
    if sizes is None or not all(isinstance(size, int) for size in sizes):
        return False if weights else None
    size = math.prod(size for size in sizes if isinstance(size, int))
    if not weights:
        return False if size > FOLDED_ELEMENTS else None
    readers = [reader for weight in weights for reader in weight.consumers()]  # none that keeps the weight in the file
    return size <= sum(weights.values()) and all(map(_reads_constants, readers))


def _weight_size(value: ir.Value) -> int:
    """The number of elements of a constant that is too large to be folded without a reason; 0 for others."""
    size = value.const_value.size if value.const_value is not None else 0
    return size if size > FOLDED_ELEMENTS else 0


def _is_evaluated_norm(node: ir.Node) -> bool:
    """Whether it is a BatchNormalization that ONNX's reference implementation doesn't take for one in training mode."""
    opset = node.graph.opset_imports.get("", 0) if isinstance(node.graph, ir.Graph) else 0
    return is_op(node, "BatchNormalization") and opset >= 14 and not attribute(node, "training_mode", 0)


def _reads_constants(node: ir.Node) -> bool:
    """Whether a node depends on constants only."""
    waiting = [node]
    while waiting:
        for value in waiting.pop().inputs:
            if value is None or (value.const_value is not None and not value.is_graph_input()):
                continue
            producer = value.producer()
            if producer is None:
                return False
            waiting.append(producer)
    return True


def share_equal_nodes(model: ir.Model) -> None:
    """Share nodes that compute the same; of random nodes and other domains' operators each stays."""
    apart = [node for node in model.graph if not may_share(node)]
    for index, node in enumerate(apart):
        node.attributes[APART] = ir.AttrInt64(APART, index)
    common.CommonSubexpressionEliminationPass()(model)
    for node in apart:
        node.attributes.pop(APART)


BEFORE: tuple[tuple[str, Apply], ...] = (
    ("inline functions", common.InlinePass()),
    # PyTorch's exporter may give a tensor the name of a weight.
    ("name each value once", name_values_once),
    ("infer shapes", infer_from_inputs),
    ("fold constants", fold_constants),
    ("confirm stated shapes", confirm_claims),
    ("drop identities", drop_identities),
    ("lift constants to initializers", common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)),
    ("drop unused nodes", common.RemoveUnusedNodesPass()),
    # From here on, equal branches and weights are one value.
    ("share equal initializers", common.DeduplicateInitializersPass()),
    ("share equal nodes", share_equal_nodes),
)

AFTER: tuple[tuple[str, Apply], ...] = (
    ("fold again", fold_constants),
    ("drop unused nodes", common.RemoveUnusedNodesPass()),
    ("share equal initializers", common.DeduplicateInitializersPass()),
    ("share equal nodes", share_equal_nodes),
    ("drop unused operator sets", common.RemoveUnusedOpsetsPass()),
    ("fix outputs", common.OutputFixPass()),
    ("name identities", name_identities),
    ("fix names", common.NameFixPass(NameAfterOutput())),
    ("sort", common.TopologicalSortPass()),
    ("infer shapes again", infer_missing_shapes),
    ("order initializers", order_initializers),
    ("drop generated names", drop_generated_names),
)
