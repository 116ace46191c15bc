"""One job: a float32 ONNX file and calibration images to an int8 file, and its quality."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from attn_export.exporter.artifacts import MODULE_KEY, AttentionBlock, ParsedFile, Target
from attn_export.exporter.errors import DisagreementError, InputError, UsageError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.facts import dims
from attn_export.exporter.graph.read import named, parse
from attn_export.exporter.graph.session import PlainSession, SessionError
from attn_export.exporter.network.real_images import read_images
from attn_export.exporter.precision.int8.placement import Choices, Placement, place
from attn_export.exporter.precision.int8.ranges import Method
from attn_export.exporter.precision.int8.sweep import Sweep, sweep
from attn_export.exporter.precision.typed_file import PRECISION_KEY, STALE
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.quantization import Quantization, QuantizedLayer, QuantizedTensor
from attn_export.exporter.records.verdict import Quality, QualityRequirement
from attn_export.exporter.system.files import scratch_folder
from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.system.progress import NullProgress, Progress

QUANTIZATION_KEY = "attn_export.quantization"
OLDEST_OPSET = 13  # the first with one scale for each channel
BATCH = 8


@dataclass(frozen=True)
class QuantizeSettings:
    """Settings of a quantization.

    Attributes:
        choices: where.
        method: of choosing ranges.
        correct_bias: layer after layer.
        requirement: on the quality; the default SQNR if None.
        threads: of ONNX Runtime; None for all usable CPUs.
    """

    choices: Choices = field(default_factory=Choices)
    method: Method = Method.MSE
    correct_bias: bool = True
    requirement: QualityRequirement | None = None
    threads: int | None = None


def quantize_file(
    source: Path | str,
    out: Path | str,
    calibration: Path | str | Array,
    *,
    held_out: Path | str | Array | None = None,
    settings: QuantizeSettings | None = None,
    progress: Progress | None = None,
) -> Quantization:
    """Quantize an ONNX file: ``quantize_file("model.onnx", "model.int8.onnx", "calibration.npz")``.

    Args:
        source: a float32 file with one input of images; `clean` recognizes its attention first.
        out: the int8 file; it appears when its quality suffices, or not at all.
        calibration: images, (N, C, H, W) float32, preprocessed as the network takes them: an array, .npy or .npz.
        held_out: other images, on which the quality is required instead.
        settings: of the quantization.
        progress: receives stages and notes.

    Returns:
        How it was quantized, and the quality; also in the file's metadata.

    Raises:
        UnreadableGraphError: the file isn't there, is damaged, or isn't valid ONNX.
        InputError: it can't be quantized, or the images don't fit.
        UsageError: an exclusion matches nothing.
        DisagreementError: the quality is below what is required; nothing is written.
        OutputError: the result can't be written.
    """
    source, out, progress = Path(source), Path(out), progress or NullProgress()
    settings = settings or QuantizeSettings()
    threads = settings.threads or usable_cpus()
    with progress.stage("Reading the graph"):
        parsed = parse(source)
        model = _prepared(parsed)
        images, others = (_images(given, model, source) for given in (calibration, held_out))
        assert images is not None
        blocks = _blocks(parsed)
        placement = place(model.graph, blocks, settings.choices)
    feeds = _feeds(model, images)
    found, plain = _swept(model, placement, feeds, settings, threads, progress)
    record = _record(found, plain, placement, settings, images)
    with scratch_folder(out.parent) as scratch:
        file = scratch / out.name
        with progress.stage("Writing the int8 graph, and running it"):
            _write(model, placement, found, file)
            record = msgspec.structs.replace(
                record,
                quality=_quality(source, file, feeds, threads),
                held_out=None if others is None else _quality(source, file, _feeds(model, others), threads),
            )
            _refuse(record, settings.requirement, out)
        onnx_file.add_metadata(file, {QUANTIZATION_KEY: msgspec.json.encode(record).decode()})
        onnx_file.publish_with_weights(file, out)
    return record


def _prepared(parsed: ParsedFile) -> ir.Model:
    """The graph to quantize, with names and types.

    Raises:
        InputError: it can't be quantized.
    """
    from attn_export.exporter.precision.float16 import infer_types

    model, path = named(parsed.copy()), parsed.path
    opset = model.graph.opset_imports.get("", 0)
    if opset < OLDEST_OPSET:
        raise InputError(
            f"{path} is of opset {opset}, and int8 needs {OLDEST_OPSET}", hint="Export it with a newer one."
        )
    bodies = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    for node in model.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"):
            raise InputError(f"{path} is quantized already, by {node.op_type} {node.name}", hint="Quantize its source.")
        if any(attribute.type in bodies for attribute in node.attributes.values()):
            raise InputError(
                f"{node.op_type} {node.name} has a subgraph", hint="Export the network without control flow."
            )
    if model.functions:
        raise InputError(f"{path} calls local functions", hint="attn-export clean inlines them.")
    infer_types(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return model


def _blocks(parsed: ParsedFile) -> tuple[AttentionBlock, ...]:
    from attn_export.exporter.cleanup.inspect import blocks_of

    return blocks_of(parsed)


def _input_of(model: ir.Model, path: Path) -> ir.Value:
    inputs = [value for value in model.graph.inputs if value.const_value is None]
    if len(inputs) != 1 or inputs[0].dtype is not ir.DataType.FLOAT or len(dims(inputs[0]) or ()) < 2:
        named_inputs = ", ".join(f"{value.name} ({value.dtype.name.lower()})" for value in inputs if value.dtype)
        raise InputError(
            f"{path} takes {named_inputs}, and one float32 input is supported", hint="Quantize it elsewhere."
        )
    return inputs[0]


def _images(given: Path | str | Array | None, model: ir.Model, path: Path) -> Array | None:
    """The images, (N, C, H, W) float32."""
    if given is None:
        return None
    value = _input_of(model, path)
    sizes = tuple(size if isinstance(size, int) else None for size in (dims(value) or ())[1:])
    return read_images(Path(given), sizes) if isinstance(given, Path | str) else np.asarray(given, np.float32)


def _feeds(model: ir.Model, images: Array) -> list[dict[str, Array]]:
    """The images in batches; a file with a static batch leaves out what doesn't fill one."""
    value = next(value for value in model.graph.inputs if value.const_value is None)
    fixed = (dims(value) or (None,))[0]
    size = fixed if isinstance(fixed, int) else BATCH
    chunks = [images[start : start + size] for start in range(0, len(images), size)]
    whole = [chunk for chunk in chunks if len(chunk) == size] if isinstance(fixed, int) else chunks
    if not whole:
        raise InputError(f"{len(images)} images don't fill a batch of {size}", hint="Take more, or a dynamic batch.")
    return [{str(value.name): chunk} for chunk in whole]


