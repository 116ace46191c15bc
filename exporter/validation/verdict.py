"""The error ratio: an artifact's error relative to the baseline error, PyTorch's own in the artifact's precision."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from attn_export.exporter.artifacts import Shapes
from attn_export.exporter.network.batches import Batch
from attn_export.exporter.network.images import FLAT, NOMINAL
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.policies import EPS32, FLOAT32, Policy
from attn_export.exporter.records.verdict import Comparison
from attn_export.exporter.validation.metrics import DISCRETE, PooledError

# A sequential float32 sum is a random walk: ONNX Runtime's GlobalAveragePool is off by 0.12 roundings times the root of
# the number of pixels (docs/validation.md). PyTorch sums in pairs and isn't; both are good.
STEPS_PER_ROUNDING = 16
# On constant maps all roundings go in one direction: one per 65 pixels (measured for 8x8 to 224x224), and several such
# means follow each other.
PIXELS_PER_ROUNDING = 16


def compare_arrays(
    tensor: str,
    role: str,
    computed: Sequence[Array],
    exact: Sequence[Array],
    baseline: Sequence[Array],
    batches: Sequence[Batch],
    policy: Policy,
) -> Comparison:
    """The comparison of one tensor over all batches, with one array (N, ...) for each.

    ``exact`` are the reference outputs; ``baseline`` PyTorch's in the artifact's precision, N rows for each perturbed
    run.
    """
    if any(array.size != expected.size for array, expected in zip(computed, exact, strict=True)):
        return policy.misshapen(tensor, role)
    by_shape: dict[str, PooledError] = defaultdict(PooledError)
    for batch, array, expected in zip(batches, computed, exact, strict=True):
        by_shape[shape_name(batch.shapes)].add(array, expected, batch.kinds)
    least = policy.gate_logits if role == "gate" else 0.0
    error = PooledError().add_batches(computed, exact, batches)
    if exact[0].dtype.kind in DISCRETE:
        policy = replace(policy, floor=max(policy.floor, error.stray() / policy.limit))
    return compare(
        tensor,
        role,
        error.relative(least),
        PooledError().add_batches(baseline, exact, batches).relative(least),
        policy,
        pixels=pixels_of(batch.shapes for batch in batches),
        by_shape={shape: part.relative(least) for shape, part in by_shape.items()},
    )


def compare(
    tensor: str,
    role: str,
    errors: Mapping[str, float],
    baselines: Mapping[str, float],
    policy: Policy = FLOAT32,
    *,
    pixels: int = 1,
    by_shape: Mapping[str, Mapping[str, float]] | None = None,
) -> Comparison:
    """The comparison on the kind of input with the largest error ratio.

    Errors and baselines are relative, by kind of input; ``pixels`` is H times W of the largest image.
    """
    floored = floored_baselines(baselines, policy, pixels)
    ratios = {kind: errors[kind] / size for kind, size in floored.items()}
    worst = max(ratios, key=ratios.__getitem__)
    shapes = ratios_by_shape(by_shape or {}, floored)
    return Comparison(tensor, role, worst, errors[worst], floored[worst], policy.limit, dict(ratios), dict(shapes))


def ratios_by_shape(errors: Mapping[str, Mapping[str, float]], floored: Mapping[str, float]) -> dict[str, float]:
    """The largest error ratio of each batch shape of which a kind has a baseline.

    Nominal kinds decide: a stress input runs at one shape only, and would show a difference between shapes where there
    is none. The baseline is that of all shapes together; of a single batch it may be small by chance.
    ``floored`` is from `floored_baselines`.
    """
    largest = {}
    for shape, by_kind in errors.items():
        ratios = {kind: by_kind[kind] / size for kind, size in floored.items() if kind in by_kind}
        nominal = [ratio for kind, ratio in ratios.items() if kind in NOMINAL]
        if ratios:
            largest[shape] = max(nominal or ratios.values())
    return largest


def floored_baselines(baselines: Mapping[str, float], policy: Policy, pixels: int = 1) -> dict[str, float]:
    """The baseline error of each kind of input, at least the floor.

    There is one image of each stress kind, and its baseline error may be small by chance: it is at least that of the
    nominal images. A stress kind beyond the largest usable baseline, such as large images in float16, is left out.

    ``pixels`` is H times W of the largest image.
    """
    nominal = max((size for kind, size in baselines.items() if kind in NOMINAL), default=0.0)
    least = max(policy.floor, math.sqrt(pixels) / STEPS_PER_ROUNDING * EPS32)
    constant = max(least, pixels / PIXELS_PER_ROUNDING * EPS32)
    return {
        kind: max(size, constant if kind in FLAT else least, 0.0 if kind in NOMINAL else nominal)
        for kind, size in baselines.items()
        if kind in NOMINAL or size <= policy.largest_baseline
    } or {kind: float("inf") for kind in baselines}


def shape_name(shapes: Shapes) -> str:
    """((4, 3, 224, 224), (4, 7)) as "4x3x224x224 + 4x7"."""
    return " + ".join("x".join(map(str, shape)) for shape in shapes)


def pixels_of(batches: Iterable[Shapes]) -> int:
    """H times W of the largest of images (N, C, H, W)."""
    return max(math.prod(shape[2:]) for shapes in batches for shape in shapes)
