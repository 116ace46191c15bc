"""Weights in other files: only of the graph's folder, and only where they are whole."""

import os
from pathlib import Path

import onnx_ir as ir

from attn_export.exporter.errors import UnreadableGraphError, first_line

# Smaller ones are shapes and scalars, which are looked at anyway.
MAPPED_BYTES = 1024
MAX_SHOWN = 100


def settle_external_data(model: ir.Model, path: Path) -> None:
    """Make sure that weights in other files can be read; small ones, and those in the bodies of If and Loop, are."""
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor) and tensor.base_dir:
                _check_external(tensor, name, path)
                if graph is not model.graph or tensor.nbytes < MAPPED_BYTES:
                    value.const_value = ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=name)
        for node in graph:
            for key, attribute in list(node.attributes.items()):
                tensor = attribute.value if attribute.type == ir.AttributeType.TENSOR else None
                if isinstance(tensor, ir.ExternalTensor):
                    _check_external(tensor, node.name or node.op_type, path)
                    loaded = ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=tensor.name)
                    node.attributes[key] = ir.AttrTensor(key, loaded)


def _check_external(tensor: ir.ExternalTensor, name: str, path: Path) -> None:
    folder = path.resolve().parent
    location = os.fspath(tensor.location)
    try:
        file = (folder / location).resolve()
        is_there = file.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in it, thousands of characters, or a loop of links
        raise UnreadableGraphError(
            f"{path} has its weights in {str(location)[:MAX_SHOWN]!r}: {first_line(error)[:MAX_SHOWN]}",
            hint="The program that wrote the file has to be mended.",
        ) from error
    if Path(tensor.location).is_absolute() or not file.is_relative_to(folder):
        raise UnreadableGraphError(
            f"{path} wants weights from {tensor.location}, outside of its folder",
            hint="Only files beside it, or below, are read. Put the weights there.",
        )
    if not is_there:
        raise UnreadableGraphError(
            f"{path} has its weights in {tensor.location}, which isn't there", hint="Copy both files together."
        )
    if tensor.length is not None and tensor.length != tensor.nbytes:
        raise UnreadableGraphError(
            f"{path} is damaged: {name} should have {tensor.nbytes} bytes in {tensor.location}, not {tensor.length}",
            hint="The program that wrote the file has to be mended.",
        )
    if file.stat().st_size < (tensor.offset or 0) + tensor.nbytes:
        raise UnreadableGraphError(
            f"{file} is too short: {name} should end at byte {(tensor.offset or 0) + tensor.nbytes}",
            hint="Was it copied completely?",
        )
