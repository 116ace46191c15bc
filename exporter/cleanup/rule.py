"""What a rule is: it looks at one node and proposes a rewrite, says why not, or has nothing to say.

Rules are functions on onnx-ir rather than patterns of onnxscript's rewriter, because attention is spelled in too many
ways for patterns (optional biases, any number of views and casts in between), because a rule has to give its reason
where it refuses, and because every rewrite passes through one place that proves it. onnxscript's own rules go through
the same place, see `onnxscript_rules`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import Target


@dataclass(frozen=True)
class Context:
    """What a rule knows besides the node: the graph's operator set, and whom the result is for."""

    opset: int
    target: Target


@dataclass(frozen=True)
class Rewrite:
    """A part of the graph and what is to stand in its place.

    Attributes:
        inputs: where the part begins; all that lies between them and ``old`` is replaced.
        old: the value that the part computes.
        new: what takes its place: computed by ``nodes``, or an existing value.
        nodes: in the order in which they compute.
    """

    inputs: tuple[ir.Value, ...]
    old: ir.Value
    new: ir.Value
    nodes: tuple[ir.Node, ...] = ()


class Skip(NamedTuple):
    """Why a rule that nearly fits keeps away."""

    reason: str


Proposal = Rewrite | Skip | None


@dataclass(frozen=True)
class Rule:
    """One kind of rewrite.

    Attributes:
        name: for people, as a verb and its object.
        roots: operators at which it looks.
        at: the rule itself.
        recomputes_constants: its new weights are rounded to the file's type, which the proof allows for.
    """

    name: str
    roots: frozenset[str]
    at: Callable[[ir.Node, Context], Proposal] = field(repr=False)
    recomputes_constants: bool = False


class Drawing:
    """New nodes, in the order in which they compute; every value knows its shape, for the rules that come after."""

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
        """A node and its output, which has this shape and the element type of ``like``."""
        output = ir.Value(shape=ir.Shape(shape) if shape is not None else None, type=like.type)
        node = ir.Node("", op_type, inputs, ir.convenience.convert_attributes(attributes), outputs=[output])
        self.nodes.append(node)
        return output

    def constant(self, array: np.ndarray[Any, Any], name: str) -> ir.Value:
        """An initializer; it gets this name, or one made of it where it is taken."""
        tensor = ir.tensor(array, name=name)
        return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)

    def reduce(
        self, kind: str, source: ir.Value, axes: tuple[int, ...], *, opset: int, keepdims: bool, shape: tuple[Any, ...]
    ) -> ir.Value:
        """``Reduce<kind>`` over these axes, which are an input from opset 18 (13 for the sum), an attribute before."""
        if opset >= (13 if kind == "Sum" else 18):
            listed = self.constant(np.array(axes, dtype=np.int64), "axes_" + "_".join(map(str, axes)))
            return self.add(f"Reduce{kind}", source, listed, shape=shape, like=source, keepdims=int(keepdims))
        return self.add(f"Reduce{kind}", source, shape=shape, like=source, axes=list(axes), keepdims=int(keepdims))

    def rewrite(self, inputs: tuple[ir.Value, ...], old: ir.Value, new: ir.Value) -> Rewrite:
        """The rewrite that puts what was drawn in the place of ``old``."""
        return Rewrite(inputs, old, new, tuple(self.nodes))
