"""Converts a float32 ONNX file to another precision."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from attn_export.exporter.artifacts import (
    EXPORT_PRECISIONS,
    AttentionBlock,
    Float32Node,
    OnnxFile,
    ParsedFile,
    Precision,
    Step,
)
from attn_export.exporter.errors import CleanupError, UsageError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.attention.blocks import METADATA_KEY, to_json
from attn_export.exporter.graph.gates import gates_of
from attn_export.exporter.graph.opset import raise_opset
from attn_export.exporter.graph.read import parse, parsed
from attn_export.exporter.network.batches import Batch
from attn_export.exporter.precision.half import to_half
from attn_export.exporter.precision.ranges import largest_values
from attn_export.exporter.precision.rounding import FLOAT16, HALF_TYPES
from attn_export.exporter.records.arrays import Array

PRECISION_KEY = "attn_export.precision"
# The first whose convolutions may be bfloat16 (https://onnx.ai/onnx/operators/onnx__Conv.html).
BFLOAT16_OPSET = 22
# Properties of the source file that the converted file doesn't have.
STALE = ("attn_export.validation",)


def typed_file(file: OnnxFile, precision: Precision, batches: Sequence[Batch], path: Path, threads: int) -> OnnxFile:
    """Convert a float32 file.

    Args:
        file: cleaned, float32.
        precision: of the new file.
        batches: images for the range of the values.
        path: of the new file, in an existing folder; not the source file's.
        threads: of ONNX Runtime.

    Returns:
        The new file, with the same inputs and outputs; ``file`` itself if it has this precision.

    Raises:
        CleanupError: the graph can't be converted, see `half.to_half`.
        InputError: ONNX Runtime can't run the source file on these images.
        OutputError: the file can't be written.
    """
    if precision is file.precision:
        return file
    feeds = [file.signature.feeds(batch.arrays) for batch in batches]
    converted, kept = typed(parsed(file), precision, feeds, path, threads)
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
) -> tuple[ParsedFile, tuple[Float32Node, ...]]:
    """Convert any ONNX file, with inputs by name.

    ``blocks`` become the inventory of a file that has none.

    Returns:
        The new file, and the nodes that stay in float32.

    Raises:
        UsageError: files can't be written in this precision.
        CleanupError, InputError, OutputError: as `typed_file` says.
    """
    if precision not in EXPORT_PRECISIONS:
        raise UsageError(
            f"files can't be written in {precision.onnx_name}",
            hint=f"Known are {', '.join(str(known) for known in EXPORT_PRECISIONS)}.",
        )
    model = source.copy()
    if blocks:
        model.metadata_props.setdefault(METADATA_KEY, to_json(blocks))
    kept: tuple[Float32Node, ...] = ()
    if (kind := HALF_TYPES.get(precision)) is not None:
        if precision is Precision.BF16 and model.graph.opset_imports.get("", 0) < BFLOAT16_OPSET:
            model = raise_opset(model, BFLOAT16_OPSET)
        kept = to_half(model, largest_values(source, feeds, threads), kind)
    for key in STALE:
        model.metadata_props.pop(key, None)
    model.metadata_props[PRECISION_KEY] = str(precision)
    onnx_file.save(model, path)
    onnx_file.check(path)
    converted = parse(path)
    if kind is FLOAT16:  # bfloat16 ends where float32 does
        _refuse_overflow(converted, feeds, threads)
    return converted, kept


def _refuse_overflow(file: ParsedFile, feeds: Sequence[Mapping[str, Array]], threads: int) -> None:
    """Check every float16 tensor of a file for overflow.

    ONNX Runtime computes float16 in float32 on a CPU and leaves out the conversions between operators, so its outputs
    are finite where a GPU's are infinite.

    Raises:
        CleanupError: a value exceeds float16's maximum.
    """
    for name, value in largest_values(file, feeds, threads, FLOAT16.dtype).items():
        if not value <= FLOAT16.largest:
            raise CleanupError(
                f"{name} reaches {value:.3g}, beyond float16's maximum",
                step="float16",
                hint="This is a defect of the conversion to float16, or the network computes infinity on purpose.",
            )
