"""An error, what it is measured by, and what follows from the two."""

import math
from dataclasses import dataclass
from math import isfinite

import numpy as np
from msgspec import Struct
from msgspec.structs import force_setattr


class Measured:
    """What all judgements of one tensor have in common.

    Attributes:
        error: of an artifact, relative; infinite where something isn't a number.
        baseline: the error that is taken for unavoidable.
        limit: how many times that the error may be.
    """

    error: float
    baseline: float
    limit: float

    @property
    def ratio(self) -> float:
        """How many times the baseline the error is."""
        return self.error / self.baseline

    @property
    def agrees(self) -> bool:
        """Whether that is few enough."""
        return math.isfinite(self.baseline) and self.ratio <= self.limit


@dataclass(frozen=True)
class SourceComparison:
    """How a graph's outputs stand to its parent's.

    Attributes:
        output: the one that differs most, relative to what is allowed.
        error: its relative difference.
        limit: what is allowed.
        missed: why they weren't compared; empty where they were.
    """

    output: str = ""
    error: float = 0.0
    limit: float = 0.0
    missed: str = ""

    @property
    def agrees(self) -> bool:
        """Whether nothing differs by more than is allowed."""
        return self.error <= self.limit

    @property
    def excess(self) -> float:
        """How many times what is allowed the error is."""
        if self.limit:
            return self.error / self.limit
        return float("inf") if self.error else 0.0


class Quality(Struct, frozen=True):
    """Quantization quality: a quantized graph against the float64 network on nominal images.

    Attributes:
        sqnr_db: signal-to-quantization-noise ratio in decibels, by output; None without noise. 20 dB is a relative
            error of 0.1.
        agreement: share of images with the same largest score; None where no output is (N, classes).
        images: number compared.
    """

    sqnr_db: dict[str, float | None]
    agreement: float | None
    images: int

    def __post_init__(self) -> None:
        force_setattr(self, "sqnr_db", {name: finite(value) for name, value in self.sqnr_db.items()})


@dataclass(frozen=True)
class QualityRequirement:
    """What a quantized graph has to keep; None isn't asked for."""

    sqnr: float | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class Rounding(Measured):
    """How a float16 file's outputs stand to those of the float32 file that it was made of.

    Attributes:
        output: the one that is off most, relative to its baseline.
        error: relative, over all inputs together.
        baseline: by how much rounding the parent's weights and inputs changes it, at least `FLOOR`.
        limit: how many times that the error may be.
    """

    output: str
    error: float
    baseline: float
    limit: float


# Calibrated on good artifacts, see docs/validation.md: the largest ratio of a good float32 artifact, and the faintest
# planted fault, lie well to either side.
LARGEST_RATIO = 6.0

# A baseline can't be finer than a few roundings of float32: a network of two layers may hit the oracle by luck.
FLOOR = 4 * float(np.finfo(np.float32).eps)

# Stands for a kind of input where a tensor is of another size.
SIZE = "shape"


def finite(value: float | None) -> float | None:
    """The number; None for NaN and infinity, which JSON lacks."""
    return value if value is not None and isfinite(value) else None


def number(value: float | None) -> str:
    """An error for a message."""
    return "not a number" if value is None else f"{value:.1e}"


class Comparison(Struct, frozen=True):
    """One tensor's error, on the kind of input with the largest error ratio.

    Attributes:
        tensor: name of the output, or path of the submodule that computes the gate.
        role: "output", or "gate" for the input of a gate's sigmoid.
        kind: of input.
        error: of the artifact, relative; None where a value is not finite or the shape differs.
        baseline: the unavoidable relative error, at least the policy's floor; None where it is not finite.
        limit: max error ratio.
        ratios: error ratio of every kind of input.
        shapes: error ratio of every batch shape, such as "4x3x224x224". Reported, not judged.
        ratio: error ratio, error / baseline; None where either is not finite.
        agrees: whether the error ratio is within the limit.
    """

    tensor: str
    role: str
    kind: str
    error: float | None
    baseline: float | None
    limit: float = LARGEST_RATIO
    ratios: dict[str, float | None] = {}
    shapes: dict[str, float | None] = {}
    ratio: float | None = None
    agrees: bool = False

    def __post_init__(self) -> None:
        error, baseline = finite(self.error), finite(self.baseline)
        ratio = None
        if error is not None and baseline is not None:
            ratio = finite(error / baseline) if baseline else (None if error else 0.0)
        derived = {
            "error": error,
            "baseline": baseline,
            "ratios": {kind: finite(value) for kind, value in self.ratios.items()},
            "shapes": {shape: finite(value) for shape, value in self.shapes.items()},
            "ratio": ratio,
            "agrees": ratio is not None and ratio <= self.limit,
        }
        for name, value in derived.items():
            force_setattr(self, name, value)

    @property
    def severity(self) -> float:
        """Error ratio relative to its limit; infinite without an error ratio."""
        return float("inf") if self.ratio is None else self.ratio / self.limit


