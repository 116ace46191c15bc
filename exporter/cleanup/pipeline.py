"""The list of what is done to a graph, in order.

Generic steps come from onnx-ir and onnxscript; rules stand in a file each under ``rules/`` and are applied together,
over and again, until none of them fires.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import onnx_ir as ir
import onnx_ir.passes.common as common
from onnxscript.optimizer import fold_constants_ir

from attn_export.exporter.artifacts import AttentionBlock, Graph, Step, Target
from attn_export.exporter.cleanup.apply import Log, apply_to_fixpoint
from attn_export.exporter.cleanup.onnxscript_rules import rules_of_onnxscript
from attn_export.exporter.cleanup.rule import Context, Rule
from attn_export.exporter.cleanup.rules import (
    apply_second_layer_once,
    convolve_squeezed,
    drop_expand,
    fold_batch_norm,
    fuse_hard_sigmoid,
    fuse_hard_swish,
    keep_reduced_axis,
    merge_views,
    multiply_gates_first,
    pool_channels_last,
    pool_in_one_form,
    repeat_spatial_gate,
    resize_gate,
    resolve_sizes,
    select_summaries,
    sink_views,
    squeeze_before_expansion,
    sum_gate_products,
    summarize_channels_last,
    view_unit_transpose,
)
from attn_export.exporter.errors import CleanupError
from attn_export.exporter.graph.attention.blocks import METADATA_KEY, from_json, known_as, to_json
from attn_export.exporter.graph.attention.recognize import find_blocks
from attn_export.exporter.graph.facts import is_op
from attn_export.exporter.records.cleanup import Cleaned
from attn_export.exporter.system.quiet import quiet

Apply = Callable[[ir.Model], Any]

# Constants up to this many elements are computed now rather than in every run; larger ones would bloat the file.
FOLDED_ELEMENTS = 8192
MOST_INFERENCES = 4


def infer_shapes(model: ir.Model) -> None:
    """As far as ONNX can tell them; what it can't stays unknown, and the rules keep away from it."""
    common.ShapeInferencePass(check_type=False, strict_mode=False)(model)


def apply_and_infer(model: ir.Model, rules: Sequence[Rule], context: Context) -> list[Log]:
    """Apply rules; a shape that became a constant tells those of all that comes after it, so infer, and apply again."""
    logs: list[Log] = []
    for _ in range(MOST_INFERENCES):
        logs.append(apply_to_fixpoint(model, rules, context))
        if not logs[-1].applied or _all_ranked(model):
            break
        infer_shapes(model)
    return logs


def resolve_all_sizes(model: ir.Model, context: Context) -> list[Log]:
    """Make computed shapes constants where shape inference can't see through them: the inventory needs ranks."""
    return [] if _all_ranked(model) else apply_and_infer(model, (resolve_sizes.RULE,), context)


def _all_ranked(model: ir.Model) -> bool:
    return all(output.shape is not None for node in model.graph for output in node.outputs)


def infer_what_is_open(model: ir.Model) -> None:
    """Once more, if anything is left to find out: the rules may have made more of it known than was at first."""
    shapes = [value.shape for node in model.graph for value in node.outputs]
    if any(shape is None or any(_is_open(size) for size in shape) for shape in shapes):
        forget_made_up_names(model)  # a name that was made up stands in the way of the right one
        infer_shapes(model)


def _is_open(size: int | ir.SymbolicDim) -> bool:
    return not isinstance(size, int) and (size.value is None or _is_made_up(size))


def drop_identities(model: ir.Model) -> None:
    """Of the main graph. In the body of an If an Identity may be what makes an outer value its result."""
    for node in list(model.graph):
        source, output = (node.inputs[0], node.outputs[0]) if is_op(node, "Identity") else (None, None)
        if source is None or output is None or output.is_graph_output():
            continue
        if source.shape is None:
            source.shape, source.type = output.shape, output.type
        ir.convenience.replace_all_uses_with(output, source)
        model.graph.remove(node, safe=True)


def name_identities(model: ir.Model) -> None:
    """What gives an input or a constant the name of an output is named after that, however often it was made anew."""
    for node in model.graph:
        if is_op(node, "Identity") and node.outputs[0].is_graph_output():
            node.name = f"{node.outputs[0].name}/Identity"


def order_initializers(model: ir.Model) -> None:
    """By their first reader: passes leave them in an order that depends on how often they ran."""
    used = [value for node in model.graph.all_nodes() for value in node.inputs if value is not None]
    initializers = dict(model.graph.initializers)
    ordered = dict.fromkeys(value.name for value in used if initializers.get(str(value.name)) is value)
    model.graph.initializers.clear()
    model.graph.initializers.update({str(n): initializers[str(n)] for n in (*ordered, *initializers)})


def forget_made_up_names(model: ir.Model) -> None:
    """Shape inference calls an unknown axis unk__0, unk__1 and so on; the count would go on with every cleanup."""
    for graph in model.graphs():
        values = [output for node in graph for output in node.outputs]
        for value in (*graph.inputs, *values):
            if value.shape is not None and any(_is_made_up(d) for d in value.shape):
                value.shape = ir.Shape([None if _is_made_up(d) else d for d in value.shape])


def _is_made_up(size: int | ir.SymbolicDim) -> bool:
    return not isinstance(size, int) and str(size.value).startswith("unk__")


