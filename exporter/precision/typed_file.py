"""One arrow: a float32 ONNX file to one of another precision."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from attn_export.exporter.artifacts import MADE, AttentionBlock, Kept, OnnxFile, Precision, Step
from attn_export.exporter.errors import CleanupError, UsageError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.attention.blocks import METADATA_KEY, to_json
from attn_export.exporter.graph.gates import gates_of
from attn_export.exporter.graph.read import read
from attn_export.exporter.network.images import Batch
from attn_export.exporter.precision.float16 import to_float16
from attn_export.exporter.precision.ranges import Array, largest_values_of
from attn_export.exporter.precision.rounding import LARGEST

PRECISION_KEY = "attn_export.precision"
# What the parent was found to be isn't what its child is.
STALE = ("attn_export.validation",)


def typed_file(file: OnnxFile, precision: Precision, batches: Sequence[Batch], path: Path, threads: int) -> OnnxFile:
    """Write a file of another precision, made of a float32 file.

    Args:
        file: cleaned, float32.
        precision: of the new file.
        batches: images on which it is seen how large the values get.
        path: of the new file; its folder exists, and it isn't the parent's own.
        threads: of ONNX Runtime.

    Returns:
        The new file, its gates found again; the same inputs and outputs. The parent itself if it has that precision.

    Raises:
        CleanupError: the graph can't be changed to it, see `float16.to_float16`.
        InputError: ONNX Runtime can't run the parent on these images.
        OutputError: the file can't be written.
    """
    if precision is file.precision:
        return file
    feeds = [{file.signature.input_name: batch.images} for batch in batches]
    model, kept = typed(file.path, precision, feeds, path, threads)
    step = Step(f"change to {precision.onnx_name}", file.nodes, len(model.graph))
    return replace(
        file,
        path=path,
        nodes=len(model.graph),
        gates=gates_of(model),
        steps=(*file.steps, step),
        precision=precision,
        kept=kept,
    )


def typed(
    source: Path,
    precision: Precision,
    feeds: Sequence[Mapping[str, Array]],
    path: Path,
    threads: int,
    blocks: Sequence[AttentionBlock] = (),
) -> tuple[ir.Model, tuple[Kept, ...]]:
    """The same for any ONNX file, with inputs by name; the new file's graph, and what stays in float32 in it.

    ``blocks`` are noted as its inventory where the file carries none.

    Raises:
        UsageError: no files are made in this precision.
    """
    if precision not in MADE:
        raise UsageError(
            f"no files are made in {precision.onnx_name}", hint=f"Known are {', '.join(str(known) for known in MADE)}."
        )
    model = read(source)
    if blocks:
        model.metadata_props.setdefault(METADATA_KEY, to_json(blocks))
    kept: tuple[Kept, ...] = ()
    if precision is Precision.FP16:
        kept = to_float16(model, largest_values_of(model, source, feeds, threads))
    for key in STALE:
        model.metadata_props.pop(key, None)
    model.metadata_props[PRECISION_KEY] = str(precision)
    onnx_file.save(model, path)
    onnx_file.check(path)
    written = read(path)
    _refuse_overflow(written, path, feeds, threads)
    return written, kept


def _refuse_overflow(model: ir.Model, path: Path, feeds: Sequence[Mapping[str, Array]], threads: int) -> None:
    """Look at every float16 tensor of a file: ONNX Runtime on a CPU computes them in float32 and tells no overflow.

    It leaves out the conversions between operators, so its outputs are right where a GPU's are infinite.

    Raises:
        CleanupError: one is beyond float16's largest.
    """
    for name, value in largest_values_of(model, path, feeds, threads, ir.DataType.FLOAT16).items():
        if not value <= LARGEST:
            raise CleanupError(
                f"{name} goes up to {value:.3g}, which float16 doesn't hold",
                step="float16",
                hint="This is a defect of the change to float16, or the network computes infinity on purpose.",
            )
