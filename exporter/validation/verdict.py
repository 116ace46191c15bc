"""How far an artifact may be from the oracle.

No tolerance is picked by hand: what counts is how many times larger an artifact's error is than the error that PyTorch
makes on the same images in the artifact's own precision, the yardstick.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from attn_export.exporter.precision.kinds import Precision
from attn_export.exporter.validation.inputs import FLAT, ORDINARY
from attn_export.exporter.validation.measured import Measured

# Calibrated on good artifacts, see docs/validation.md: the largest ratio of a good float32 artifact, and the faintest
# planted fault, lie well to either side.
LARGEST_RATIO = 8.0
# A yardstick can't be finer than a few roundings of float32: a network of two layers may hit the oracle by luck.
# A network whose own float32 is this far from float64 has no yardstick.
LARGEST_YARDSTICK = 1e-3
FLOOR = 4 * float(np.finfo(np.float32).eps)
# Where a map is the same everywhere, the roundings of its sum all go into one direction, and a mean that is summed one
# by one is off by as many: ONNX Runtime's GlobalAveragePool by one for every 65 pixels (measured for 8x8 to 224x224,
# docs/validation.md), PyTorch's, which sums in pairs, by 1.4 in all. Both are good, and there are several in a row.
PIXELS_PER_ROUNDING = 16


@dataclass(frozen=True)
class Limits:
    """What a precision may be off by.

    Attributes:
        ratio: how many times the yardstick an artifact's error may be.
        yardstick: the largest by which anything can be judged.
        floor: the smallest that a yardstick is taken for.
        logits: what the root mean square of a gate's logits is taken for where it is smaller.
    """

    ratio: float
    yardstick: float
    floor: float
    logits: float = 0.0


LIMITS: Mapping[Precision, Limits] = {
    Precision.FP32: Limits(LARGEST_RATIO, LARGEST_YARDSTICK, FLOOR),
    # In float16 a yardstick is small by luck more often, as a gate with one hidden unit has one rounding to be off by:
    # good gates go up to 2.7, the faintest fault of wiring is at 14. Deep networks have yardsticks of 2e-2.
    # A logit that is off by a thousandth moves its gate by less than float16 can tell, however small the logit is.
    Precision.FP16: Limits(ratio=5.0, yardstick=5e-2, floor=float(np.finfo(np.float16).eps), logits=1.0),
}


@dataclass(frozen=True)
class Comparison(Measured):
    """One tensor's error, for the kind of input on which it is worst.

    Attributes:
        tensor: the output's name, or the path of the submodule whose gate it is.
        role: "output", or "gate" for what goes into a gate's sigmoid.
        kind: of input.
        error: of the artifact, relative.
        yardstick: error of PyTorch in the artifact's precision, relative, at least the precision's floor.
        limit: how many times that the error may be.
        ratios: of error to yardstick, for every kind of input.
    """

    tensor: str
    role: str
    kind: str
    error: float
    yardstick: float
    limit: float = LARGEST_RATIO
    ratios: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Whether an artifact computes what PyTorch computes.

    Attributes:
        runtime: where it ran.
        comparisons: gates in the order in which they are computed, then outputs.
        batches: the shapes it was judged on.
        gates_missed: why gates were not compared; empty where they were.
        images: how many inferences of one image it was judged on.
    """

    runtime: str
    comparisons: tuple[Comparison, ...]
    batches: tuple[tuple[int, ...], ...]
    gates_missed: str = ""
    images: int = 0

    @property
    def agrees(self) -> bool:
        """Whether every tensor does."""
        return all(c.agrees for c in self.comparisons)

    @property
    def first_disagreement(self) -> Comparison | None:
        """The first tensor, in the order of computation, that doesn't."""
        return next((c for c in self.comparisons if not c.agrees), None)

    @property
    def worst(self) -> Comparison:
        """The tensor with the largest ratio."""
        return max(self.comparisons, key=lambda c: c.ratio)

    def worst_of(self, role: str) -> Comparison | None:
        """The same among outputs or gates."""
        return max((c for c in self.comparisons if c.role == role), key=lambda c: c.ratio, default=None)


def compare(
    tensor: str,
    role: str,
    errors: dict[str, float],
    yardsticks: dict[str, float],
    limits: Limits = LIMITS[Precision.FP32],
    pixels: int = 1,
) -> Comparison:
    """The comparison on the kind of input on which the artifact stands worst; see `floored_yardsticks`."""
    floored = floored_yardsticks(yardsticks, limits, pixels)
    ratios = {kind: errors[kind] / size for kind, size in floored.items()}
    worst = max(ratios, key=ratios.__getitem__)
    return Comparison(tensor, role, worst, errors[worst], floored[worst], limits.ratio, ratios)


def floored_yardsticks(yardsticks: Mapping[str, float], limits: Limits, pixels: int = 1) -> dict[str, float]:
    """By kind of input, what the error is measured by.

    Of an extreme kind there is one image, whose own error may be small by luck: its yardstick is at least that of the
    ordinary images. One on which PyTorch's own result is too far off to judge by, as float16's on large images may be,
    is left out.

    Args:
        yardsticks: by kind of input, relative.
        limits: of the precision.
        pixels: H times W of the largest image.
    """
    usual = max((size for kind, size in yardsticks.items() if kind in ORDINARY), default=0.0)
    flat = pixels / PIXELS_PER_ROUNDING * float(np.finfo(np.float32).eps)
    return {
        kind: max(size, limits.floor, 0.0 if kind in ORDINARY else usual, flat if kind in FLAT else 0.0)
        for kind, size in yardsticks.items()
        if kind in ORDINARY or size <= limits.yardstick
    } or {kind: float("inf") for kind in yardsticks}


def pixels_of(shapes: Iterable[tuple[int, ...]]) -> int:
    """H times W of the largest of images (N, C, H, W)."""
    return max(math.prod(shape[2:]) for shape in shapes)
