"""Outlines of graphs as exports leave them: blocks of attention between what stands in for the rest of a network."""

from collections.abc import Sequence
from typing import Any

from attn_export.exporter.records.graphs import Marked, OutlineRecord

# One CBAM block as PyTorch's exporter writes it, and cleaned: operators, and the places that each reads from. Place -1
# is the map that goes into the block.
CBAM_BEFORE = [
    *("Constant", []), *("Reshape", [0]), *("ReduceMean", [-1, 1]), *("Shape", []), *("Expand", [3]),
    *("CastLike", [2]), *("Expand", [5, 4]), *("Conv", [2, 6]), *("Relu", [7]), *("Shape", []), *("Expand", [9]),
    *("CastLike", [8]), *("Expand", [11, 10]), *("Conv", [8, 12]), *("ReduceMax", [-1]), *("Conv", [14]),
    *("Relu", [15]), *("Conv", [16]), *("Add", [13, 17]), *("Sigmoid", [18]), *("Mul", [-1, 19]),
    *("ReduceMax", [20]), *("Unsqueeze", [21]), *("ReduceMean", [20]), *("Unsqueeze", [23]), *("Concat", [22, 24]),
    *("Conv", [25]), *("BatchNormalization", [26]), *("Sigmoid", [27]), *("Mul", [20, 28]),
]  # fmt: skip
CBAM_AFTER = [
    *("ReduceMean", [-1]), *("Conv", [0]), *("Relu", [1]), *("ReduceMax", [-1]), *("Conv", [3]), *("Relu", [4]),
    *("Add", [2, 5]), *("Conv", [6]), *("Sigmoid", [7]), *("Mul", [-1, 8]), *("ReduceMean", [9]), *("ReduceMax", [9]),
    *("Concat", [10, 11]), *("Conv", [12]), *("Sigmoid", [13]), *("Mul", [9, 14]),
]  # fmt: skip
SE_BEFORE = [
    *("ReduceMean", [-1]), *("Reshape", [0]), *("Gemm", [1]), *("Relu", [2]), *("Gemm", [3]), *("Sigmoid", [4]),
    *("Reshape", [5]), *("Expand", [6]), *("Mul", [-1, 7]),
]  # fmt: skip
SE_AFTER = [
    *("ReduceMean", [-1]), *("Conv", [0]), *("Relu", [1]), *("Conv", [2]), *("Sigmoid", [3]), *("Mul", [-1, 4]),
]  # fmt: skip
BODY_BEFORE = ("Conv", "BatchNormalization", "Relu", "Conv", "BatchNormalization")
BODY_AFTER = ("Conv", "Relu", "Conv")


def parts_of(kind: str) -> tuple[list[Any], list[Any]]:
    return (CBAM_BEFORE, CBAM_AFTER) if kind == "CBAM" else (SE_BEFORE, SE_AFTER)


def outline(places: Sequence[str], kind: str, state: str) -> OutlineRecord:
    parts = parts_of(kind)[state == "after"]
    body = BODY_AFTER if state == "after" else BODY_BEFORE
    nodes: list[tuple[str, int | None, tuple[int, ...]]] = []
    for index, _ in enumerate(places):
        for operator in body:
            nodes.append((operator, None, (len(nodes) - 1,) if nodes else ()))
        first = len(nodes)
        for operator, inputs in zip(parts[::2], parts[1::2], strict=True):
            nodes.append((operator, index, tuple(first + place for place in inputs)))
    for operator in ("GlobalAveragePool", "Gemm"):
        nodes.append((operator, None, (len(nodes) - 1,)))
    operators, blocks, inputs = zip(*nodes, strict=True)
    return OutlineRecord(operators, blocks, inputs, tuple(Marked(kind, place) for place in places))
