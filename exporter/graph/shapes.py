"""Shapes inferred from the graph's inputs. What a file states of its inner values is a claim, which counts if it holds.

A file whose batch was opened afterwards still states the old sizes of its inner values, and so may its outputs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir
import onnx_ir.passes.common as common

from attn_export.exporter.artifacts import Dim
from attn_export.exporter.graph.facts import dims, is_op
from attn_export.exporter.system.bounds import bounded_memory

Sizes = tuple[Dim, ...]
Shapes = dict[ir.Value, Sizes | None]

# Sizes of dynamic axes by their index, at which claims are tried: all differ, and none is a likely constant.
CLAIM = "attn_export.claim"
TRIALS = ((3, 37, 160, 224), (5, 41, 96, 288))
LONGEST_LIST = 2**16  # of sizes
# Operators whose results may be sequences and optionals.
NOT_ONLY_TENSORS = (
    *("SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceMap", "SplitToSequence"),
    *("Optional", "OptionalGetElement", "Identity", "If", "Loop"),
)


def infer_shapes(model: ir.Model) -> None:
    """Infer shapes as far as ONNX can; rules skip unknown shapes.

    ONNX follows sizes element by element through Casts, at 140 bytes each, even where the list is a flattened image.
    """
    others = (node for node in model.graph.all_nodes() if is_op(node, *NOT_ONLY_TENSORS))
    untyped = [value for node in others for value in node.outputs if value.type is None]
    cast = [node.inputs[0] for node in model.graph.all_nodes() if is_op(node, "Cast") and node.inputs]
    if any(dims(value) is None for value in cast):
        common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(model)
    follow = not any(_is_long_list(dims(value)) for value in cast)
    with bounded_memory():
        common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=follow)(model)
    for value in untyped:  # onnx-ir takes what it infers for tensors
        value.type = None


def _is_long_list(shape: Sizes | None) -> bool:
    return shape is not None and len(shape) == 1 and isinstance(shape[0], int) and shape[0] > LONGEST_LIST


def infer_from_inputs(model: ir.Model) -> None:
    """Infer all shapes anew from the graph's inputs; what the file states is set aside for `confirm_claims`."""
    for value in _values(model):
        value.meta[CLAIM] = dims(value)
        value.shape = None
    infer_shapes(model)


def confirm_claims(model: ir.Model) -> None:
    """Let the file's claims count where ONNX finds no size, now that constants are folded, if the claims hold.

    Without dynamic axes they hold if none contradicts what is inferred. With dynamic axes each holds that ONNX infers
    at two concrete sizes of every such axis; and if none contradicts that, and the claims of inner values name every
    such axis, so do those that ONNX knows nothing of.
    """
    claims: Shapes = {value: value.meta.pop(CLAIM, None) for value in _values(model)}
    found = _inferred(model)
    if any(claim is not None and _is_incomplete(found[value]) for value, claim in claims.items()):
        names = {name for _, _, name in _dynamic_axes(model)}
        trials = [_trial(model, sizes) for sizes in TRIALS] if names else [_Trial({}, found)]
        inner = [claim for value, claim in claims.items() if claim is not None and not value.is_graph_output()]
        credible = names <= {size for claim in inner for size in claim}
        if not credible or not all(_holds(value, claim, trials) for value, claim in claims.items()):
            claims = {value: _confirmed(value, claim, trials) for value, claim in claims.items()}
    for value, shape in found.items():
        merged = _merged(shape, claims.get(value))
        value.shape = None if merged is None else ir.Shape(merged)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        for node in graph:
            yield from node.outputs


def _inferred(model: ir.Model) -> Shapes:
    for value in _values(model):
        value.shape = None
    infer_shapes(model)
    return {value: dims(value) for value in _values(model)}


def _is_incomplete(shape: Sizes | None) -> bool:
    return shape is None or any(size is None or is_generated(size) for size in shape)


def _dynamic_axes(model: ir.Model) -> list[tuple[ir.Value, int, str]]:
    """The dynamic axes of the graph's inputs, with their names."""
    return [
        (value, axis, size or f"{value.name}:{axis}")
        for value in model.graph.inputs
        for axis, size in enumerate(dims(value) or ())
        if not isinstance(size, int)
    ]


@dataclass(frozen=True)
class _Trial:
    """The sizes that names stand for, and what ONNX infers for them."""

    named: dict[str, int]
    shapes: Shapes

    def agrees(self, claimed: Dim, inferred: Dim) -> bool | None:
        """Whether a claimed size is the inferred one; None where either is unknown. A new name is what it is here."""
        if claimed is None or not isinstance(inferred, int):
            return None
        return inferred == (claimed if isinstance(claimed, int) else self.named.setdefault(claimed, inferred))


def _trial(model: ir.Model, sizes: tuple[int, ...]) -> _Trial:
    stated = {value: value.shape for value in model.graph.inputs}
    named: dict[str, int] = {}
    for value, axis, name in _dynamic_axes(model):
        known = list(dims(value) or ())
        known[axis] = named.setdefault(name, sizes[min(axis, len(sizes) - 1)])
        value.shape = ir.Shape(known)
    shapes = _inferred(model)
    for value, shape in stated.items():
        value.shape = shape
    return _Trial(named, shapes)


def _holds(value: ir.Value, claim: Sizes | None, trials: list[_Trial]) -> bool:
    """Whether no trial contradicts a claim."""
    for trial in trials if claim is not None else ():
        shape = trial.shapes[value]
        if shape is not None and claim is not None:
            same_rank = len(shape) == len(claim)
            if not same_rank or any(trial.agrees(*pair) is False for pair in zip(claim, shape, strict=True)):
                return False
    return True


def _confirmed(value: ir.Value, claim: Sizes | None, trials: list[_Trial]) -> Sizes | None:
    """The claim without the sizes that a trial contradicts or leaves unknown; of what has no shape only the rank."""
    shapes = [trial.shapes[value] for trial in trials]
    if claim is None or any(shape is not None and len(shape) != len(claim) for shape in shapes):
        return None
    kept = list(claim)
    for trial, shape in zip(trials, shapes, strict=True):
        for axis, size in enumerate(claim):
            if shape is None or not trial.agrees(size, shape[axis]):
                kept[axis] = None
    return tuple(kept)


def _merged(found: Sizes | None, claim: Sizes | None) -> Sizes | None:
    if found is None or claim is None or len(found) != len(claim):
        return claim if found is None else found
    return tuple(b if b is not None and _is_incomplete((a,)) else a for a, b in zip(found, claim, strict=True))


def infer_missing_shapes(model: ir.Model) -> None:
    """Infer again if a shape is unknown; a rule may have made it inferable."""
    if any(_is_incomplete(dims(value)) for node in model.graph for value in node.outputs):
        drop_generated_names(model)  # a generated name would block the right one
        infer_shapes(model)


def drop_generated_names(model: ir.Model) -> None:
    """Drop the names unk__0, unk__1, ... of shape inference: each cleanup would count on."""
    inputs = [value for graph in model.graphs() for value in graph.inputs]
    for value in (*inputs, *_values(model)):
        forget_generated_names(value)


def forget_generated_names(value: ir.Value) -> None:
    """Make unnamed axes of those for which shape inference made up a name."""
    shape = dims(value)
    if shape is not None and any(is_generated(size) for size in shape):
        value.shape = ir.Shape([None if is_generated(size) else size for size in shape])


def is_generated(size: Dim) -> bool:
    """Whether a size is a name that shape inference made up."""
    return isinstance(size, str) and size.startswith("unk__")
