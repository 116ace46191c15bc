"""One job: a float32 ONNX file and calibration images to an int8 or float8 file, and its quality."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from attn_export.exporter.artifacts import MODULE_KEY, Float32Node, ParsedFile, Precision, Target
from attn_export.exporter.cleanup.apply import apply_to_fixpoint
from attn_export.exporter.cleanup.inspect import blocks_of
from attn_export.exporter.cleanup.rule import Context
from attn_export.exporter.cleanup.rules import INTEGER_RULES
from attn_export.exporter.errors import DisagreementError, InputError, UsageError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.facts import constant
from attn_export.exporter.graph.opset import raise_opset
from attn_export.exporter.graph.read import named, parse
from attn_export.exporter.graph.session import PlainSession
from attn_export.exporter.images.preprocessing import PictureOptions
from attn_export.exporter.images.read import Given, ImageSet
from attn_export.exporter.precision.float8 import float8_trial
from attn_export.exporter.precision.half import infer_types
from attn_export.exporter.precision.half_scales import with_half_scales
from attn_export.exporter.precision.int8.choose import Trial, Work, choose
from attn_export.exporter.precision.int8.placement import NARROW, NARROWEST, Placement
from attn_export.exporter.precision.int8.qdq import quantized
from attn_export.exporter.precision.int8.quality import compared
from attn_export.exporter.precision.int8.sensitivity import sensitivity
from attn_export.exporter.precision.int8.settings import QuantizeSettings
from attn_export.exporter.precision.rounding import FLOAT16
from attn_export.exporter.precision.typed_file import PRECISION_KEY, STALE, in_half, refuse_overflow
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.records.document import compact
from attn_export.exporter.records.images import ImageSource
from attn_export.exporter.records.quantization import (
    Quantization,
    QuantizationStep,
    QuantizedLayer,
    QuantizedTensor,
    Sensitivity,
)
from attn_export.exporter.records.verdict import Quality, QualityRequirement
from attn_export.exporter.runtimes.evaluator import evaluated
from attn_export.exporter.system.files import sha256_of
from attn_export.exporter.system.generation import publish_together
from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.system.progress import NullProgress, Progress
from attn_export.exporter.system.scratch import scratch_folder
from attn_export.exporter.validation.quantized import broken, with_default
from attn_export.exporter.workflows.quantize_search import Notes, searched
from attn_export.exporter.workflows.user_images import announced, images_for, inputs_of

QUANTIZATION_KEY = "attn_export.quantization"
OLDEST_OPSET = 13  # the first with one scale for each channel
OLDEST_OPSET_OF_SMALL_FLOATS = 19  # the first with float8, and with scales in float16
BATCH = 8
MOST_CALIBRATION, MOST_HELD_OUT = 512, 2048  # more only take time and memory


def quantize_file(
    source: Path | str,
    out: Path | str,
    calibration: Given | ImageSet,
    *,
    held_out: Given | None = None,
    pictures: PictureOptions | None = None,
    settings: QuantizeSettings | None = None,
    progress: Progress | None = None,
) -> Quantization:
    """Quantize an ONNX file: ``quantize_file("model.onnx", "model.int8.onnx", "calibration.npz")``.

    Args:
        out: the int8 file; it appears when its quality suffices, or not at all.
        calibration: images, see `read_images`; at most `MOST_CALIBRATION` are used.
        held_out: other images, on which the quality is required instead.

    Returns:
        How it was quantized, and the quality; also in the file's metadata.

    Raises:
        UnreadableGraphError: the file isn't there, is damaged, or isn't valid ONNX.
        InputError: it can't be quantized, or the images don't fit.
        UsageError: an exclusion matches nothing, or the runtime has no kernels for the precision.
        DisagreementError: the quality is below what is required; nothing is written.
        OutputError: the result can't be written.
    """
    source, out, progress = Path(source), Path(out), progress or NullProgress()
    settings = settings or QuantizeSettings()
    _refuse_form(settings)
    threads = settings.threads or usable_cpus()
    with progress.stage("Reading the graph"):
        parsed = parse(source)
        model = _prepared(parsed, settings, progress)
        calibrated = images_for(model, calibration, pictures).spread(MOST_CALIBRATION)
        other = None if held_out is None else images_for(model, held_out, pictures).spread(MOST_HELD_OUT)
        for images in filter(None, (calibrated, other)):
            announced(images, progress)
        feeds, others = _feeds(model, calibrated), _feeds(model, other) if other else None
    work = Work(source.parent, blocks_of(parsed), feeds, threads, progress)
    if settings.precision is Precision.FP8:
        best, steps = float8_trial(ParsedFile(source, model), settings.choices, work), tuple[QuantizationStep, ...]()
    else:
        best, steps = choose(model, settings, work)
    wanted = settings.searched_for
    order = sensitivity(best, work) if settings.sensitivity and wanted is None else ()
    with scratch_folder(out.parent) as scratch:
        digest = _digest(source, feeds, others or (), settings)
        notes = Notes(out.with_name(f"{out.name}.search.json"), scratch, digest)
        if wanted is not None:
            judged, tried = others or feeds, scratch / "trial.onnx"

            def judge(trial: Trial) -> DisagreementError | None:
                _write(trial, source, tried, settings, work)
                measured = compared(*(_run(path, judged, threads) for path in (source, tried)))
                return broken(wanted, measured, f"int8 with {len(trial.placement.kept)} layers in float32")

            best, order = searched(best, settings, work, judge, notes)
        if settings.choices.runtime is Target.TENSORRT and (note := narrow_layers(best.placement)):
            progress.note(note)
        record = _record(best, steps, order, settings, feeds, calibrated.source)
        file = scratch / out.name
        with progress.stage(f"Writing the {settings.precision} graph, and running it"):
            float32 = _write(best, source, file, settings, work)
            run = _evaluated if settings.precision is Precision.FP8 else _run
            record = msgspec.structs.replace(
                record,
                float32=float32,
                quality=compared(_run(source, feeds, threads), run(file, feeds, threads)),
                held_out=compared(_run(source, others, threads), run(file, others, threads)) if others else None,
            )
            _refuse(record, settings.requirement, out)
        # The same file wherever the images are, and nobody's folders in it.
        named = msgspec.structs.replace(calibrated.source, path=Path(calibrated.source.path).name)
        kept = msgspec.structs.replace(record, source=named)
        onnx_file.add_metadata(file, {QUANTIZATION_KEY: compact(kept).decode()})
        publish_together(onnx_file.moves_of(file, out), scratch)
        notes.drop()
    return record


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


def _refuse_form(settings: QuantizeSettings) -> None:
    """Refuse for ONNX Runtime what only TensorRT runs, and for float8 what only int8 has."""
    if settings.choices.runtime is Target.ONNXRUNTIME and settings.has_small_floats:
        special = "fp8" if settings.precision is Precision.FP8 else "float16 around int8"
        raise UsageError(f"{special} is for TensorRT: ONNX Runtime has no kernels for it", hint="Leave out --for.")
    if settings.precision is Precision.FP8 and (settings.sensitivity or settings.searched_for):
        raise UsageError("--sensitivity, --min-sqnr and --max-drop are for int8", hint="Leave out --precision fp8.")


def _prepared(parsed: ParsedFile, settings: QuantizeSettings, progress: Progress) -> ir.Model:
    """The graph to quantize, with names and types."""
    model, path = named(parsed.copy()), parsed.path
    opset = model.graph.opset_imports.get("", 0)
    least = OLDEST_OPSET_OF_SMALL_FLOATS if settings.has_small_floats else OLDEST_OPSET
    if opset < least:
        model, name = raise_opset(model, least), settings.precision
        progress.note(f"{path} is of opset {opset}, and {name} needs {least}: the {name} file is of {least}")
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
    if settings.choices.with_gates and settings.choices.runtime is Target.ONNXRUNTIME:
        apply_to_fixpoint(model, INTEGER_RULES, Context(max(opset, least), Target.ONNXRUNTIME))
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return model


def _feeds(model: ir.Model, images: ImageSet) -> list[Arrays]:
    """Images in batches; a file with a static batch leaves out what doesn't fill one."""
    fixed = next((taken.shape[0] for taken in inputs_of(model) if taken.shape), 0)
    count, size = len(images), fixed or BATCH
    starts = range(0, count - fixed + 1 if fixed else count, size)
    if not starts:
        origin = images.source.path or "the mapping of images"
        raise InputError(f"{origin} holds {count} images, and the file takes {fixed} at once", hint="Take more.")
    return [images.load(range(start, min(start + size, count))) for start in starts]


