"""The graph to quantize, and the images in batches."""

import onnx_ir as ir
import onnx_ir.passes.common as common

from attn_export.exporter.artifacts import ParsedFile, Precision, Target
from attn_export.exporter.cleanup.apply import apply_to_fixpoint
from attn_export.exporter.cleanup.rule import Context
from attn_export.exporter.cleanup.rules import INTEGER_RULES
from attn_export.exporter.errors import InputError, UsageError
from attn_export.exporter.graph.opset import raise_opset
from attn_export.exporter.graph.read import named
from attn_export.exporter.images.read import ImageSet
from attn_export.exporter.precision.half import infer_types
from attn_export.exporter.precision.int8.settings import QuantizeSettings
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.system.progress import Progress
from attn_export.exporter.workflows.user_images import inputs_of

OLDEST_OPSET = 13  # the first with one scale for each channel
OLDEST_OPSET_OF_SMALL_FLOATS = 19  # the first with float8, and with scales in float16
BATCH = 8


def refuse_form(settings: QuantizeSettings) -> None:
    """Refuse for ONNX Runtime what only TensorRT runs, and for float8 what only int8 has."""
    if settings.choices.runtime is Target.ONNXRUNTIME and settings.has_small_floats:
        special = "fp8" if settings.precision is Precision.FP8 else "float16 around int8"
        raise UsageError(f"{special} is for TensorRT: ONNX Runtime has no kernels for it", hint="Leave out --for.")
    if settings.precision is Precision.FP8 and (settings.sensitivity or settings.searched_for):
        raise UsageError("--sensitivity, --min-sqnr and --max-drop are for int8", hint="Leave out --precision fp8.")


def prepared(parsed: ParsedFile, settings: QuantizeSettings, progress: Progress) -> ir.Model:
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


def batched(model: ir.Model, images: ImageSet) -> list[Arrays]:
    """Images in batches; a file with a static batch leaves out what doesn't fill one."""
    fixed = next((taken.shape[0] for taken in inputs_of(model) if taken.shape), 0)
    count, size = len(images), fixed or BATCH
    starts = range(0, count - fixed + 1 if fixed else count, size)
    if not starts:
        origin = images.source.path or "the mapping of images"
        raise InputError(f"{origin} holds {count} images, and the file takes {fixed} at once", hint="Take more.")
    return [images.load(range(start, min(start + size, count))) for start in starts]
