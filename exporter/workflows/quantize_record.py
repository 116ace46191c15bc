"""The record of a quantization."""

import hashlib
from collections.abc import Sequence

import numpy as np

from attn_export.exporter.artifacts import MODULE_KEY
from attn_export.exporter.graph.facts import constant
from attn_export.exporter.precision.int8.choose import Trial
from attn_export.exporter.precision.int8.placement import NARROW, NARROWEST, Placement
from attn_export.exporter.precision.int8.settings import QuantizeSettings
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.records.images import ImageSource
from attn_export.exporter.records.quantization import (
    Quantization,
    QuantizationStep,
    QuantizedLayer,
    QuantizedTensor,
    Sensitivity,
)
from attn_export.exporter.records.verdict import Quality


def narrow_layers(placement: Placement) -> str:
    """A note for a network most of whose layers are too narrow to gain from int8; empty for others.

    A depthwise convolution has one channel for each group.
    """
    shapes = [stored.shape[:2] for layer in placement.layers if (stored := constant(layer.inputs[1])) is not None]
    kept = sum(node.reason == NARROW for node in placement.kept)
    narrow, every = kept + sum(min(shape) == 1 for shape in shapes), kept + len(shapes)
    if 2 * narrow <= every:
        return ""
    return (
        f"{narrow} of {every} layers are depthwise or have fewer than {NARROWEST} channels: TensorRT gains little from "
        "int8, so compare the engine's latency with that of float16"
    )


def record_of(
    best: Trial,
    steps: tuple[QuantizationStep, ...],
    order: tuple[Sensitivity, ...],
    settings: QuantizeSettings,
    feeds: Sequence[Arrays],
    source: ImageSource,
) -> Quantization:
    """The record of the best trial, before the file is measured: its quality is empty."""
    found = best.found
    tensors = tuple(
        QuantizedTensor(
            str(value.name), r.grid.scale, r.grid.zero_point, r.low, r.high, round(r.share, 3), found.sqnr[value]
        )
        for value, r in found.ranges.items()
    )
    layers = tuple(
        QuantizedLayer(
            node.name or "",
            node.metadata_props.get(MODULE_KEY, ""),
            node.op_type,
            found.sqnr[node],
            found.relative.get(node),
        )
        for node in best.placement.layers
    )
    return Quantization(
        precision=str(settings.precision),
        around=str(settings.around),
        runtime=str(settings.choices.runtime),
        ranges=str(best.recipe.method),
        calibration=digest_of(feeds),
        images=sum(len(next(iter(feed.values()))) for feed in feeds),
        source=source,
        tensors=tensors,
        layers=layers,
        kept=best.placement.kept,
        quality=Quality({}, None, 0),
        steps=steps,
        sensitivity=order,
    )


def digest_of(feeds: Sequence[Arrays]) -> str:
    """The SHA-256 of all images."""
    digest = hashlib.sha256()
    for feed in feeds:
        for array in feed.values():
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
