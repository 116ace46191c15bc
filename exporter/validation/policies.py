"""The comparison policies: how large an error may be, relative to which baseline.

Every limit is a max error ratio. The figures are calibrated on good artifacts and on planted faults, see
docs/validation.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from attn_export.exporter.artifacts import Precision

EPS32 = float(np.finfo(np.float32).eps)
EPS16 = float(np.finfo(np.float16).eps)


@dataclass(frozen=True)
class Policy:
    """One row of the table.

    Attributes:
        name: as in `Verdict.policy`.
        limit: max error ratio.
        floor: smallest baseline error, relative.
        largest_baseline: largest usable baseline error, relative.
        gate_logits: smallest root mean square of a gate's logits, absolute.
        reference: where the expected values come from.
        baseline: where the baseline errors come from.
    """

    name: str
    limit: float
    floor: float
    largest_baseline: float = float("inf")
    gate_logits: float = 0.0
    reference: str = "PyTorch in float64, each image alone"
    baseline: str = ""


# Good float32 artifacts and the faintest planted fault lie well to either side of 6. The floor is four roundings:
# a network of two layers may hit the reference by chance.
FLOAT32 = Policy("float32", 6.0, 4 * EPS32, 1e-3, baseline="PyTorch in float32, perturbed runs")
# Deep networks have baseline errors of 2e-2. A logit off by 1e-3 moves its gate by less than a float16 rounding.
FLOAT16 = Policy("float16", 3.0, EPS16, 5e-2, 1.0, baseline="PyTorch in float16, perturbed runs")
# Roundings, and so the baseline errors of deep networks, are eight times those of float16.
BFLOAT16 = Policy("bfloat16", 3.0, 8 * EPS16, 2e-1, 1.0, baseline="PyTorch in bfloat16, perturbed runs")
# Cleaned graphs reach a tenth of the baseline, miswired ones a thousand times. The floor, eight roundings, is that of
# float32 outputs.
SOURCE_GRAPH = Policy(
    "source graph",
    8.0,
    8 * EPS32,
    reference="the source graph in ONNX Runtime without optimizations",
    baseline="the change of the source graph's outputs with perturbed inputs",
)
# Good files reach 0.9 to 1.1, the faintest wiring fault 9. The floor is half a rounding.
CONVERTED = Policy(
    "converted from float32",
    4.0,
    EPS16 / 2,
    0.05,
    reference="the float32 file in ONNX Runtime without optimizations",
    baseline="the change of the float32 file's outputs with rounded weights and inputs",
)
# The floor is a hundredth of the effect of one quantization step of one value in a large map.
QUANTIZED = Policy(
    "quantized",
    4.0,
    1e-5,
    reference="the quantized graph in float64",
    baseline="the quantized graph in float32",
)
# Floor and limit are stored in the bundle, by output and kind of input.
BUNDLE = "bundle"

POLICIES: Mapping[Precision, Policy] = {
    Precision.FP32: FLOAT32,
    Precision.FP16: FLOAT16,
    Precision.BF16: BFLOAT16,
}
