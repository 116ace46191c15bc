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
LARGEST_RATIO = 6.0
# A network whose own float32 is this far from float64 has no yardstick.
LARGEST_YARDSTICK = 1e-3
# A yardstick can't be finer than a few roundings of float32: a network of two layers may hit the oracle by luck.
FLOOR = 4 * float(np.finfo(np.float32).eps)
# A mean that is summed one by one is off by 0.12 roundings times the root of how many there are, a random walk: ONNX
# Runtime's GlobalAveragePool (docs/validation.md). PyTorch's, which sums in pairs, isn't, and both are good.
STEPS_PER_ROUNDING = 16
# Where a map is the same everywhere, the roundings all go into one direction: one for every 65 pixels (measured for 8x8
# to 224x224), and there are several such means in a row.
PIXELS_PER_ROUNDING = 16
# Stands for a kind of input where a tensor is of another size.
SIZE = "shape"


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
    # Deep networks have yardsticks of 2e-2 in float16, and eight times that in bfloat16.
    # A logit that is off by a thousandth moves its gate by less than float16 can tell, however small the logit is.
    Precision.FP16: Limits(ratio=3.0, yardstick=5e-2, floor=float(np.finfo(np.float16).eps), logits=1.0),
    Precision.BF16: Limits(ratio=3.0, yardstick=2e-1, floor=8 * float(np.finfo(np.float16).eps), logits=1.0),
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
        shapes: the same for every shape of a batch, such as "4x3x224x224"; see `ratios_by_shape`. Shown, not judged.
    """

    tensor: str
    role: str
    kind: str
    error: float
    yardstick: float
    limit: float = LARGEST_RATIO
    ratios: Mapping[str, float] = field(default_factory=dict)
    shapes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Classes:
    """What an artifact takes images for. Shown, not judged: two scores that are nearly the same may change places.

    Attributes:
        images: ordinary and real ones, as often as they were run.
        differ: how many of these have their largest score in another place than PyTorch's in double precision.
    """

    images: int
    differ: int


@dataclass(frozen=True)
class Verdict:
    """Whether an artifact computes what PyTorch computes.

    Attributes:
        runtime: where it ran.
        comparisons: gates in the order in which they are computed, then outputs.
        batches: the shapes it was judged on.
        gates_missed: why gates were not compared; empty where they were.
        images: how many inferences of one image it was judged on.
        classes: that the images are taken for; None where the first output is no (N, classes) scores.
    """

    runtime: str
    comparisons: tuple[Comparison, ...]
    batches: tuple[tuple[int, ...], ...]
    gates_missed: str = ""
    images: int = 0
    classes: Classes | None = None

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
    by_shape: Mapping[str, Mapping[str, float]] | None = None,
) -> Comparison:
    """The comparison on the kind of input on which the artifact stands worst; see `floored_yardsticks`.

    Args:
        tensor: see `Comparison`.
        role: see `Comparison`.
        errors: of the artifact, relative, by kind of input.
        yardsticks: PyTorch's own in the artifact's precision, likewise.
        limits: of the precision.
        pixels: H times W of the largest image.
        by_shape: the artifact's errors among the batches of one shape alone, likewise.
    """
    floored = floored_yardsticks(yardsticks, limits, pixels)
    ratios = {kind: errors[kind] / size for kind, size in floored.items()}
    worst = max(ratios, key=ratios.__getitem__)
    shapes = ratios_by_shape(by_shape or {}, floored)
    return Comparison(tensor, role, worst, errors[worst], floored[worst], limits.ratio, ratios, shapes)


def ratios_by_shape(errors: Mapping[str, Mapping[str, float]], floored: Mapping[str, float]) -> dict[str, float]:
    """For each shape of a batch, how many times the yardstick the error is among its batches.

    It is that of the ordinary kind that stands worst. Of each extreme kind there is one image, which is run at one
    shape only, so it would tell shapes apart that don't differ; a shape that has nothing else is told by these. The
    yardstick is the verdict's, over all shapes: of a single batch it may be small by luck.

    Args:
        errors: of the artifact, relative, by shape and by kind of input.
        floored: the yardsticks, by kind of input, see `floored_yardsticks`.

    Returns:
        By shape; one without an image that can be judged is left out.
    """
    told = {}
    for shape, found in errors.items():
        ratios = {kind: found[kind] / size for kind, size in floored.items() if kind in found}
        ordinary = [ratio for kind, ratio in ratios.items() if kind in ORDINARY]
        if ratios:
            told[shape] = max(ordinary or ratios.values())
    return told


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
    rounding = float(np.finfo(np.float32).eps)
    least = max(limits.floor, math.sqrt(pixels) / STEPS_PER_ROUNDING * rounding)
    flat = max(least, pixels / PIXELS_PER_ROUNDING * rounding)
    return {
        kind: max(size, flat if kind in FLAT else least, 0.0 if kind in ORDINARY else usual)
        for kind, size in yardsticks.items()
        if kind in ORDINARY or size <= limits.yardstick
    } or {kind: float("inf") for kind in yardsticks}


def shape_name(shape: Iterable[int]) -> str:
    """(4, 3, 224, 224) as "4x3x224x224"."""
    return "x".join(map(str, shape))


def pixels_of(shapes: Iterable[tuple[int, ...]]) -> int:
    """H times W of the largest of images (N, C, H, W)."""
    return max(math.prod(shape[2:]) for shape in shapes)
