"""The error of a quantization: SQNR and classes that agree."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from attn_export.exporter.graph.facts import made_by
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.verdict import Quality

SQUASHING = ("Softmax", "LogSoftmax", "Sigmoid", "Identity")


def scores(graph: ir.Graph) -> dict[str, ir.Value]:
    """The values that quantizations are judged by: outputs, those of a Softmax or Sigmoid before it.

    A Softmax hides the errors of all images but a few.
    """
    found = {}
    for output in graph.outputs:
        value = output
        while (node := made_by(value, *SQUASHING)) is not None and (before := node.inputs[0]) is not None:
            value = before
        found[str(output.name)] = value
    return found


def decibels(exact: Sequence[Array], found: Sequence[Array]) -> float | None:
    """Signal-to-quantization-noise ratio of a tensor, given batch by batch; None without a difference."""
    signal, noise = 0.0, 0.0
    for wanted, got in zip(exact, found, strict=True):
        signal += float(np.square(wanted, dtype=np.float64).sum())
        noise += float(np.square(wanted - got, dtype=np.float64).sum())
    return 10 * math.log10(signal / noise) if noise and signal else None


def compared(exact: Mapping[str, Sequence[Array]], found: Mapping[str, Sequence[Array]]) -> Quality:
    """The quality of outputs, given batch by batch."""
    sqnr = {name: decibels(exact[name], found[name]) for name in exact}
    agreement, images = None, sum(len(chunk) for chunk in next(iter(exact.values())))
    for name, chunks in exact.items():
        if chunks[0].ndim == 2 and chunks[0].shape[1] > 1:
            same = [a.argmax(1) == b.argmax(1) for a, b in zip(chunks, found[name], strict=True)]
            agreement = float(np.concatenate(same).mean())
            break
    return Quality(sqnr, agreement, images)


def worst(quality: Quality) -> float:
    """The smallest SQNR of an output, infinite where nothing differs."""
    return min(math.inf if value is None else value for value in quality.sqnr_db.values())
