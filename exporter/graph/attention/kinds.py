"""What kind of attention block a gate is: by what it summarizes on the way from the map to the sigmoid.

The places of each channel (SE, ECA, the channel half of CBAM), the channels of each place (its spatial half), rows and
columns (coordinate attention, which puts both through one layer, and ELA), these and the channels (triplet attention),
nothing at some (BAM, scSE), neighbourhoods (gather-excite). Without layers: norms (GCT), or squared distances from the
mean (SimAM).
"""

from dataclasses import dataclass

import onnx_ir as ir

from attn_export.exporter.artifacts import UNKNOWN, AttentionBlock, Dim
from attn_export.exporter.graph.attention.branches import SELECTIVE, SPLIT
from attn_export.exporter.graph.attention.paths import common_path
from attn_export.exporter.graph.attention.summaries import Over, Summaries, pools_are_combined, summaries_of
from attn_export.exporter.graph.facts import dims, is_op, made_by, scalar, users

SPATIAL, CHANNEL, COORDINATE, TRIPLET = "CBAM spatial", "CBAM channel", "coordinate attention", "triplet attention"
ECA, BAM, SCSE, SPATIAL_SE, ELA = "ECA", "BAM", "scSE", "sSE", "ELA"
GCT, SIMAM, GATHER = "GCT", "SimAM", "gather-excite"


@dataclass(frozen=True)
class Gating:
    """A multiplication by a gate, or by two.

    Attributes:
        product: the node that multiplies.
        source: the map that is gated.
        logits: what goes into each sigmoid.
        nodes: from ``source`` to ``product``, in the order in which they compute; the last is ``product``.
        origin: the map that the gate is computed from: ``source``, or what an earlier gate was applied to.
        kind: if the layers alone tell it, otherwise empty.
    """

    product: ir.Node
    source: ir.Value
    logits: tuple[ir.Value, ...]
    nodes: tuple[ir.Node, ...]
    origin: ir.Value
    kind: str = ""


