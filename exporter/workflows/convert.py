"""Converts an ONNX file without a checkpoint to the precision of an engine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import ONNX_ENDING, Input, Precision
from attn_export.exporter.engine.profile import make_profile
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.errors import DisagreementError, InputError, UsageError
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.results import Retyped
from attn_export.exporter.system.progress import Progress

if TYPE_CHECKING:
    import onnx_ir as ir

    from attn_export.exporter.engine.graph import GraphFacts, OnnxSource


def in_precision(
    source: "OnnxSource",
    precision: Precision | None,
    folder: Path,
    scratch: Path,
    settings: EngineSettings,
    *,
    threads: int,
    progress: Progress,
) -> tuple["GraphFacts", Retyped | None]:
    """An ONNX file in a precision: the file itself, an earlier conversion of it, or a new one.

    ``folder`` holds earlier conversions, ``scratch`` a new one. Images in the engine's opt shapes show the range.

    Returns:
        Facts about the file in this precision, and the new file.

    Raises:
        UsageError: float32 is asked for, and the file is float16; or int8 or fp8 is.
        DisagreementError: the new file computes something else.
    """
    from attn_export.exporter.engine.graph import source_of
    from attn_export.exporter.network.batches import feeds_for
    from attn_export.exporter.precision.typed_file import typed
    from attn_export.exporter.validation.converted_source import compare_with_parent

    facts, path = source.facts, source.facts.path
    float32 = precision in (Precision.FP32, Precision.TF32)
    if precision is None or precision is source.precision or (float32 and source.precision is Precision.FP32):
        return facts, None
    if precision.is_quantized:
        raise UsageError(
            f"{precision} needs calibration images",
            hint=f"attn-export quantize {path.name} --precision {precision} --calibration DIR, then build that file.",
        )
    if float32:
        raise UsageError(
            f"{path} is {source.precision}, and what was rounded away can't be brought back",
            hint="Build from the float32 file, or leave --precision out.",
        )
    profile = make_profile(facts.inputs, settings.sizes, settings.opt_batch)
    inputs = [value for value in source.parsed.model.graph.inputs if value.name in profile]
    feeds = feeds_for([Input(str(v.name), profile[str(v.name)].opt, _dtype(v)) for v in inputs])
    out = scratch / f"{path.stem}{precision.suffix}{ONNX_ENDING}"
    if (earlier := folder / out.name).is_file():
        with progress.stage(f"Comparing {earlier.name} with the float32 file"):
            child = _earlier_conversion(source, earlier, precision, feeds, threads)
        if child is not None:
            progress.note(f"{earlier} is there and agrees with {path.name}: it is used as it is")
            return child, None
        progress.note(f"{earlier} is there and is no child of {path.name}: it is replaced")
    with progress.stage(f"Changing the graph to {precision}"):
        converted, kept = typed(source.parsed, precision, feeds, out, threads, facts.blocks)
    with progress.stage("Comparing it with the float32 file"):
        verdict = compare_with_parent(source.parsed, converted, precision, feeds, threads)
    return source_of(converted).facts, Retyped(out, kept, verdict)


def _earlier_conversion(
    source: "OnnxSource", child: Path, precision: Precision, feeds: Sequence[Mapping[str, Array]], threads: int
) -> "GraphFacts | None":
    """Facts about a file if it has the precision and agrees with its source; None otherwise."""
    from attn_export.exporter.engine.graph import read_source
    from attn_export.exporter.validation.converted_source import compare_with_parent

    try:
        read = read_source(child)
        if read.precision is not precision:
            return None
        compare_with_parent(source.parsed, read.parsed, precision, feeds, threads)
    except (DisagreementError, InputError):
        return None
    return read.facts


def _dtype(value: "ir.Value") -> str:
    return "float32" if value.dtype is None else str(value.dtype.numpy())
