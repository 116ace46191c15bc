"""Settings of a quantization."""

from dataclasses import dataclass, field

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.precision.int8.placement import Choices
from attn_export.exporter.precision.int8.ranges import Method
from attn_export.exporter.precision.int8.rounding import Rounding
from attn_export.exporter.records.verdict import QualityRequirement


@dataclass(frozen=True)
class QuantizeSettings:
    """Settings of a quantization.

    Attributes:
        precision: int8 or fp8.
        around: float32, or float16 for what isn't quantized.
        method: of choosing ranges; None for the one with the best outputs.
        correct_bias: layer after layer.
        equalize: channels around depthwise convolutions.
        sensitivity: measure that of layers and blocks.
        min_sqnr: in dB, and
        max_drop: the share of images whose class may change; with one of them, layers stay in float32 until it holds.
        requirement: on the quality; the default SQNR if None.
        threads: of ONNX Runtime; None for all usable CPUs.
    """

    choices: Choices = field(default_factory=Choices)
    precision: Precision = Precision.INT8
    around: Precision = Precision.FP32
    method: Method | None = None
    correct_bias: bool = True
    equalize: bool = True
    rounding: Rounding = Rounding.DESCENT
    sensitivity: bool = False
    min_sqnr: float | None = None
    max_drop: float | None = None
    requirement: QualityRequirement | None = None
    threads: int | None = None

    @property
    def has_small_floats(self) -> bool:
        """Whether the file holds float8 or float16, which only TensorRT has kernels for."""
        return self.precision is Precision.FP8 or self.around is Precision.FP16

    @property
    def searched_for(self) -> QualityRequirement | None:
        """The quality that layers are excluded for; None without one."""
        if self.min_sqnr is None and self.max_drop is None:
            return None
        return QualityRequirement(self.min_sqnr, None if self.max_drop is None else 1 - self.max_drop)
