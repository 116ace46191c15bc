"""Converts a float32 ONNX file to another precision."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from attn_export.exporter.artifacts import (
    AttentionBlock,
    Float32Node,
    OnnxFile,
    ParsedFile,
    Precision,
    Step,
)
from attn_export.exporter.errors import CleanupError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.attention.blocks import METADATA_KEY, to_json
from attn_export.exporter.graph.gates import gates_of
from attn_export.exporter.graph.opset import raise_opset
from attn_export.exporter.graph.read import parse, parsed
from attn_export.exporter.network.batches import Batch
from attn_export.exporter.precision.half import to_half
from attn_export.exporter.precision.native_io import make_native
from attn_export.exporter.precision.ranges import largest_values, narrowed
from attn_export.exporter.precision.rounding import FLOAT16, HALF_TYPES, HalfType
from attn_export.exporter.records.arrays import Array

PRECISION_KEY = "attn_export.precision"
# The first whose convolutions may be bfloat16 (https://onnx.ai/onnx/operators/onnx__Conv.html).
OLDEST_OPSETS = {Precision.FP16: 1, Precision.BF16: 22}
# Properties of the source file that the converted file doesn't have.
STALE = ("attn_export.validation",)


def typed_file(
    file: OnnxFile,
    precision: Precision,
    batches: Sequence[Batch],
    path: Path,
    threads: int,
    *,
    native_io: bool = False,
) -> OnnxFile:
    """Convert a float32 file.

    ``path`` isn't the source's; ``native_io`` gives inputs and outputs this precision too.

    Returns:
        The new file, with inputs and outputs of the same names; ``file`` itself if it has this precision.

    Raises:
        CleanupError: the graph can't be converted, see `half.to_half`.
        InputError: ONNX Runtime can't run the source file on these images.
        OutputError: the file can't be written.
    """
    if precision is file.precision:
        return file
    feeds = [file.signature.feeds(batch.arrays) for batch in batches]
    converted, kept = typed(parsed(file), precision, feeds, path, threads, native_io=native_io)
    model = converted.model
    step = Step(f"change to {precision.onnx_name}", file.nodes, len(model.graph))
    return replace(
        file,
        path=path,
        parsed=converted,
        opset=model.graph.opset_imports[""],
        nodes=len(model.graph),
        gates=gates_of(model),
        steps=(*file.steps, step),
        precision=precision,
        kept=kept,
    )


def typed(
    source: ParsedFile,
    precision: Precision,
    feeds: Sequence[Mapping[str, Array]],
    path: Path,
    threads: int,
    blocks: Sequence[AttentionBlock] = (),
    *,
    native_io: bool = False,
) -> tuple[ParsedFile, tuple[Float32Node, ...]]:
    """Convert any ONNX file, with inputs by name.

    ``blocks`` become the inventory of a file that has none.

    Returns:
        The new file, and the nodes that stay in float32.

    Raises:
        CleanupError, InputError, OutputError: as `typed_file` says.
    """
    model, kept = in_half(source, HALF_TYPES[precision], feeds, threads)
    if native_io:
        make_native(model.graph, HALF_TYPES[precision])
    if blocks:
        model.metadata_props.setdefault(METADATA_KEY, to_json(blocks))
    for key in STALE:
        model.metadata_props.pop(key, None)
    model.metadata_props[PRECISION_KEY] = str(precision)
    onnx_file.save(model, path)
    onnx_file.check(path)
    converted = parse(path)
    if precision is Precision.FP16:  # bfloat16 ends where float32 does
        refuse_overflow(converted, feeds, threads)
    return converted, kept


def in_half(
    source: ParsedFile, kind: HalfType, feeds: Sequence[Mapping[str, Array]], threads: int
) -> tuple[ir.Model, tuple[Float32Node, ...]]:
    """A graph in a type of 16 bits, in an operator set that has it, and the nodes that stay in float32.

    Raises:
        CleanupError, InputError: as `typed_file` says.
    """
    model, opset = source.copy(), OLDEST_OPSETS[kind.precision]
    if model.graph.opset_imports.get("", 0) < opset:
        model = raise_opset(model, opset)
    return model, to_half(model, largest_values(source, feeds, threads), kind)


def refuse_overflow(file: ParsedFile, feeds: Sequence[Mapping[str, Array]], threads: int) -> None:
    """Check every float16 tensor of a file for overflow.

    ONNX Runtime computes float16 in float32 on a CPU and leaves out the conversions between operators, so its outputs
    are finite where a GPU's are infinite.

    Raises:
        CleanupError: a value exceeds float16's maximum.
    """
    for name, value in largest_values(file, narrowed(file.model, feeds), threads, FLOAT16.dtype).items():
        if not value <= FLOAT16.largest:
            raise CleanupError(
                f"{name} reaches {value:.3g}, beyond float16's maximum",
                hint="This is a defect of the conversion to float16, or the network computes infinity on purpose.",
            )
