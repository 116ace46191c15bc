"""The same thing, timed in two runs."""

from dataclasses import dataclass

from attn_export.exporter.comparing.change import Change, change_of_latency, change_of_ratio
from attn_export.exporter.comparing.pairing import Timing
from attn_export.exporter.comparing.runs import BY_LATENCY, BY_RATIO, Runs
from attn_export.exporter.latency.verdict import BASELINE, CANT_TELL, verdict_of

NOT_COMPARED = "not compared"


@dataclass(frozen=True)
class Pair:
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
        decides: "ratio" or "latency", whichever the verdict rests on; None where nothing can be said.
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
    decides: str | None
    verdict: str

    @property
    def change(self) -> Change | None:
        """What the verdict rests on."""
        return {BY_RATIO: self.ratio, BY_LATENCY: self.latency}.get(self.decides or "")

    def slower_than(self, allowed: float) -> bool:
        """Whether it got slower by more than is allowed (0.05 is 5 %), beyond noise."""
        return self.change is not None and self.change.low > 1 + allowed

    def slower_words(self) -> str:
        """How much slower one that decides is, for people."""
        change = self.change
        assert change is not None
        named = f"{self.runtime} of {self.artifact}" if self.artifact else self.runtime
        against = f", measured against {self.baseline}" if self.decides == BY_RATIO else ""
        return (
            f"{named} at batch {self.batch} is {change.estimate - 1:.1%} slower than before "
            f"({change.low - 1:+.1%} to {change.high - 1:+.1%}{against})"
        )


def pair_of(runs: Runs, before: Timing, now: Timing) -> Pair:
    """What two timings of the same say together."""
    decides = runs.deciding(before, now)
    latency = None if runs.elsewhere else change_of_latency(before, now, runs.confidence)
    ratio = None
    if decides == BY_RATIO:
        baselines = runs.old.baseline_of(before), runs.new.baseline_of(now)
        ratio = change_of_ratio((before, baselines[0]), (now, baselines[1]), runs.confidence)
    shared = runs.share_baseline(before, now)
    return Pair(
        runtime=now["runtime"],
        artifact=now["artifact"],
        provenance=now["provenance"],
        device=now["device"],
        precision=now["precision"],
        batch=now["batch"],
        old_ms=before["median_ms"],
        new_ms=now["median_ms"],
        latency=latency,
        baseline=now["baseline"] if shared else None,
        old_ratio=before["ratio"],
        new_ratio=now["ratio"],
        ratio=ratio,
        decides=decides,
        verdict=_verdict(ratio if decides == BY_RATIO else latency, decides, shared),
    )


def _verdict(change: Change | None, decides: str | None, shared: bool) -> str:
    if decides is None:
        return BASELINE if shared else NOT_COMPARED
    return CANT_TELL if change is None else verdict_of(change.low, change.high)