BEFORE: tuple[tuple[str, Apply], ...] = (
    ("inline functions", common.InlinePass()),
    ("infer shapes", infer_shapes),
    ("fold constants", lambda model: fold_constants_ir(model, output_size_limit=FOLDED_ELEMENTS)),
    ("drop identities", drop_identities),
    ("lift constants to initializers", common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)),
    ("drop unused nodes", common.RemoveUnusedNodesPass()),
    # Branches and weights that are one can be seen to be one from here on.
    ("share equal initializers", common.DeduplicateInitializersPass()),
    ("share equal nodes", common.CommonSubexpressionEliminationPass()),
)

RULES: tuple[Rule, ...] = (
    # What computes shapes goes first: everything after it sees constants.
    resolve_sizes.RULE,
    drop_expand.RULE,
    view_unit_transpose.RULE,
    merge_views.RULE,
    keep_reduced_axis.RULE,
    # Weights.
    fold_batch_norm.RULE,
    fuse_hard_sigmoid.RULE,
    fuse_hard_swish.RULE,
    # The channel gate: its pools, its layers, then the views between them.
    pool_in_one_form.RULE,
    convolve_squeezed.RULE,
    sink_views.RULE,
    apply_second_layer_once.RULE,
)

# What a runtime prefers is made of the common form, when nothing more can be done to that.
SHAPING: dict[Target, tuple[Rule, ...]] = {
    Target.ANY: (),
    Target.TENSORRT: (
        sum_gate_products.RULE,
        squeeze_before_expansion.RULE,
        pool_channels_last.RULE,
        select_summaries.RULE,
        multiply_gates_first.RULE,
    ),
    Target.ONNXRUNTIME: (
        squeeze_before_expansion.RULE,
        resize_gate.RULE,
        summarize_channels_last.RULE,
        repeat_spatial_gate.RULE,
    ),
}

AFTER: tuple[tuple[str, Apply], ...] = (
    ("fold again", lambda model: fold_constants_ir(model, output_size_limit=FOLDED_ELEMENTS)),
    ("drop unused nodes", common.RemoveUnusedNodesPass()),
    ("share equal initializers", common.DeduplicateInitializersPass()),
    ("share equal nodes", common.CommonSubexpressionEliminationPass()),
    ("drop unused operator sets", common.RemoveUnusedOpsetsPass()),
    ("mend outputs", common.OutputFixPass()),
    ("name identities", name_identities),
    ("mend names", common.NameFixPass()),
    ("sort", common.TopologicalSortPass()),
    ("infer shapes again", infer_what_is_open),
    ("order initializers", order_initializers),
    ("forget made-up names", forget_made_up_names),
)


def prepare(model: ir.Model) -> None:
    """Take a graph through what comes before the rules: what remains is what they, and the inventory, look at."""
    with quiet():
        for _, apply in BEFORE:
            apply(model)
        resolve_all_sizes(model, Context(model.graph.opset_imports.get("", 0), Target.ANY))


def clean(model: ir.Model, target: Target = Target.ANY, rules: Sequence[Rule] = RULES) -> Cleaned:
    """Take a graph through the whole list.

    Args:
        model: it is changed in place. Its opset stays what it is.
        target: whose preferences decide between forms.
        rules: our own; onnxscript's are added to them.

    Raises:
        CleanupError: a step failed; the error names it.
    """
    logs: list[Log] = []
    inventories: list[Sequence[AttentionBlock]] = []

    def apply_rules(model: ir.Model) -> None:
        opset = model.graph.opset_imports.get("", 0)
        context = Context(opset, target)
        logs.extend(resolve_all_sizes(model, context))
        inventories.append(find_blocks(model))
        logs.extend(apply_and_infer(model, (*rules, *rules_of_onnxscript(model)), context))
        infer_what_is_open(model)  # the rules to come compare sizes by name
        inventories.append(find_blocks(model))
        logs.append(apply_to_fixpoint(model, SHAPING[target], context))

    steps = []
    declared = {value.name: value.shape for value in (*model.graph.inputs, *model.graph.outputs)}
    for name, apply in (*BEFORE, ("apply rules", apply_rules), *AFTER):
        before = len(model.graph)
        try:
            with quiet():
                apply(model)
        except CleanupError:
            raise
        except Exception as error:
            raise CleanupError(
                f"the cleanup step {name!r} failed: {error}",
                step=name,
                hint="This graph meets a case that the step doesn't handle. Please report it with the file.",
            ) from error
        steps.append(Step(name, before, len(model.graph)))
    for value in (*model.graph.inputs, *model.graph.outputs):  # the signature stays what it was
        value.shape = declared[value.name]
    log = Log.joined(logs)
    known = from_json(model.metadata_props.get(METADATA_KEY, ""))
    found, common_form = inventories
    blocks = known_as(find_blocks(model), known, common_form, found, known or found)
    if blocks:
        model.metadata_props[METADATA_KEY] = to_json(blocks)
    first = known_as(found, blocks)
    return Cleaned(tuple(steps), tuple(log.applied), tuple(log.skipped), tuple(log.reverted), blocks, first)


def clean_graph(graph: Graph, target: Target = Target.ANY) -> tuple[Graph, Cleaned]:
    """The same for a graph that was captured: its model is consumed, its steps and blocks are noted.

    Raises:
        CleanupError: a step failed; the error names it.
    """
    cleaned = clean(graph.model, target)
    return replace(graph, steps=(*graph.steps, *cleaned.steps), blocks=cleaned.blocks), cleaned
