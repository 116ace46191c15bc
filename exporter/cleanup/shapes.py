"""Shapes inferred from the graph's inputs. What a file states of its inner values is a claim, which counts if it holds.

A file whose batch was opened afterwards still states the old sizes of its inner values, and so may its outputs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir
import onnx_ir.passes.common as common

from attn_export.exporter.artifacts import Dim
from attn_export.exporter.graph.facts import dims

Sizes = tuple[Dim, ...]
Shapes = dict[ir.Value, Sizes | None]

# Sizes of dynamic axes by their index, at which claims are tried: all differ, and none is a likely constant.
TRIALS = ((3, 37, 160, 224), (5, 41, 96, 288))


def infer_shapes(model: ir.Model) -> None:
    """Infer shapes as far as ONNX can; rules skip unknown shapes."""
    common.ShapeInferencePass(check_type=False, strict_mode=False)(model)


def infer_from_inputs(model: ir.Model) -> None:
    """Infer all shapes anew from the graph's inputs.

    Where ONNX finds no size, the file's claim counts if it agrees with what is inferred: with all that is known where
    the inputs have no dynamic axis, otherwise with what ONNX infers at two concrete sizes of every such axis.
    """
    claims = _shapes(model)
    found = _inferred(model)
    unknown = {v: c for v, c in claims.items() if c is not None and _is_incomplete(found[v])}
    if unknown and _dynamic_axes(model):
        trials = [_trial(model, sizes) for sizes in TRIALS]
        claims = {value: _confirmed(value, claim, trials) for value, claim in unknown.items()}
    elif unknown and not all(_agrees(claim, found[value]) for value, claim in claims.items()):
        claims = {value: (None,) * len(claim) for value, claim in unknown.items()}
    for value, shape in found.items():
        merged = _merged(shape, claims.get(value))
        value.shape = None if merged is None else ir.Shape(merged)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        for node in graph:
            yield from node.outputs


def _shapes(model: ir.Model) -> Shapes:
    return {value: dims(value) for value in _values(model)}


def _inferred(model: ir.Model) -> Shapes:
    for value in _values(model):
        value.shape = None
    infer_shapes(model)
    return _shapes(model)


def _is_incomplete(shape: Sizes | None) -> bool:
    return shape is None or any(size is None or is_generated(size) for size in shape)


def _agrees(claim: Sizes | None, found: Sizes | None) -> bool:
    if claim is None or found is None:
        return True
    pairs = zip(claim, found, strict=False)
    return len(claim) == len(found) and all(a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))


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


def _confirmed(value: ir.Value, claim: Sizes | None, trials: list[_Trial]) -> Sizes | None:
    """The claim without the sizes that a trial contradicts or leaves unknown; of what has no shape only the rank."""
    if claim is None:
        return None
    kept = list(claim)
    for trial in trials:
        shape = trial.shapes[value]
        if shape is not None and len(shape) != len(claim):
            return (None,) * len(shape)
        for axis, size in enumerate(claim):
            concrete = None if shape is None else shape[axis]
            wanted = (
                trial.named.setdefault(size, concrete) if isinstance(size, str) and isinstance(concrete, int) else size
            )
            if not isinstance(concrete, int) or wanted != concrete:
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
        shape = dims(value)
        if shape is not None and _is_incomplete(shape):
            value.shape = ir.Shape([None if is_generated(size) else size for size in shape])


def is_generated(size: Dim) -> bool:
    """Whether a size is a name that shape inference made up."""
    return isinstance(size, str) and size.startswith("unk__")
