"""The two runs of a comparison: which timings are a pair, and which figures of a pair decide."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attn_export.exporter.comparison.read import TimedReport
from attn_export.exporter.records.compare import Decides
from attn_export.exporter.records.latency import BASELINE, Timing

Key = tuple[str, str, str, str, int]


@dataclass(frozen=True)
class Runs:
    """Two reports of one network, with pairs of timings; a latency may grow by ``slower``: 0.05 is 5 %."""

    old: TimedReport
    new: TimedReport
    pairs: tuple[tuple[Timing, Timing], ...]
    other_machine: bool
    confidence: float
    slower: float

    def share_baseline(self, before: Timing, now: Timing) -> bool:
        """Whether the baselines of a pair are the same: device, version, and the bytes of a file.

        On another machine the baseline must have run on the timing's own device, because a ratio between a CPU and a
        GPU depends on both; its version may differ there, which a note says.
        """
        old_baseline, new_baseline = self.old.baseline_of(before), self.new.baseline_of(now)
        if not any(old is old_baseline and new is new_baseline for old, new in self.pairs):
            return False
        if self.other_machine:
            return now.device == new_baseline.device
        return old_baseline.provenance == new_baseline.provenance and self._same_file(old_baseline, new_baseline)

    def deciding(self, before: Timing, now: Timing) -> Decides | None:
        """The figures that the verdict on a pair rests on; None where no verdict is possible.

        A disturbance of a whole run moves its latencies and not its ratios; one of the baseline alone moves the ratios
        and not the latencies. Where both figures exist, both must agree. A baseline of other timings gets no verdict.
        """
        shared = self.share_baseline(before, now)
        if shared and now.verdict != BASELINE:
            return "ratio" if self.other_machine else "both"
        return None if self.other_machine or (shared and self._is_baseline_of_others(now)) else "latency"

    def _is_baseline_of_others(self, baseline: Timing) -> bool:
        return any(now.batch == baseline.batch and now is not baseline for _, now in self.pairs)

    def _same_file(self, old: Timing, new: Timing) -> bool:
        if old.artifact is None:
            return True
        hashes = [_hash(self.old, old.artifact), _hash(self.new, new.artifact)]
        return hashes[0] == hashes[1] and None not in hashes


def _hash(report: TimedReport, name: str | None) -> str | None:
    """The sha256 of an artifact; None where the report lacks it."""
    return next((a.sha256 for a in report.record.artifacts if a.path == name), None)


def key_of(report: TimedReport, timing: Timing) -> Key:
    """Runtime, format, precision, device, batch. The name of the file may change."""
    listed = next((a for a in report.record.runnable if a.path == timing.artifact), None)
    if listed is None:
        suffix = Path(timing.artifact or "").suffix
        return timing.runtime, suffix, timing.precision, timing.device, timing.batch
    precision = listed.precision or timing.precision
    return timing.runtime, type(listed).__name__, precision, timing.device, timing.batch


def pairs_of(old: TimedReport, new: TimedReport) -> tuple[tuple[Timing, Timing], ...]:
    """Timings of the same subject, in the new report's order.

    Of several with one key (two files of one format and precision), those of the same name are a pair; then the last
    one, if one is left in each report.
    """
    found: dict[int, Timing] = {}
    for key in dict.fromkeys(key_of(new, timing) for timing in new.timings):
        left = [timing for timing in old.timings if key_of(old, timing) == key]
        right = [timing for timing in new.timings if key_of(new, timing) == key]
        for timing in list(right):
            twins = [other for other in left if other.artifact == timing.artifact]
            if len(twins) == 1:
                found[id(timing)] = twins[0]
                left.remove(twins[0])
                right.remove(timing)
        if len(left) == len(right) == 1:
            found[id(right[0])] = left[0]
    return tuple((found[id(timing)], timing) for timing in new.timings if id(timing) in found)


def unpaired(timings: Sequence[Timing], paired: Sequence[Timing]) -> tuple[str, ...]:
    """Names of the timings that are in no pair."""
    return tuple(name_of(timing) for timing in timings if not any(timing is other for other in paired))


def name_of(timing: Timing) -> str:
    """``onnxruntime of model.onnx, batch 1``."""
    return f"{timing.label}, batch {timing.batch}"
