"""Whether a float16 file stays within float16's range, which its outputs don't show.

ONNX Runtime computes float16 in float32 on a CPU and leaves out the conversions between operators, so its outputs are
finite where those of a GPU are infinite.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import Input, ParsedFile, Signature
from attn_export.exporter.graph.attention.paths import module_path
from attn_export.exporter.graph.facts import is_op, stored
from attn_export.exporter.network.batches import nominal_batches
from attn_export.exporter.precision.choose import terms
from attn_export.exporter.precision.half import infer_types
from attn_export.exporter.precision.ranges import largest_values, narrowed
from attn_export.exporter.precision.rounding import FLOAT16

MEANS = ("ReduceMean", "GlobalAveragePool", "AveragePool")
IMAGES = 4


@dataclass(frozen=True)
class Float16Range:
    """What exceeds float16's maximum on nominal images.

    Attributes:
        overflow: the first such tensor and its largest value, in words; empty if there is none.
        sums: the means whose sums exceed it, by the names of their nodes; a kernel with float16 sums would overflow.
    """

    overflow: str
    sums: tuple[str, ...]


def float16_range(file: ParsedFile, inputs: Sequence[Input], signature: Signature, threads: int) -> Float16Range:
    """Measure every float16 tensor of a file. Raises InputError: ONNX Runtime can't run it with all these outputs."""
    model = file.copy()
    infer_types(model)
    images = nominal_batches(inputs, signature.batch, IMAGES)
    feeds = narrowed(model, [signature.feeds(batch.arrays) for batch in images])
    largest = largest_values(file, feeds, threads, ir.DataType.FLOAT16)
    infinite = _has_infinite_constants(model.graph)
    for node in model.graph:
        for value in node.outputs:
            reached = largest.get(str(value.name), 0.0)
            if reached > FLOAT16.largest and not (math.isinf(reached) and infinite):
                place = f" (of {path})" if (path := module_path(node)) else ""
                size = "infinity" if math.isinf(reached) else f"{reached:.3g}"
                return Float16Range(f"{value.name}{place} reaches {size}", ())
    sums = [node for node in model.graph if is_op(node, *MEANS) and _sum(node, largest) > FLOAT16.largest]
    return Float16Range("", tuple(str(node.name or node.outputs[0].name) for node in sums))


def _sum(node: ir.Node, largest: dict[str, float]) -> float:
    """The largest sum of a mean's terms in float16; 0 where their number is dynamic."""
    count = terms(node)
    return largest.get(str(node.outputs[0].name), 0.0) * count if math.isfinite(count) else 0.0


def _has_infinite_constants(graph: ir.Graph) -> bool:
    """Whether the graph masks with infinities, so that they are no overflow."""
    values = (*graph.initializers.values(), *(value for node in graph for value in node.outputs))
    arrays = [stored(value) for value in values]
    return any(array is not None and array.dtype.kind == "f" and np.isinf(array).any() for array in arrays)
