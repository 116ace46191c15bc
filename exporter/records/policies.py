"""The comparison policies: the max error ratio of each kind of comparison, and its baseline error."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from attn_export.exporter.artifacts import Precision, Shapes
from attn_export.exporter.records.verdict import SIZE, Classes, Comparison, Verdict

EPS32 = float(np.finfo(np.float32).eps)
EPS16 = float(np.finfo(np.float16).eps)


@dataclass(frozen=True)
class Policy:
    """One row of the table.

    Attributes:
        limit: max error ratio.
        floor: smallest baseline error, relative.
        calibration: what limit and floor rest on; docs/validation.md has the measurements.
        largest_baseline: largest usable baseline error, relative.
        gate_logits: smallest root mean square of a gate's logits, absolute.
    """

    name: str
    limit: float
    floor: float
    calibration: str
    reference: str = "PyTorch in float64, each image alone"
    baseline: str = ""
    largest_baseline: float = float("inf")
    gate_logits: float = 0.0

    def misshapen(self, tensor: str, role: str = "output") -> Comparison:
        """The comparison of a tensor that is missing or has another size."""
        return Comparison(tensor, role, SIZE, None, self.floor, self.limit)

    def verdict(
        self,
        runtime: str,
        comparisons: Iterable[Comparison],
        batches: Iterable[Shapes],
        *,
        images: int,
        gates_missed: str = "",
        classes: Classes | None = None,
    ) -> Verdict:
        """The verdict of comparisons by this policy; see `Verdict` for the arguments."""
        return Verdict(
            runtime,
            tuple(comparisons),
            tuple(dict.fromkeys(batches)),
            gates_missed,
            images,
            classes,
            self.name,
            self.reference,
            self.baseline,
        )


FLOAT32 = Policy(
    "float32",
    limit=6.0,
    floor=4 * EPS32,
    calibration="good files reach 1.85, one 3.1, the faintest planted fault 31; a network of two layers may hit the "
    "reference by chance, so the floor is four roundings",
    baseline="PyTorch in float32, perturbed runs",
    largest_baseline=1e-3,
)
FLOAT16 = Policy(
    "float16",
    limit=3.0,
    floor=EPS16,
    calibration="good files reach 1.52, the faintest planted fault 8; deep networks have baseline errors of 2e-2; a "
    "logit off by 1e-3 moves its gate by less than a float16 rounding",
    baseline="PyTorch in float16, perturbed runs",
    largest_baseline=5e-2,
    gate_logits=1.0,
)
BFLOAT16 = Policy(
    "bfloat16",
    limit=3.0,
    floor=8 * EPS16,
    calibration="good files reach 1.99; roundings, and so the baseline errors of deep networks, are eight times those "
    "of float16",
    baseline="PyTorch in bfloat16, perturbed runs",
    largest_baseline=2e-1,
    gate_logits=1.0,
)
SOURCE_GRAPH = Policy(
    "source graph",
    limit=8.0,
    floor=8 * EPS32,
    calibration="cleaned graphs reach a tenth of the baseline, miswired ones a thousand times; the floor, eight "
    "roundings, is that of float32 outputs",
    reference="the source graph in ONNX Runtime without optimizations",
    baseline="the change of the source graph's outputs with perturbed inputs",
)
CONVERTED = Policy(
    "converted from float32",
    limit=4.0,
    floor=EPS16 / 2,
    calibration="good files reach 0.9 to 1.1, the faintest wiring fault 9; the floor is half a rounding",
    reference="the float32 file in ONNX Runtime without optimizations",
    baseline="the change of the float32 file's outputs with rounded weights and inputs",
    largest_baseline=0.05,
)
CONVERTED_TO_BFLOAT16 = replace(
    CONVERTED,
    name="converted to bfloat16",
    limit=3.0,
    floor=4 * EPS16,
    calibration="good files reach 0.9 to 1.9, swapped pools 4.3; a doubled sigmoid may hide in bfloat16's rounding",
    largest_baseline=0.4,
)
QUANTIZED = Policy(
    "quantized",
    limit=4.0,
    floor=1e-5,
    calibration="good files reach 0.01, the faintest planted fault 1278; the floor is a hundredth of the effect of one "
    "quantization step of one value in a large map",
    reference="the quantized graph in float64",
    baseline="the quantized graph in float32",
)
# Decibels that a quantized graph needs by default. Good files reach 11 and more, also on images beyond their calibrated
# range; files that were calibrated on images without the network's normalization -1.3 and less.
MIN_SQNR = 3.0
BUNDLE = Policy(
    "bundle",
    limit=8.0,
    floor=8 * EPS32,
    calibration="as the source graph's; a bundle made with a checkpoint holds floor and limit of its precision instead",
    reference="ONNX Runtime without optimizations, in the file's own types",
    baseline="the change of the outputs when every pixel moves by one rounding",
)
REWRITE = Policy(
    "rewrite",
    limit=8.0,
    floor=1.25e-12,
    calibration="two orders of summation in float64 over a few thousand terms; a recomputed constant is off by a few "
    "units in the last place of its type",
    reference="the replaced nodes in float64",
    baseline="one rounding of a recomputed constant, in its type",
)

POLICIES: Mapping[Precision, Policy] = {
    Precision.FP32: FLOAT32,
    Precision.FP16: FLOAT16,
    Precision.BF16: BFLOAT16,
}
