"""How far an artifact may be from the oracle.

No tolerance is picked by hand: what counts is how many times larger an artifact's error is than the error that PyTorch
makes on the same images in the artifact's own precision, the baseline.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.network.images import FLAT, NOMINAL
from attn_export.exporter.records.verdict import FLOOR, LARGEST_RATIO, Comparison

# A network whose own float32 is this far from float64 has no baseline.
LARGEST_BASELINE = 1e-3

# A mean that is summed one by one is off by 0.12 roundings times the root of how many there are, a random walk: ONNX
# Runtime's GlobalAveragePool (docs/validation.md). PyTorch's, which sums in pairs, isn't, and both are good.
STEPS_PER_ROUNDING = 16
# Where a map is the same everywhere, the roundings all go into one direction: one for every 65 pixels (measured for 8x8
# to 224x224), and there are several such means in a row.
PIXELS_PER_ROUNDING = 16


@dataclass(frozen=True)
class Limits:
    """What a precision may be off by.

    Attributes:
        ratio: how many times the baseline an artifact's error may be.
        baseline: the largest by which anything can be judged.
        floor: the smallest that a baseline is taken for.
        logits: what the root mean square of a gate's logits is taken for where it is smaller.
    """

    ratio: float
    baseline: float
    floor: float
    logits: float = 0.0


LIMITS: Mapping[Precision, Limits] = {
    Precision.FP32: Limits(LARGEST_RATIO, LARGEST_BASELINE, FLOOR),
    # Deep networks have baselines of 2e-2 in float16, and eight times that in bfloat16.
    # A logit that is off by a thousandth moves its gate by less than float16 can tell, however small the logit is.
    Precision.FP16: Limits(ratio=3.0, baseline=5e-2, floor=float(np.finfo(np.float16).eps), logits=1.0),
    Precision.BF16: Limits(ratio=3.0, baseline=2e-1, floor=8 * float(np.finfo(np.float16).eps), logits=1.0),
}


def compare(
    tensor: str,
    role: str,
    errors: dict[str, float],
    baselines: dict[str, float],
    limits: Limits = LIMITS[Precision.FP32],
    pixels: int = 1,
    by_shape: Mapping[str, Mapping[str, float]] | None = None,
) -> Comparison:
    """The comparison on the kind of input on which the artifact stands worst; see `floored_baselines`.

    Args:
        tensor: see `Comparison`.
        role: see `Comparison`.
        errors: of the artifact, relative, by kind of input.
        baselines: PyTorch's own in the artifact's precision, likewise.
        limits: of the precision.
        pixels: H times W of the largest image.
        by_shape: the artifact's errors among the batches of one shape alone, likewise.
    """
    floored = floored_baselines(baselines, limits, pixels)
    ratios = {kind: errors[kind] / size for kind, size in floored.items()}
    worst = max(ratios, key=ratios.__getitem__)
    shapes = ratios_by_shape(by_shape or {}, floored)
    return Comparison(tensor, role, worst, errors[worst], floored[worst], limits.ratio, {**ratios}, {**shapes})


def ratios_by_shape(errors: Mapping[str, Mapping[str, float]], floored: Mapping[str, float]) -> dict[str, float]:
    """For each shape of a batch, how many times the baseline the error is among its batches.

    It is that of the ordinary kind that stands worst. Of each extreme kind there is one image, which is run at one
    shape only, so it would tell shapes apart that don't differ; a shape that has nothing else is told by these. The
    baseline is the verdict's, over all shapes: of a single batch it may be small by luck.

    Args:
        errors: of the artifact, relative, by shape and by kind of input.
        floored: the baselines, by kind of input, see `floored_baselines`.

    Returns:
        By shape; one without an image that can be judged is left out.
    """
    told = {}
    for shape, found in errors.items():
        ratios = {kind: found[kind] / size for kind, size in floored.items() if kind in found}
        ordinary = [ratio for kind, ratio in ratios.items() if kind in NOMINAL]
        if ratios:
            told[shape] = max(ordinary or ratios.values())
    return told


def floored_baselines(baselines: Mapping[str, float], limits: Limits, pixels: int = 1) -> dict[str, float]:
    """By kind of input, what the error is measured by.

    Of an extreme kind there is one image, whose own error may be small by luck: its baseline is at least that of the
    ordinary images. One on which PyTorch's own result is too far off to judge by, as float16's on large images may be,
    is left out.

    Args:
        baselines: by kind of input, relative.
        limits: of the precision.
        pixels: H times W of the largest image.
    """
    usual = max((size for kind, size in baselines.items() if kind in NOMINAL), default=0.0)
    rounding = float(np.finfo(np.float32).eps)
    least = max(limits.floor, math.sqrt(pixels) / STEPS_PER_ROUNDING * rounding)
    flat = max(least, pixels / PIXELS_PER_ROUNDING * rounding)
    return {
        kind: max(size, flat if kind in FLAT else least, 0.0 if kind in NOMINAL else usual)
        for kind, size in baselines.items()
        if kind in NOMINAL or size <= limits.baseline
    } or {kind: float("inf") for kind in baselines}


def shape_name(shape: Iterable[int]) -> str:
    """(4, 3, 224, 224) as "4x3x224x224"."""
    return "x".join(map(str, shape))


def pixels_of(shapes: Iterable[tuple[int, ...]]) -> int:
    """H times W of the largest of images (N, C, H, W)."""
    return max(math.prod(shape[2:]) for shape in shapes)
