"""The same thing, timed in two runs."""

from typing import Literal

from msgspec import Struct

from attn_export.exporter.comparison.change import change_of_latency, change_of_ratio
from attn_export.exporter.comparison.runs import BY_BOTH, BY_LATENCY, BY_RATIO, Decides, Runs
from attn_export.exporter.records.compare import Change, PairVerdict
from attn_export.exporter.records.latency import BASELINE, CANT_TELL, FASTER, SLOWER, Timing

NOT_COMPARED: Literal["not compared"] = "not compared"
# Two runs of the same differ by more than chance within them, by where memory happens to lie and by what else the
# machine does (docs/budgets.md has a measurement). Two figures that agree have to be so far off, one alone further.
MARGINS = {BY_BOTH: 0.02, BY_RATIO: 0.05, BY_LATENCY: 0.05}


class Pair(Struct, frozen=True):
    """A latency before and now.

    Attributes:
        runtime, device, precision, batch: the same in both runs.
        artifact: name of the file in the new run; None where it is the module itself.
        provenance: what really ran in the new run.
        old_ms, new_ms: medians.
        latency: their change; None on another machine, or with too few rounds.
        baseline: what the ratios are to; None where the two runs have no baseline in common.
        old_ratio, new_ratio: to the baseline of their run.
        ratio: their change; None where it decides nothing, or with too few rounds.
        decides: "both", "ratio" or "latency", whichever the verdict rests on; None where nothing can be said.
        verdict: "faster" or "slower" than before, "can't tell", "baseline", or "not compared".
    """

    runtime: str
    artifact: str | None
    provenance: str
    device: str
    precision: str
    batch: int
    old_ms: float
    new_ms: float
    latency: Change | None
    baseline: str | None
    old_ratio: float
    new_ratio: float
    ratio: Change | None
    decides: Decides | None
    verdict: PairVerdict

    def slower_than(self, allowed: float) -> bool:
        """Whether it got slower by more than is allowed (0.05 is 5 %), beyond noise."""
        return self.decides is not None and _slower(
            _deciding(self.latency, self.ratio, self.decides), self.decides, allowed
        )

    def hidden_by_noise(self, allowed: float) -> bool:
        """Whether the latency is slower by more than is allowed, and the ratio too, but not beyond its own noise."""
        return (
            self.decides == BY_BOTH
            and self.verdict == CANT_TELL
            and _slower((self.latency,), BY_LATENCY, allowed)
            and self.ratio is not None
            and self.ratio.estimate > 1 + allowed
        )

    @property
    def named(self) -> str:
        """What it is, for people."""
        return f"{self.runtime} of {self.artifact}" if self.artifact else self.runtime

    def slower_words(self) -> str:
        """How much slower one that got slower is, for people."""
        told = []
        if self.latency is not None and self.decides != BY_RATIO:
            told.append(_words(self.latency))
        if self.ratio is not None:
            told.append(f"{_words(self.ratio)} measured against {self.baseline}")
        return f"{self.named} at batch {self.batch} got slower: {', '.join(told)}"


def pair_of(runs: Runs, before: Timing, now: Timing) -> Pair:
    """What two timings of the same say together."""
    decides, shared = runs.deciding(before, now), runs.share_baseline(before, now)
    latency = None if runs.elsewhere else change_of_latency(before, now, runs.confidence)
    ratio = None
    if decides in (BY_BOTH, BY_RATIO):
        baselines = runs.old.baseline_of(before), runs.new.baseline_of(now)
        ratio = change_of_ratio((before, baselines[0]), (now, baselines[1]), runs.confidence)
    return Pair(
        runtime=now.runtime,
        artifact=now.artifact,
        provenance=now.provenance,
        device=now.device,
        precision=now.precision,
        batch=now.batch,
        old_ms=before.median_ms,
        new_ms=now.median_ms,
        latency=latency,
        baseline=now.baseline if shared else None,
        old_ratio=before.ratio,
        new_ratio=now.ratio,
        ratio=ratio,
        decides=decides,
        verdict=_verdict(latency, ratio, decides, shared),
    )


def _verdict(latency: Change | None, ratio: Change | None, decides: Decides | None, shared: bool) -> PairVerdict:
    if decides is None:
        return BASELINE if shared else NOT_COMPARED
    changes = _deciding(latency, ratio, decides)
    if _slower(changes, decides):
        return SLOWER
    beyond = 1 / (1 + MARGINS[decides])
    return FASTER if all(change is not None and change.high < beyond for change in changes) else CANT_TELL


def _deciding(latency: Change | None, ratio: Change | None, decides: Decides) -> tuple[Change | None, ...]:
    return {BY_BOTH: (latency, ratio), BY_RATIO: (ratio,), BY_LATENCY: (latency,)}[decides]


def _slower(changes: tuple[Change | None, ...], decides: Decides, allowed: float = 0.0) -> bool:
    """Whether everything that decides lies beyond what is allowed and what two runs differ by anyway."""
    beyond = (1 + allowed) * (1 + MARGINS[decides])
    return all(change is not None and change.low > beyond for change in changes)


def _words(change: Change) -> str:
    return f"{change.estimate - 1:+.1%} ({change.low - 1:+.1%} to {change.high - 1:+.1%})"
