"""Where a graph and a network can be compared inside: at the ends of the network's blocks and stages.

A block's output is the one tensor that leaves the nodes that came from it. Layers with weights are no such places: a
cleaned graph has no BatchNorm any more, and what a convolution computes there isn't what the network's convolution
does. Pools and other layers without weights are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from attn_export.exporter.graph.attention.paths import common_path, module_path
from attn_export.exporter.graph.facts import GATE_ACTIVATIONS, dims, is_op
from attn_export.exporter.network.arithmetic import in_double
from attn_export.exporter.network.observation import evaluating
from attn_export.exporter.records.arrays import Array

if TYPE_CHECKING:
    from attn_export.exporter.artifacts import Precision

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class Boundary:
    """The end of a block, or the begin of an attention block.

    Attributes:
        module_path: of the block.
        is_input: whether it is what goes into the block.
        tensor: its name in the graph.
    """

    module_path: str
    is_input: bool
    tensor: str

    @property
    def place(self) -> str:
        """For people."""
        return f"the input of {self.module_path}" if self.is_input else self.module_path


def boundaries_of(model: ir.Model, module: nn.Module) -> list[Boundary]:
    """The places of a graph that are places of a network too, in the order of computation.

    Args:
        model: the graph, its shapes inferred.
        module: the network it was made of. A graph that doesn't say where its nodes came from has no such places.
    """
    nodes = list(model.graph)
    number = {node: i for i, node in enumerate(nodes)}
    by_path: dict[str, list[ir.Node]] = {}
    for node in nodes:
        parts = (module_path(node) or _between(node)).split(".")
        for i in range(1, len(parts) + 1):
            by_path.setdefault(".".join(parts[:i]), []).append(node)
    found: list[tuple[int, Boundary]] = []
    for path, submodule in module.named_modules():
        is_layer = not any(True for _ in submodule.children())
        if not path or path not in by_path or (is_layer and submodule.state_dict()):
            continue
        inside = by_path[path]
        leaving = _leaving(inside)
        if len(leaving) == 1:
            producer = leaving[0].producer()
            assert producer is not None
            found.append((number[producer], Boundary(path, False, str(leaving[0].name))))
        entering = [] if is_layer else _entering(inside)
        if any(is_op(node, *GATE_ACTIVATIONS) for node in inside) and len(entering) == 1:
            producer = entering[0].producer()
            if producer is not None:
                found.append((number[producer], Boundary(path, True, str(entering[0].name))))
    return [boundary for _, boundary in sorted(found, key=lambda entry: (entry[0], entry[1].is_input))]


def _between(node: ir.Node) -> str:
    """For a node that doesn't say where it came from: what is common to those before and after it."""
    before = [value.producer() for value in node.inputs if value is not None]
    after = [user for value in node.outputs for user, _ in value.uses()]
    return common_path(other for other in (*before, *after) if other is not None)


def behind(model: ir.Model, boundaries: list[Boundary]) -> dict[Boundary, set[Boundary]]:
    """For each place all others that are computed from it."""
    at: dict[str, list[Boundary]] = {}
    for boundary in boundaries:
        at.setdefault(boundary.tensor, []).append(boundary)
    before: dict[ir.Value, frozenset[Boundary]] = {}
    found: dict[Boundary, set[Boundary]] = {boundary: set() for boundary in boundaries}
    for node in model.graph:
        upstream = frozenset().union(*(before.get(value, frozenset()) for value in node.inputs if value is not None))
        for value in node.outputs:
            here = at.get(str(value.name), [])
            for boundary in here:
                for earlier in upstream:
                    found[earlier].add(boundary)
            before[value] = upstream | frozenset(here)
    return found


def _leaving(inside: list[ir.Node]) -> list[ir.Value]:
    """What is used outside of these nodes."""
    known = set(inside)
    return [
        value
        for node in inside
        for value in node.outputs
        if value.dtype in FLOATS and (value.is_graph_output() or any(user not in known for user, _ in value.uses()))
    ]


def _entering(inside: list[ir.Node]) -> list[ir.Value]:
    """What comes from outside and isn't a weight."""
    known = set(inside)
    values = [value for node in inside for value in node.inputs if value is not None and value.dtype in FLOATS]
    return list(
        dict.fromkeys(
            v for v in values if v.const_value is None and v.producer() is not None and v.producer() not in known
        )
    )


def shapes_of(model: ir.Model, boundaries: list[Boundary]) -> dict[Boundary, tuple[int, ...]]:
    """The shape of each for one image, of those whose shape the graph tells, open axes as 0."""
    values = {value.name: value for node in model.graph for value in node.outputs}
    found = {}
    for boundary in boundaries:
        known = dims(values[boundary.tensor])
        if known is not None:
            found[boundary] = tuple(size if isinstance(size, int) else 0 for size in known[1:])
    return found


def fits(known: tuple[int, ...], array: Array) -> bool:
    """Whether what the network computes at a boundary may be what the graph computes there."""
    shape = array.shape[1:]
    return len(known) == len(shape) and all(a in (0, b) for a, b in zip(known, shape, strict=True))


def computed_by(
    module: nn.Module, boundaries: list[Boundary], images: Array, precision: "Precision | None"
) -> Mapping[Boundary, Array]:
    """What the network computes at boundaries: in double precision each image alone, or in another as they are.

    Args:
        module: the network.
        boundaries: of it.
        images: (N, C, H, W) float32.
        precision: None for double.

    Returns:
        N rows of each, or N for every draw of another precision, see `baseline`.
    """
    from attn_export.exporter.validation.baseline import drawn

    with evaluating(module):
        if precision is not None:
            runs = drawn(module, precision, images, lambda moved: _watched(module, boundaries, moved))
        else:
            with in_double():
                runs = [_watched(module, boundaries, image[None].astype(np.float64)) for image in images]
    everywhere = [b for b in boundaries if all(b in results for results in runs)]
    return {b: np.concatenate([results[b] for results in runs]) for b in everywhere}


def _watched(module: nn.Module, boundaries: list[Boundary], images: Array) -> dict[Boundary, Array]:
    """One run. A module that is called more than once is left out: its calls can't be told apart in the graph."""
    seen: dict[Boundary, Array] = {}
    calls: dict[Boundary, int] = {}
    submodules = dict(module.named_modules())

    def note(boundary: Boundary, value: object) -> None:
        calls[boundary] = calls.get(boundary, 0) + 1
        if isinstance(value, torch.Tensor):
            seen[boundary] = value.detach().numpy().copy()

    hooks = []
    for boundary in boundaries:
        submodule = submodules[boundary.module_path]
        if boundary.is_input:
            hooks.append(
                submodule.register_forward_pre_hook(lambda _, args, b=boundary: note(b, args[0] if args else None))
            )
        else:
            hooks.append(submodule.register_forward_hook(lambda _, __, result, b=boundary: note(b, result)))
    try:
        module(torch.from_numpy(np.ascontiguousarray(images)))
    finally:
        for hook in hooks:
            hook.remove()
    return {boundary: array for boundary, array in seen.items() if calls[boundary] == 1}
