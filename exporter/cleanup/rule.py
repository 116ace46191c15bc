"""The interface of a rule: it inspects a node and returns a rewrite, a reason to skip, or None.

Rules are functions on onnx-ir rather than patterns of onnxscript's rewriter: attention has too many spellings for
patterns (optional biases, any number of views and casts), and a rule gives a reason when it skips. onnxscript's own
rules pass the same verification, see `onnxscript_rules`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import Target
from attn_export.exporter.records.arrays import Array


@dataclass(frozen=True)
class Context:
    """The graph's opset and the runtime to optimize for."""

    opset: int
    target: Target


@dataclass(frozen=True)
class Rewrite:
    """A part of a graph and its replacement.

    Attributes:
        inputs: the inputs of the part; the rewrite replaces all nodes between them and ``old``.
        old: the output of the part.
        new: its replacement: an output of ``nodes``, or an existing value.
        nodes: the new nodes, in topological order.
    """

    inputs: tuple[ir.Value, ...]
    old: ir.Value
    new: ir.Value
    nodes: tuple[ir.Node, ...] = ()


class Skip(NamedTuple):
    """Why a rule that nearly matches doesn't apply."""

    reason: str


MatchResult = Rewrite | Skip | None


@dataclass(frozen=True)
class Rule:
    """One kind of rewrite.

    Attributes:
        name: a verb and its object, for people.
        roots: the operators at which the rule is tried.
        match: the rule itself.
        recomputes_constants: whether it rounds new weights to the file's type; the verification then allows for that.
    """

    name: str
    roots: frozenset[str]
    match: Callable[[ir.Node, Context], MatchResult] = field(repr=False)
    recomputes_constants: bool = False


class Builder:
    """Builds the nodes of a replacement, in topological order, with the shape and type of each value."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []

    def add(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        shape: ir.Shape | tuple[Any, ...] | None,
        like: ir.Value,
        **attributes: Any,
    ) -> ir.Value:
        """Add a node; its output has this shape and the element type of ``like``."""
        output = ir.Value(shape=ir.Shape(shape) if shape is not None else None, type=like.type)
        node = ir.Node("", op_type, inputs, ir.convenience.convert_attributes(attributes), outputs=[output])
        self.nodes.append(node)
        return output

    def constant(self, array: Array, name: str) -> ir.Value:
        """An initializer of this name, numbered if the name is taken."""
        tensor = ir.tensor(array, name=name)
        return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)

    def reduce(
        self, kind: str, source: ir.Value, axes: tuple[int, ...], *, opset: int, keepdims: bool, shape: tuple[Any, ...]
    ) -> ir.Value:
        """Add ``Reduce<kind>``. Its axes are an input from opset 18 on (13 for the sum), an attribute before."""
        if opset >= (13 if kind == "Sum" else 18):
            listed = self.constant(np.array(axes, dtype=np.int64), "axes_" + "_".join(map(str, axes)))
            return self.add(f"Reduce{kind}", source, listed, shape=shape, like=source, keepdims=int(keepdims))
        return self.add(f"Reduce{kind}", source, shape=shape, like=source, axes=list(axes), keepdims=int(keepdims))

    def last(
        self, node: ir.Node, inputs: tuple[ir.Value, ...], op_type: str, *operands: ir.Value | None, **attributes: Any
    ) -> Rewrite:
        """The rewrite whose last new node has the result of ``node``: its shape and type."""
        old = node.outputs[0]
        return self.rewrite(inputs, old, self.add(op_type, *operands, shape=old.shape, like=old, **attributes))

    def rewrite(self, inputs: tuple[ir.Value, ...], old: ir.Value, new: ir.Value) -> Rewrite:
        """The rewrite that replaces ``old`` by ``new`` and the nodes built for it."""
        return Rewrite(inputs, old, new, tuple(self.nodes))
