"""Comparisons of an artifact's tensors with reference values, and the verdict that follows."""

from math import isfinite

from msgspec import Struct
from msgspec.structs import force_setattr

from attn_export.exporter.artifacts import Shapes
from attn_export.exporter.records.latency import Natural

# The kind of input of a tensor that is missing or has another size.
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
        role: "output"; "gate" for the input of a gate's sigmoid, or the gate itself between a graph and its source;
            "block" for the end of a block.
        error: of the artifact, relative; None where a value is not finite or the shape differs.
        baseline: the unavoidable relative error, at least the policy's floor; None where it is not finite.
        ratios: error ratio of every kind of input.
        shapes: error ratio of every batch shape, such as "4x3x224x224". Reported, not judged.
        has_power: whether the tolerance is far below the amount by which the tensor changes between inputs, so that
            agreement proves something.
        ratio: error ratio, error / baseline; None where either is not finite.
    """

    tensor: str
    role: str
    kind: str
    error: float | None
    baseline: float | None
    limit: float
    ratios: dict[str, float | None] = {}
    shapes: dict[str, float | None] = {}
    has_power: bool = True
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

    images: Natural
    differ: Natural


class Verdict(Struct, frozen=True):
    """Whether an artifact computes what its reference computes.

    Attributes:
        comparisons: gates in the order of computation, then outputs.
        batches: of each the shapes of all inputs, such as (N, C, H, W).
        gates_missed: why gates were not compared; empty where they were.
        images: number of single-image inferences.
        classes: agreement of classes; None where the first output is not (N, classes) scores.
        policy: name of the row of `records.policies` that set floor and limit.
        reference: where the expected values come from.
        baseline: where the baseline errors come from.
    """

    runtime: str
    comparisons: tuple[Comparison, ...]
    batches: tuple[Shapes, ...]
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

    @property
    def powerless(self) -> tuple[str, ...]:
        """The outputs whose agreement proves nothing."""
        return tuple(c.tensor for c in self.comparisons if c.role == "output" and not c.has_power)

    def worst_of(self, role: str) -> Comparison | None:
        """The worst output or gate."""
        return max((c for c in self.comparisons if c.role == role), key=lambda c: c.severity, default=None)


class Quality(Struct, frozen=True):
    """Quantization quality: a quantized graph against the float64 network on the user's images, else on nominal ones.

    Attributes:
        sqnr_db: signal-to-quantization-noise ratio in decibels, by output; None without noise. 20 dB is a relative
            error of 0.1.
        agreement: share of images with the same largest score; None where no output is (N, classes).
    """

    sqnr_db: dict[str, float | None]
    agreement: float | None
    images: int

    def __post_init__(self) -> None:
        force_setattr(self, "sqnr_db", {name: finite(value) for name, value in self.sqnr_db.items()})


class QualityRequirement(Struct, frozen=True):
    """The least quality of an artifact: shares of equal classes and right answers, SQNR in decibels."""

    sqnr: float | None = None
    agreement: float | None = None
    top1: float | None = None
    top5: float | None = None

    def __str__(self) -> str:
        shares = {"top1": self.top1, "top5": self.top5, "agreement": self.agreement}
        words = [f"{name}={100 * share:g}%" for name, share in shares.items() if share is not None]
        return ",".join([*words, *([f"sqnr={self.sqnr:g}"] if self.sqnr is not None else [])])


class FirstDivergence(Struct, frozen=True):
    """The first divergent layer, or its input; ``before`` is the last place that agrees, empty if unknown."""

    module_path: str
    is_input: bool
    comparison: Comparison
    before: str
    how: str

    def describe(self) -> str:
        """Half a sentence."""
        found = self.comparison
        where = f"before {self.module_path}" if self.is_input else f"in {self.module_path}"
        text = f"the error starts {where}: {number(found.error)}, baseline error {number(found.baseline)}"
        return f"{text}; {self.before} still agrees" if self.before else text