def _swept(
    model: ir.Model,
    placement: Placement,
    feeds: Sequence[Mapping[str, Array]],
    settings: QuantizeSettings,
    threads: int,
    progress: Progress,
) -> tuple[Sweep, Quality | None]:
    """The sweep, and the quality without bias correction if it was tried."""

    def run(title: str, *, correct: bool) -> Sweep:
        symmetric = settings.choices.runtime is not Target.ONNXRUNTIME
        with progress.stage(title) as advance:
            try:
                return sweep(
                    model,
                    placement,
                    feeds,
                    settings.method,
                    symmetric=symmetric,
                    correct=correct,
                    threads=threads,
                    advance=advance,
                )
            except SessionError as error:
                raise InputError(f"ONNX Runtime can't run the graph on the images: {error}") from error

    plain = run("Choosing ranges", correct=False)
    if not settings.correct_bias:
        return plain, None
    corrected = run("Correcting biases", correct=True)
    before, after = (_compared(*found.outputs) for found in (plain, corrected))
    return (corrected if _worst(after) >= _worst(before) else plain), before


def _worst(quality: Quality) -> float:
    return min(np.inf if value is None else value for value in quality.sqnr_db.values())


def _compared(exact: Mapping[str, Sequence[Array]], found: Mapping[str, Sequence[Array]]) -> Quality:
    """The quality of outputs, given batch by batch."""
    from attn_export.exporter.precision.int8.sweep import decibels

    sqnr = {name: decibels(exact[name], found[name]) for name in exact}
    agreement, images = None, sum(len(chunk) for chunk in next(iter(exact.values())))
    for name, chunks in exact.items():
        if chunks[0].ndim == 2 and chunks[0].shape[1] > 1:
            same = [a.argmax(1) == b.argmax(1) for a, b in zip(chunks, found[name], strict=True)]
            agreement = float(np.concatenate(same).mean())
            break
    return Quality(sqnr, agreement, images)


def _quality(source: Path, file: Path, feeds: Sequence[Mapping[str, Array]], threads: int) -> Quality:
    """The quality of the file as it was written, in ONNX Runtime without optimizations."""
    outputs = []
    for path in (source, file):
        session = PlainSession(path, threads)
        runs = [session.run(feed) for feed in feeds]
        outputs.append({name: [run[name] for run in runs] for name in session.outputs})
    return _compared(outputs[0], outputs[1])


def _write(model: ir.Model, placement: Placement, found: Sweep, path: Path) -> None:
    from attn_export.exporter.precision.int8.qdq import quantize_graph

    quantize_graph(model, placement, found)
    for key in STALE:
        model.metadata_props.pop(key, None)
    model.metadata_props[PRECISION_KEY] = "int8"
    onnx_file.save(model, path)
    onnx_file.check(path)


def _record(
    found: Sweep, uncorrected: Quality | None, placement: Placement, settings: QuantizeSettings, images: Array
) -> Quantization:
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
        for node in placement.layers
    )
    return Quantization(
        runtime=str(settings.choices.runtime),
        ranges=str(settings.method),
        calibration=hashlib.sha256(np.ascontiguousarray(images).data).hexdigest(),
        images=len(images),
        tensors=tensors,
        layers=layers,
        kept=placement.kept,
        quality=Quality({}, None, 0),
        uncorrected=uncorrected,
    )


def _refuse(record: Quantization, requirement: QualityRequirement | None, out: Path) -> None:
    """Refuse a file whose quality is below the requirement, on other images if there are any.

    Raises:
        DisagreementError: says by how much, and which layers lose most.
    """
    from attn_export.exporter.validation.quantized import broken, with_default

    error = broken(with_default(requirement), record.held_out or record.quality, str(out))
    if error is not None:
        known = [layer for layer in record.layers if layer.sqnr_db is not None]
        worst = sorted(known, key=lambda layer: layer.sqnr_db or 0.0)[:3]
        names = ", ".join(f"{layer.module_path or layer.node} ({layer.sqnr_db:.1f} dB)" for layer in worst)
        raise DisagreementError(
            error.message, first_seen=error.first_seen, hint=f"{error.hint} The worst layers: {names}."
        )


def refuse_random(calibration: Any) -> None:
    """Refuse to quantize without images.

    Raises:
        UsageError: there are none.
    """
    if calibration is None:
        raise UsageError(
            "int8 needs images to choose ranges from",
            hint="--calibration images.npz: a hundred typical ones, preprocessed as the network takes them.",
        )
