"""The user's images for an ONNX file."""

from pathlib import Path

import onnx_ir as ir

from attn_export.exporter.artifacts import Input
from attn_export.exporter.errors import UsageError
from attn_export.exporter.graph.facts import dims
from attn_export.exporter.network.real_images import read_images
from attn_export.exporter.records.arrays import Arrays


def inputs_of(model: ir.Model) -> list[Input]:
    """The inputs of a graph; dynamic sizes are 0."""
    values = [value for value in model.graph.inputs if value.const_value is None and value.dtype is not None]
    return [Input(str(value.name), _sizes(value), str(value.dtype.numpy())) for value in values if value.dtype]


def images_for(model: ir.Model, path: Path | None) -> Arrays | None:
    """The images in a file, (N, ...) by input; None without a file.

    Raises:
        InputError: they can't be read or don't fit.
        UsageError: the graph has no input.
    """
    if path is None:
        return None
    inputs = inputs_of(model)
    if not inputs:
        raise UsageError(f"{path} has images, and the graph has no input", hint="Leave --images out.")
    return read_images(path, inputs)


def _sizes(value: ir.Value) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else 0 for size in dims(value) or ())
