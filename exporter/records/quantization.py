"""The result of a quantization to int8 or float8."""

from msgspec import Struct

from attn_export.exporter.artifacts import Float32Node
from attn_export.exporter.records.document import SCHEMA_VERSION
from attn_export.exporter.records.images import ImageSource
from attn_export.exporter.records.verdict import Quality


class QuantizedTensor(Struct, frozen=True):
    """An activation that is read as int8 or uint8.

    Attributes:
        scale: the size of a quantization step.
        zero_point: the integer that stands for 0.
        low, high: the smallest and largest value on the calibration images, of those that its readers tell apart.
        clipped: the share of that range that is represented, 1 for all of it.
        sqnr_db: of this rounding alone; None for a tensor that it doesn't change.
    """

    tensor: str
    scale: float
    zero_point: int
    low: float
    high: float
    clipped: float
    sqnr_db: float | None


class QuantizedLayer(Struct, frozen=True):
    """A layer whose weights are int8.

    Attributes:
        module_path: of its submodule, empty if unknown.
        op_type: Conv, ConvTranspose, Gemm or MatMul.
        sqnr_db: of its output, with everything before it quantized and its own bias not yet corrected.
        correction: the root mean square of the bias correction, relative to that of the output; None without one.
    """

    node: str
    module_path: str
    op_type: str
    sqnr_db: float | None
    correction: float | None


class QuantizationStep(Struct, frozen=True):
    """One thing that was tried, such as "ranges by mse", and the quality on calibration images with it."""

    name: str
    quality: Quality
    kept: bool


class Sensitivity(Struct, frozen=True):
    """The error of a network in which one "layer", residual sums included, or "block" alone is quantized."""

    kind: str
    name: str
    nodes: tuple[str, ...]
    op_type: str
    quality: Quality


class SearchState(Struct, frozen=True):
    """What a search found out, for its next run: with so many layers in float32 this was wrong."""

    digest: str
    order: tuple[Sensitivity, ...] = ()
    judged: tuple[tuple[int, str], ...] = ()
    schema_version: int = SCHEMA_VERSION


class Quantization(Struct, frozen=True, kw_only=True):
    """How a file was quantized, and its quality.

    Attributes:
        around: the type of what isn't quantized.
        runtime: whose rules decided where QuantizeLinear and DequantizeLinear are.
        calibration: digest of the calibration images (SHA-256, hexadecimal), or "random".
        source: where they come from, and how pictures became inputs; None in files of earlier versions.
        tensors: the quantized activations, in topological order.
        layers: the quantized layers, in topological order.
        kept: layers that aren't quantized, with the reason.
        float32: nodes that stay in float32 where the others around are float16.
        quality: of the file on the calibration images, compared with the float32 file.
        sensitivity: of layers and blocks, if that was asked for.
        steps: tried one after the other, each on top of those before it that were kept.
        held_out: the quality on other images; None without any.
    """

    precision: str
    around: str
    runtime: str
    ranges: str
    calibration: str
    images: int
    tensors: tuple[QuantizedTensor, ...]
    layers: tuple[QuantizedLayer, ...]
    kept: tuple[Float32Node, ...]
    quality: Quality
    float32: tuple[Float32Node, ...] = ()
    steps: tuple[QuantizationStep, ...] = ()
    sensitivity: tuple[Sensitivity, ...] = ()
    held_out: Quality | None = None
    source: ImageSource | None = None
