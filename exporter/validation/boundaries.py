"""Where a graph and its network compute the same tensors: at the ends of the network's blocks and stages.

A block's output is the only tensor that leaves the nodes of that block. The output of a layer with weights is no such
place: a cleaned graph has no BatchNorm, and its convolution computes something else than the network's convolution.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.graph.attention.paths import common_path, module_path
from attn_export.exporter.graph.facts import GATE_ACTIVATIONS, dims, is_op
from attn_export.exporter.network.arithmetic import in_double, in_float64
from attn_export.exporter.network.batches import Batch, repeated
from attn_export.exporter.network.call import call
from attn_export.exporter.network.observation import evaluating
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.validation.baseline import perturbed_runs

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class Boundary:
    """The output of a block, or the input of an attention block.

    Attributes:
        is_input: whether it is the block's input.
        tensor: its name in the graph.
        shape: (C, H, W) of one image in the graph, dynamic axes as 0; None where the graph has no shape.
    """

    module_path: str
    is_input: bool
    tensor: str
    shape: tuple[int, ...] | None

    @property
    def place(self) -> str:
        """For people."""
        return f"the input of {self.module_path}" if self.is_input else self.module_path

    def fits(self, array: Array) -> bool:
        """Whether the network's array (N, C, H, W) has the graph's shape."""
        shape = array.shape[1:]
        if self.shape is None or len(self.shape) != len(shape):
            return False
        return all(a in (0, b) for a, b in zip(self.shape, shape, strict=True))


def boundaries_of(model: ir.Model, module: nn.Module) -> list[Boundary]:
    """The boundaries in the order of computation; none in a graph without module paths."""
    index = {node: i for i, node in enumerate(model.graph)}
    by_path: dict[str, list[ir.Node]] = {}
    for node in index:
        parts = (module_path(node) or _path_between(node)).split(".")
        for i in range(1, len(parts) + 1):
            by_path.setdefault(".".join(parts[:i]), []).append(node)
    found: list[tuple[int, Boundary]] = []
    for path, submodule in module.named_modules():
        is_layer = not any(True for _ in submodule.children())
        if not path or path not in by_path or (is_layer and submodule.state_dict()):
            continue
        inside = by_path[path]
        is_attention = not is_layer and any(is_op(node, *GATE_ACTIVATIONS) for node in inside)
        for is_input, values in ((False, _outputs(inside)), (True, _inputs(inside) if is_attention else [])):
            producer = values[0].producer() if len(values) == 1 else None
            if producer is not None:
                sizes = dims(values[0])
                shape = None if sizes is None else tuple(s if isinstance(s, int) else 0 for s in sizes[1:])
                found.append((index[producer], Boundary(path, is_input, str(values[0].name), shape)))
    return [boundary for _, boundary in sorted(found, key=lambda entry: (entry[0], entry[1].is_input))]


def _path_between(node: ir.Node) -> str:
    """For a node without a module path: the common path of its neighbours."""
    before = [value.producer() for value in node.inputs if value is not None]
    after = [user for value in node.outputs for user, _ in value.uses()]
    return common_path(other for other in (*before, *after) if other is not None)


def _outputs(inside: list[ir.Node]) -> list[ir.Value]:
    """Tensors that other nodes, or the graph's outputs, use."""
    nodes = set(inside)
    return [
        value
        for node in inside
        for value in node.outputs
        if value.dtype in FLOATS and (value.is_graph_output() or any(user not in nodes for user, _ in value.uses()))
    ]


def _inputs(inside: list[ir.Node]) -> list[ir.Value]:
    """Tensors that other nodes compute; weights are none."""
    nodes = set(inside)
    values = {value: value.producer() for node in inside for value in node.inputs if value is not None}
    return [
        value
        for value, producer in values.items()
        if value.dtype in FLOATS and value.const_value is None and producer is not None and producer not in nodes
    ]


def later_than(model: ir.Model, boundaries: list[Boundary]) -> dict[Boundary, set[Boundary]]:
    """For each boundary, all others that are computed from it."""
    at: dict[str, list[Boundary]] = {}
    for boundary in boundaries:
        at.setdefault(boundary.tensor, []).append(boundary)
    before: dict[ir.Value, frozenset[Boundary]] = {}
    later: dict[Boundary, set[Boundary]] = {boundary: set() for boundary in boundaries}
    for node in model.graph:
        upstream = frozenset().union(*(before.get(value, frozenset()) for value in node.inputs if value is not None))
        for value in node.outputs:
            here = at.get(str(value.name), [])
            for earlier in upstream:
                later[earlier].update(here)
            before[value] = upstream | frozenset(here)
    return later


def computed_by(
    module: nn.Module, boundaries: list[Boundary], batch: Batch, precision: Precision | None, least: int = 1
) -> Mapping[Boundary, Array]:
    """The network's tensors at boundaries.

    A precision of None is float64, each image alone; ``least`` is the smallest N that the network runs at.

    Returns:
        N rows of each; with a precision N rows for each perturbed run, see `baseline`.
    """
    with evaluating(module):
        if precision is not None:
            runs = perturbed_runs(module, precision, batch.arrays, partial(_captured, module, boundaries))
        else:
            with in_double():
                copies = [repeated(in_float64(image), least) for image in batch.rows]
                runs = [{b: array[:1] for b, array in _captured(module, boundaries, c).items()} for c in copies]
    everywhere = [b for b in boundaries if all(b in results for results in runs)]
    return {b: np.concatenate([results[b] for results in runs]) for b in everywhere}


def _captured(module: nn.Module, boundaries: list[Boundary], arrays: Arrays) -> dict[Boundary, Array]:
    """The tensors of one run, without modules that run more than once: the graph doesn't distinguish their calls."""
    captured: dict[Boundary, Array] = {}
    calls: dict[Boundary, int] = {}
    submodules = dict(module.named_modules())

    def capture(boundary: Boundary, value: object) -> None:
        calls[boundary] = calls.get(boundary, 0) + 1
        if isinstance(value, torch.Tensor):
            captured[boundary] = value.detach().numpy().copy()

    with ExitStack() as hooks:
        for boundary in boundaries:
            submodule = submodules[boundary.module_path]
            if boundary.is_input:
                hook = submodule.register_forward_pre_hook(lambda _, args, b=boundary: capture(b, (*args, None)[0]))
            else:
                hook = submodule.register_forward_hook(lambda _, __, result, b=boundary: capture(b, result))
            hooks.callback(hook.remove)
        call(module, arrays)
    return {boundary: array for boundary, array in captured.items() if calls[boundary] == 1}
