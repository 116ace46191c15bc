"""The two runs that are compared, and which figures of a pair decide."""

from dataclasses import dataclass
from typing import Literal

from attn_export.exporter.comparison.read import LoadedReport
from attn_export.exporter.records.latency import BASELINE, Timing

Decides = Literal["both", "ratio", "latency"]
BY_BOTH: Decides = "both"
BY_RATIO: Decides = "ratio"
BY_LATENCY: Decides = "latency"


@dataclass(frozen=True)
class Runs:
    """Two reports of the same network.

    Attributes:
        old, new: the reports.
        pairs: timings of the same, old and new.
        elsewhere: whether they were measured on different machines.
        confidence: of all intervals, 0..1.
    """

    old: LoadedReport
    new: LoadedReport
    pairs: tuple[tuple[Timing, Timing], ...]
    elsewhere: bool
    confidence: float

    def share_baseline(self, before: Timing, now: Timing) -> bool:
        """Whether nothing of a pair's baseline changed between the runs but the machine's mood.

        On another machine the baseline has to have run on the timing's own device, because a ratio between a CPU and a
        GPU is one of machines; another version is let pass there, and noted.
        """
        was, is_now = self.old.baseline_of(before), self.new.baseline_of(now)
        if not any(a is was and b is is_now for a, b in self.pairs):
            return False
        if self.elsewhere:
            return bool(now.device == is_now.device)
        return bool(was.provenance == is_now.provenance) and self._same_file(was, is_now)

    def deciding(self, before: Timing, now: Timing) -> Decides | None:
        """What the verdict on a pair rests on; None where nothing can be said.

        What the machine did to a whole run moves its latencies and not its ratios, and what it did to the baseline
        alone moves the ratios and not the latencies. So where both can be had, both have to say the same. A baseline
        that others are measured against isn't judged itself.
        """
        shared = self.share_baseline(before, now)
        if shared and now.verdict != BASELINE:
            return BY_RATIO if self.elsewhere else BY_BOTH
        return None if self.elsewhere or (shared and self._is_leant_on(now)) else BY_LATENCY

    def _is_leant_on(self, baseline: Timing) -> bool:
        return any(now.batch == baseline.batch and now is not baseline for _, now in self.pairs)

    def _same_file(self, was: Timing, is_now: Timing) -> bool:
        if was.artifact is None:
            return True
        hashes = [_hash(self.old, was.artifact), _hash(self.new, is_now.artifact)]
        return hashes[0] == hashes[1] and None not in hashes


def _hash(report: LoadedReport, name: str | None) -> str | None:
    """Of an artifact's file; None where the report doesn't say."""
    return next((a.sha256 for a in report.record.artifacts if a.path == name), None)
