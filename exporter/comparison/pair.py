"""The verdict on one subject that was timed in two runs."""

from attn_export.exporter.comparison.change import change_of_latency, change_of_ratio
from attn_export.exporter.comparison.runs import Runs
from attn_export.exporter.records.compare import Change, Decides, Pair, PairVerdict
from attn_export.exporter.records.latency import BASELINE, CANT_TELL, FASTER, SLOWER, Subject, Timing

# The difference between two runs without any change, beyond the chance within them (docs/budgets.md has a measurement):
# the margin of two figures that agree, and of one alone.
MARGINS: dict[Decides, float] = {"both": 0.02, "ratio": 0.05, "latency": 0.05}
Changes = tuple[Change | None, ...]


def pair_of(runs: Runs, before: Timing, now: Timing) -> Pair:
    """The verdict on two timings of the same subject."""
    decides, shared = runs.deciding(before, now), runs.share_baseline(before, now)
    latency = None if runs.other_machine else change_of_latency(before, now, runs.confidence)
    ratio = None
    if decides in ("both", "ratio"):
        old, new = (before, runs.old.baseline_of(before)), (now, runs.new.baseline_of(now))
        ratio = change_of_ratio(old, new, runs.confidence)
    changes: Changes = {"both": (latency, ratio), "ratio": (ratio,), "latency": (latency,), None: ()}[decides]
    return Pair(
        **{name: getattr(now, name) for name in Subject.__struct_fields__},
        old_ms=before.median_ms,
        new_ms=now.median_ms,
        old_ratio=before.ratio,
        new_ratio=now.ratio,
        latency=latency,
        baseline=now.baseline if shared else None,
        ratio=ratio,
        decides=decides,
        verdict=(BASELINE if shared else "not compared") if decides is None else _verdict(changes, decides),
        broken=decides is not None and _slower(changes, decides, runs.slower),
    )


def hidden_by_noise(pair: Pair, allowed: float) -> bool:
    """Whether only the noise of the ratio keeps a pair from being slower than allowed (0.05 is 5 %)."""
    return (
        pair.decides == "both"
        and pair.verdict == CANT_TELL
        and _slower((pair.latency,), "latency", allowed)
        and pair.ratio is not None
        and pair.ratio.estimate > 1 + allowed
    )


def slower_words(pair: Pair) -> str:
    """``onnxruntime of model.onnx at batch 1 got slower: +20.0% (+18.9% to +21.1%)``."""
    figures = [_words(pair.latency)] if pair.latency is not None and pair.decides != "ratio" else []
    figures += [f"{_words(pair.ratio)} measured against {pair.baseline}"] if pair.ratio is not None else []
    return f"{pair.label} at batch {pair.batch} got slower: {', '.join(figures)}"


def _verdict(changes: Changes, decides: Decides) -> PairVerdict:
    if _slower(changes, decides):
        return SLOWER
    beyond = 1 / (1 + MARGINS[decides])
    return FASTER if all(change is not None and change.high < beyond for change in changes) else CANT_TELL


def _slower(changes: Changes, decides: Decides, allowed: float = 0.0) -> bool:
    """Whether the intervals of all deciding changes lie above the allowed change and the margin."""
    beyond = (1 + allowed) * (1 + MARGINS[decides])
    return all(change is not None and change.low > beyond for change in changes)


def _words(change: Change) -> str:
    return f"{change.estimate - 1:+.1%} ({change.low - 1:+.1%} to {change.high - 1:+.1%})"
