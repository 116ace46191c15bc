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
        choices: where.
        precision: int8 or fp8.
        around: float32, or float16 for what isn't quantized.
        method: of choosing ranges; None for the one with the best outputs.
        correct_bias: layer after layer.
        equalize: channels around depthwise convolutions.
        rounding: of weights.
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
    requirement: QualityRequirement | None = None
    threads: int | None = None

    @property
    def has_small_floats(self) -> bool:
        """Whether the file holds float8 or float16, which only TensorRT has kernels for."""
        return self.precision is Precision.FP8 or self.around is Precision.FP16
