"""What a gate summarizes of its map: the places of each channel, the channels of each place, rows and columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import onnx_ir as ir

from attn_export.exporter.artifacts import Dim
from attn_export.exporter.graph.attention.activations import QUANTIZING
from attn_export.exporter.graph.facts import attribute, axes_of, dims, is_op, made_by, stored, users

LAYERS = ("Conv", "Gemm", "MatMul")
POOLS = {"AveragePool": "Mean", "MaxPool": "Max", "GlobalAveragePool": "Mean", "GlobalMaxPool": "Max"}
REDUCTIONS = {
    "ReduceMean": "Mean",
    "ReduceMax": "Max",
    "ReduceSum": "Sum",
    "ReduceL2": "Norm",
    "ReduceSumSquare": "Norm",
}
# A smaller kernel on a map of unknown size is a local pool.
LARGE_KERNEL = 4


class Over(Enum):
    """The axes that a pool summarizes."""

    PLACES = "places"
    CHANNELS = "channels"
    ROWS = "rows"
    COLUMNS = "columns"


@dataclass(frozen=True)
class Pool:
    """A node that summarizes a map; ``kind`` is "Mean", "Max", "Sum", "Norm" or "Softmax"."""

    node: ir.Node
    kind: str
    over: Over


@dataclass(frozen=True)
class Summaries:
    """The pools among the nodes of a gate, and the shapes of the weights."""

    pools: tuple[Pool, ...]
    weights: tuple[tuple[int, ...], ...]

    def kinds(self, over: Over) -> set[str]:
        """The kinds of the pools over these axes."""
        return {pool.kind for pool in self.pools if pool.over is over}

    @property
    def is_directional(self) -> bool:
        """Whether rows and columns are pooled each by itself, as coordinate attention does."""
        return bool(self.kinds(Over.ROWS) and self.kinds(Over.COLUMNS))


def summaries_of(nodes: Sequence[ir.Node], channels: Dim) -> Summaries:
    """Of a gate's nodes; ``channels`` are those of the map."""
    pools = tuple(pool for node in nodes if (pool := _pool(node, channels)) is not None)
    return Summaries(pools, tuple(_weights(nodes)))


def pools_are_combined(summaries: Summaries, nodes: Sequence[ir.Node], channels: Dim) -> bool:
    """Whether mean and maximum become one vector of the map's channels before the first layer, as in SE of both."""
    reached: dict[str, set[ir.Node]] = {"Mean": set(), "Max": set()}
    for pool in summaries.pools:
        if pool.over is Over.PLACES and pool.kind in reached:
            reached[pool.kind] |= _before_layers(pool.node, frozenset(nodes))
    both = reached["Mean"] & reached["Max"]
    concatenated = [node for node in both if is_op(node, "Concat")]
    return any(is_op(node, "Add", "Mul", "Max", "Min", "Sum") for node in both) or any(
        (dims(node.outputs[0]) or (None, None))[1] == channels for node in concatenated if channels is not None
    )


def _before_layers(start: ir.Node, within: frozenset[ir.Node]) -> set[ir.Node]:
    reached: set[ir.Node] = set()
    waiting = [start]
    while waiting:
        for node in users(waiting.pop().outputs[0]):
            if node in within and node not in reached and not is_op(node, *LAYERS):
                reached.add(node)
                waiting.append(node)
    return reached


def _weights(nodes: Sequence[ir.Node]) -> Iterator[tuple[int, ...]]:
    for node in nodes:
        for value in node.inputs[:2] if is_op(node, *LAYERS) else ():
            weight = stored(_quantized(value))
            if weight is not None and weight.ndim > 1:
                yield tuple(weight.shape)


def _quantized(value: ir.Value | None) -> ir.Value | None:
    while (node := made_by(value, *QUANTIZING)) is not None:
        value = node.inputs[0]
    return value


def _pool(node: ir.Node, channels: Dim) -> Pool | None:
    over = _reduced(node, channels) if is_op(node, *REDUCTIONS) else _pooled(node) if is_op(node, *POOLS) else None
    if over is not None:
        return Pool(node, {**REDUCTIONS, **POOLS}[node.op_type], over)
    if is_op(node, "MatMul", "Mul") and any(_is_softmax(value) for value in node.inputs):
        return Pool(node, "Softmax", Over.PLACES)
    return None


def _is_softmax(value: ir.Value | None) -> bool:
    """Whether a value is a Softmax, behind any number of views."""
    while (node := made_by(value, "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Identity", "Flatten")) is not None:
        value = node.inputs[0]
    return made_by(value, "Softmax") is not None


def _reduced(node: ir.Node, channels: Dim) -> Over | None:
    shape, axes = dims(node.inputs[0]) or (), axes_of(node)
    if axes == (1,) or (len(shape) == 3 and axes == (2,) and _has_channels_last(node, channels)):
        return Over.CHANNELS
    if axes == (2, 3) or (len(shape) == 3 and axes == (2,)):
        return Over.PLACES
    if len(shape) == 4 and axes in ((2,), (3,)):
        other = shape[3 if axes == (2,) else 2]
        return Over.PLACES if other == 1 else Over.ROWS if axes == (2,) else Over.COLUMNS
    return None


def _has_channels_last(reduction: ir.Node, channels: Dim) -> bool:
    """Whether a reduction reads (N, places, C), a transposed map."""
    flat = made_by(reduction.inputs[0], "Reshape")
    turned = made_by(flat.inputs[0], "Transpose") if flat is not None else None
    last = turned is not None and tuple(attribute(turned, "perm", ())) == (0, 2, 3, 1)
    return last and (dims(reduction.inputs[0]) or (None,))[-1] == channels


def _pooled(node: ir.Node) -> Over | None:
    before, after = dims(node.inputs[0]) or (), (dims(node.outputs[0]) or ())[2:]
    kernel = tuple(attribute(node, "kernel_shape", ()))
    if kernel and len(before) == 4 and before[1] == 1:
        return Over.CHANNELS  # of (N, 1, C, places)
    if not kernel or after == (1, 1) or (after in ((1,), ()) and min(kernel) >= LARGE_KERNEL):
        return Over.PLACES
    if len(kernel) == len(after) == 2 and 1 in kernel and max(kernel) >= LARGE_KERNEL:
        return Over.COLUMNS if after[1] == 1 else Over.ROWS if after[0] == 1 else None
    return Over.PLACES if None in after and min(kernel) >= LARGE_KERNEL else None