class Classes(Struct, frozen=True):
    """Agreement of predicted classes. Reported, not judged: two nearly equal scores may change places.

    Attributes:
        images: nominal and real images, counted once per run.
        differ: images whose largest score is in another place than in the float64 reference.
    """

    images: int
    differ: int


class Verdict(Struct, frozen=True):
    """Whether an artifact computes what its reference computes.

    Attributes:
        runtime: that ran the artifact.
        comparisons: gates in the order of computation, then outputs.
        batches: shapes (N, C, H, W) of the inputs.
        gates_missed: why gates were not compared; empty where they were.
        images: number of single-image inferences.
        classes: agreement of classes; None where the first output is not (N, classes) scores.
        policy: name of the row of `validation.policies` that set floor and limit.
        reference: where the expected values come from.
        baseline: where the baseline errors come from.
        agrees: whether every comparison agrees.
    """

    runtime: str
    comparisons: tuple[Comparison, ...]
    batches: tuple[tuple[int, ...], ...]
    gates_missed: str = ""
    images: int = 0
    classes: Classes | None = None
    policy: str = ""
    reference: str = ""
    baseline: str = ""
    agrees: bool = False

    def __post_init__(self) -> None:
        force_setattr(self, "agrees", all(c.agrees for c in self.comparisons))

    @property
    def first_disagreement(self) -> Comparison | None:
        """The first comparison, in the order of computation, that disagrees."""
        return next((c for c in self.comparisons if not c.agrees), None)

    @property
    def worst(self) -> Comparison:
        """The comparison with the largest error ratio relative to its limit."""
        return max(self.comparisons, key=lambda c: c.severity)

    def worst_of(self, role: str) -> Comparison | None:
        """The worst output or gate."""
        return max((c for c in self.comparisons if c.role == role), key=lambda c: c.severity, default=None)


@dataclass(frozen=True)
class Start:
    """Where an error is first seen.

    Attributes:
        module_path: of the block that leaves the baseline.
        is_input: it is already what goes into this block.
        comparison: there.
        before: the last place before it that agrees; empty where none was looked at.
        how: by extra outputs, or by prefixes of the graph.
    """

    module_path: str
    is_input: bool
    comparison: Comparison
    before: str
    how: str

    def said(self) -> str:
        """Half a sentence."""
        found = self.comparison
        where = f"before {self.module_path}" if self.is_input else f"in {self.module_path}"
        size = "no number" if found.error is None else f"{found.error:.1e}"
        told = f"the error starts {where}: {size} where PyTorch's own is {found.baseline:.1e}"
        return f"{told}, and {self.before} still agrees" if self.before else told


@dataclass(frozen=True)
class Judged(Measured):
    """One output on one kind of image.

    Attributes:
        output: its name.
        kind: of image; "shape" where the output isn't there, or is of another size.
        error: relative; infinite where something isn't a number.
        baseline: the error that is taken for unavoidable.
        limit: how many times that it may be.
    """

    output: str
    kind: str
    error: float
    baseline: float
    limit: float


@dataclass(frozen=True)
class Judgement:
    """All outputs.

    Attributes:
        runtime: what ran, in words.
        judged: by output and kind.
        batches: the shapes that ran.
    """

    runtime: str
    judged: tuple[Judged, ...]
    batches: tuple[tuple[int, ...], ...]

    @property
    def agrees(self) -> bool:
        """Whether every output does, on every kind of image."""
        return all(entry.agrees for entry in self.judged)

    def as_verdict(self) -> Verdict:
        """The same as a verdict: a comparison for each output and kind of image."""
        comparisons = [Comparison(j.output, "output", j.kind, j.error, j.baseline, j.limit) for j in self.judged]
        return Verdict(self.runtime, tuple(comparisons), self.batches)

    @property
    def worst(self) -> Judged:
        """The one that is furthest from what is allowed."""
        return max(self.judged, key=lambda entry: entry.ratio / entry.limit)
