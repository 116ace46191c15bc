"""An error, what it is measured by, and what follows from the two."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

import numpy as np


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


@dataclass(frozen=True)
class Quality:
    """How a quantized graph stands to its network, over ordinary images.

    Attributes:
        sqnr_db: ratio of signal to quantization noise in decibels, by output: 20 is an error of a tenth.
        agreement: share of the images whose largest output is the same, of an output (N, classes); None without one.
        images: how many were compared.
    """

    sqnr_db: Mapping[str, float]
    agreement: float | None
    images: int


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


@dataclass(frozen=True)
class Comparison(Measured):
    """One tensor's error, for the kind of input on which it is worst.

    Attributes:
        tensor: the output's name, or the path of the submodule whose gate it is.
        role: "output", or "gate" for what goes into a gate's sigmoid.
        kind: of input.
        error: of the artifact, relative.
        baseline: error of PyTorch in the artifact's precision, relative, at least the precision's floor.
        limit: how many times that the error may be.
        ratios: of error to baseline, for every kind of input.
        shapes: the same for every shape of a batch, such as "4x3x224x224"; see `ratios_by_shape`. Shown, not judged.
    """

    tensor: str
    role: str
    kind: str
    error: float
    baseline: float
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
        size = f"{found.error:.1e}" if isfinite(found.error) else "no number"
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
