"""Writes the quantized graph, and runs the file as it is written."""

from collections.abc import Sequence
from pathlib import Path

from attn_export.exporter.artifacts import Float32Node, ParsedFile, Precision
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.read import parse
from attn_export.exporter.graph.session import PlainSession
from attn_export.exporter.precision.half_scales import with_half_scales
from attn_export.exporter.precision.int8.choose import Trial, Work
from attn_export.exporter.precision.int8.qdq import quantized
from attn_export.exporter.precision.int8.settings import QuantizeSettings
from attn_export.exporter.precision.rounding import FLOAT16
from attn_export.exporter.precision.typed_file import PRECISION_KEY, STALE, in_half, refuse_overflow
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.runtimes.evaluator import evaluated


def write_quantized(
    best: Trial, source: Path, path: Path, settings: QuantizeSettings, work: Work
) -> tuple[Float32Node, ...]:
    """Write the graph; returns the nodes that stay in float32 where those around are float16."""
    kept, half = tuple[Float32Node, ...](), settings.around is Precision.FP16
    if half:
        with_half_scales(best.found)
    model = quantized(best.model, best.placement, best.found)
    if half:
        model, kept = in_half(ParsedFile(source, model), FLOAT16, work.feeds, work.threads)
    for key in STALE:
        model.metadata_props.pop(key, None)
    model.metadata_props[PRECISION_KEY] = str(settings.precision)
    onnx_file.save(model, path)
    onnx_file.check(path)
    if half:
        refuse_overflow(parse(path), work.feeds, work.threads)
    return kept


def run_plain(path: Path, feeds: Sequence[Arrays], threads: int) -> dict[str, list[Array]]:
    """The outputs of a file as it was written, in ONNX Runtime without optimizations."""
    session = PlainSession(path, threads)
    runs = [session.run(feed) for feed in feeds]
    return {name: [run[name] for run in runs] for name in session.outputs}


def run_evaluated(path: Path, feeds: Sequence[Arrays], threads: int) -> dict[str, list[Array]]:  # noqa: ARG001 (as `run_plain`)
    """The same in onnx's reference evaluator, for float8."""
    return evaluated(path, [str(value.name) for value in parse(path).model.graph.outputs], feeds)