def described(gating: Gating) -> AttentionBlock:
    """A gating as a block of its own."""
    shape = dims(gating.source)
    axis = 2 if gating.kind in (SELECTIVE, SPLIT) else 1
    size = shape[axis] if shape is not None and len(shape) > axis else None
    channels = size if isinstance(size, int) else None
    summaries = summaries_of(gating.nodes, channels)
    kind = gating.kind or _kind(gating, summaries, channels)
    hidden = _hidden(kind, summaries, channels) if kind.startswith(("SE", "CBAM", COORDINATE, SCSE, BAM)) else None
    return AttentionBlock(
        kind=kind,
        module_path=common_path(gating.nodes),
        channels=channels,
        reduction=max(1, channels // hidden) if channels and isinstance(hidden, int) and kind != SPATIAL else None,
        kernel=_kernel(kind, summaries),
        gates=tuple(logits.name or "" for logits in gating.logits),
        maps=(gating.product.outputs[0].name or "",),
        nodes=tuple(node.name or node.op_type for node in gating.nodes),
        nodes_before=len(gating.nodes),
    )


def _kind(gating: Gating, summaries: Summaries, channels: Dim) -> str:
    pooled, across = summaries.kinds(Over.PLACES), summaries.kinds(Over.CHANNELS)
    if summaries.is_directional:
        is_joint = any(is_op(node, "Concat") for node in gating.nodes)  # rows and columns go through one layer
        return TRIPLET if across else COORDINATE if is_joint else ELA
    if not summaries.weights:
        return _without_layers(gating, pooled, across)
    if across:
        has_kernel = any(len(w) == 4 and w[-1] > 1 for w in summaries.weights)
        return ("CBAM" if pooled and len(gating.logits) > 1 else SPATIAL) if has_kernel else UNKNOWN
    if not pooled:
        return _of_neighbourhoods(gating, summaries, channels)
    if _adds_map_of_places(gating):
        return BAM if len(gating.logits) == 1 else SCSE
    return _of_channels(gating, summaries, channels)


def pooled_direction(gating: Gating) -> Over | None:
    """Rows or columns, if a gate summarizes nothing else of its map."""
    found = {pool.over for pool in summaries_of(gating.nodes, None).pools}
    return next(iter(found)) if found in ({Over.ROWS}, {Over.COLUMNS}) else None


def _without_layers(gating: Gating, pooled: set[str], across: set[str]) -> str:
    if across and pooled and _sums_squares(gating) and any(is_op(node, "Tanh") for node in gating.nodes):
        return GCT
    return SIMAM if pooled and not across and _squares_deviations(gating) else UNKNOWN


def _of_neighbourhoods(gating: Gating, summaries: Summaries, channels: Dim) -> str:
    """The kind of a gate that pools nothing globally: from a 1x1 convolution, or from depthwise ones with a stride."""
    weights = summaries.weights
    if [tuple(w) for w in weights] == [(1, channels, 1, 1)]:
        return SPATIAL_SE
    is_resized = any(is_op(node, "Resize", "Upsample") for node in gating.nodes)
    return GATHER if is_resized and all(len(w) == 4 and w[:2] == (channels, 1) for w in weights) else UNKNOWN


def _of_channels(gating: Gating, summaries: Summaries, channels: Dim) -> str:
    pooled, weights = summaries.kinds(Over.PLACES), summaries.weights
    if any(_slides_over_channels(w) for w in weights):
        return ECA
    if {"Mean", "Max"} <= pooled and not pools_are_combined(summaries, gating.nodes, channels):
        return CHANNEL
    if "Softmax" in pooled:
        return "SE (softmax pool)"
    return "SE (sums)" if pooled == {"Sum"} else "SE" if len(weights) > 1 else "SE (one layer)"


def _sums_squares(gating: Gating) -> bool:
    """Whether the places of a channel are summed as squares: its l2 norm, in one operator or several."""
    return any(
        is_op(node, "ReduceL2", "ReduceSumSquare") or (is_op(node, "ReduceSum") and _is_square(node.inputs[0]))
        for node in gating.nodes
    )


def _squares_deviations(gating: Gating) -> bool:
    """Whether the gate is computed from the squared distance of each number from its channel's mean.

    A variance alone is made of such squares, too, and nothing but a pool reads them.
    """
    distances = [node for node in gating.nodes if is_op(node, "Sub") and (dims(node.inputs[0]) or ())[2:] != (1, 1)]
    squares = [user for node in distances for user in users(node.outputs[0]) if _is_square(user.outputs[0])]
    return any(is_op(user, "Div", "Mul") for square in squares for user in users(square.outputs[0]))


def _is_square(value: ir.Value | None) -> bool:
    node = made_by(value, "Mul", "Pow")
    if node is None:
        return False
    return scalar(node.inputs[1]) == 2 if is_op(node, "Pow") else node.inputs[0] is node.inputs[1]


def _hidden(kind: str, summaries: Summaries, channels: Dim) -> Dim:
    """The width of the hidden layer: what most 1x1 layers have on one side, and the map's channels on the other."""
    widths = [size for w in summaries.weights for size in w[:2] if size != channels and max((*w[2:], 1)) == 1]
    if kind in (SCSE, BAM):  # some of whose layers make one channel
        widths = [size for size in widths if widths.count(size) > 1 or size > 1]
    return min(widths, default=channels)


def _kernel(kind: str, summaries: Summaries) -> int | None:
    """Of the spatial gate's convolution, of triplet attention's, or of ECA's."""
    if kind == ECA:
        return next(max(w[2:]) for w in summaries.weights if _slides_over_channels(w))
    spatial = kind in ("CBAM", SPATIAL, TRIPLET)
    return next((w[-1] for w in summaries.weights if len(w) == 4 and w[-1] > 1), None) if spatial else None


def _slides_over_channels(weight: tuple[int, ...]) -> bool:
    """Whether a weight is that of a convolution with one channel in and out, over (N, 1, C) or (N, 1, C, 1)."""
    return weight[:2] == (1, 1) and len(weight) > 2 and max(weight[2:]) > 1


def _adds_map_of_places(gating: Gating) -> bool:
    """Whether a vector of channels and a map of one channel are added before the sigmoid, as in BAM."""
    for node in gating.nodes:
        shapes = [_shape_before_expand(value) for value in node.inputs] if is_op(node, "Add") else []
        of_places = [len(shape) == 4 and shape[1] == 1 and shape[2:] != (1, 1) for shape in shapes]
        if any(of_places) and any(shape[2:] == (1, 1) and shape[1] != 1 for shape in shapes):
            return True
    return False


def _shape_before_expand(value: ir.Value | None) -> tuple[Dim, ...]:
    expand = made_by(value, "Expand")
    return dims(expand.inputs[0] if expand is not None else value) or ()