def _run(path: Path, feeds: Sequence[Arrays], threads: int) -> dict[str, list[Array]]:
    """The outputs of a file as it was written, in ONNX Runtime without optimizations."""
    session = PlainSession(path, threads)
    runs = [session.run(feed) for feed in feeds]
    return {name: [run[name] for run in runs] for name in session.outputs}


def _evaluated(path: Path, feeds: Sequence[Arrays], threads: int) -> dict[str, list[Array]]:  # noqa: ARG001 (as `_run`)
    """The same in onnx's reference evaluator, for float8."""
    return evaluated(path, [str(value.name) for value in parse(path).model.graph.outputs], feeds)


def _write(best: Trial, source: Path, path: Path, settings: QuantizeSettings, work: Work) -> tuple[Float32Node, ...]:
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


def _digest(source: Path, feeds: Sequence[Arrays], others: Sequence[Arrays], settings: QuantizeSettings) -> str:
    """Of all that decides how a search ends."""
    facts = (version("attn-export"), sha256_of(source), _digest_of(feeds), _digest_of(others), repr(settings))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def _digest_of(feeds: Sequence[Arrays]) -> str:
    digest = hashlib.sha256()
    for feed in feeds:
        for array in feed.values():
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _record(
    best: Trial,
    steps: tuple[QuantizationStep, ...],
    order: tuple[Sensitivity, ...],
    settings: QuantizeSettings,
    feeds: Sequence[Arrays],
    source: ImageSource,
) -> Quantization:
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
        calibration=_digest_of(feeds),
        images=sum(len(next(iter(feed.values()))) for feed in feeds),
        source=source,
        tensors=tensors,
        layers=layers,
        kept=best.placement.kept,
        quality=Quality({}, None, 0),
        steps=steps,
        sensitivity=order,
    )


def _refuse(record: Quantization, requirement: QualityRequirement | None, out: Path) -> None:
    """Refuse a file whose quality is below the requirement, on other images if there are any."""
    error = broken(with_default(requirement), record.held_out or record.quality, str(out))
    if error is not None:
        known = [layer for layer in record.layers if layer.sqnr_db is not None]
        worst = sorted(known, key=lambda layer: layer.sqnr_db or 0.0)[:3]
        names = ", ".join(f"{layer.module_path or layer.node} ({layer.sqnr_db:.1f} dB)" for layer in worst)
        raise DisagreementError(error.message, hint=f"{error.hint} The worst layers: {names}.")
