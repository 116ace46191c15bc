"""The cleanup of a graph: generic steps, then rules to a fixpoint, then generic steps."""

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from attn_export.exporter.artifacts import AttentionBlock, Graph, Step, Target
from attn_export.exporter.cleanup.apply import RewriteLog, apply_to_fixpoint
from attn_export.exporter.cleanup.onnxscript_rules import onnxscript_rules
from attn_export.exporter.cleanup.rule import Context, Rule
from attn_export.exporter.cleanup.rules import RULES, TARGET_RULES
from attn_export.exporter.cleanup.steps import AFTER, BEFORE, Apply, apply_and_infer, resolve_all_sizes
from attn_export.exporter.errors import CleanupError
from attn_export.exporter.graph.attention.blocks import METADATA_KEY, from_json, known_as, to_json
from attn_export.exporter.graph.attention.recognize import find_blocks
from attn_export.exporter.graph.shapes import infer_missing_shapes
from attn_export.exporter.records.cleanup import Cleaned
from attn_export.exporter.system.quiet import quiet


def prepare(model: ir.Model) -> None:
    """Run the steps before the rules; the rules and the inventory need their result.

    Raises:
        CleanupError: a step failed; the error names it.
    """
    _list_computed_outputs(model)
    context = Context(model.graph.opset_imports.get("", 0), Target.ANY)
    for name, apply in (*BEFORE, ("resolve sizes", lambda model: resolve_all_sizes(model, context))):
        _run(name, apply, model)


def clean(model: ir.Model, target: Target = Target.ANY, rules: Sequence[Rule] = RULES) -> Cleaned:
    """Clean a graph.

    The model is changed in place; its opset stays. The rules run together with onnxscript's.

    Raises:
        CleanupError: a step failed; the error names it.
    """
    logs: list[RewriteLog] = []
    inventories: list[Sequence[AttentionBlock]] = []

    def apply_rules(model: ir.Model) -> None:
        opset = model.graph.opset_imports.get("", 0)
        context = Context(opset, target)
        logs.extend(resolve_all_sizes(model, context))
        inventories.append(find_blocks(model))
        logs.extend(apply_and_infer(model, (*rules, *onnxscript_rules(model)), context))
        infer_missing_shapes(model)  # a target's rules compare sizes by name
        inventories.append(find_blocks(model))
        logs.append(apply_to_fixpoint(model, TARGET_RULES[target], context))

    steps = []
    outputs = [value.name for value in model.graph.outputs]
    declared = {value.name: value.shape for value in (*model.graph.inputs, *model.graph.outputs)}
    _list_computed_outputs(model)
    for name, apply in (*BEFORE, ("apply rules", apply_rules), *AFTER):
        before = len(model.graph)
        _run(name, apply, model)
        steps.append(Step(name, before, len(model.graph)))
    named = {value.name: value for value in (*model.graph.inputs, *model.graph.outputs)}
    model.graph.outputs[:] = [named[name] for name in outputs]
    for value in named.values():  # keep the signature
        value.shape = declared[value.name]
    log = RewriteLog.joined(logs)
    known = from_json(model.metadata_props.get(METADATA_KEY, ""))
    found, common_form = inventories
    blocks = known_as(find_blocks(model), known, common_form, found, known or found)
    if blocks:
        model.metadata_props[METADATA_KEY] = to_json(blocks)
    first = known_as(found, blocks)
    return Cleaned(tuple(steps), tuple(log.applied), tuple(log.skipped), tuple(log.reverted), blocks, first)


def _run(name: str, apply: Apply, model: ir.Model) -> None:
    try:
        with quiet():
            apply(model)
    except (CleanupError, MemoryError):
        raise
    except Exception as error:
        raise CleanupError(
            f"the cleanup step {name!r} failed: {error}",
            hint="The step doesn't handle this graph. Please report it with the file.",
        ) from error


def _list_computed_outputs(model: ir.Model) -> None:
    """List every computed output once: passes expect that, while files may return a tensor twice, or an input."""
    model.graph.outputs[:] = dict.fromkeys(value for value in model.graph.outputs if not value.is_graph_input())


def clean_graph(graph: Graph, target: Target = Target.ANY) -> tuple[Graph, Cleaned]:
    """Clean a captured graph. Changes its model in place, and records steps and blocks in the result.

    Raises:
        CleanupError: a step failed; the error names it.
    """
    cleaned = clean(graph.model, target)
    return replace(graph, steps=(*graph.steps, *cleaned.steps), blocks=cleaned.blocks), cleaned
