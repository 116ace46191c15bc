"""Reports with latencies that can be compared."""

from dataclasses import dataclass
from pathlib import Path

from attn_export.exporter.errors import UnreadableReportError
from attn_export.exporter.records.latency import BASELINE, Timing
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.read import read_report


@dataclass(frozen=True)
class TimedReport:
    """A report with at least one timing."""

    path: Path
    record: Report

    @property
    def timings(self) -> tuple[Timing, ...]:
        """At least one."""
        return self.record.latency.timings

    @property
    def confidence(self) -> float:
        """Of its intervals, 0..1."""
        return self.record.latency.schedule.confidence

    def baseline_of(self, timing: Timing) -> Timing:
        """The baseline of a timing's ratio: the one of the same batch."""
        return next(t for t in self.timings if t.batch == timing.batch and t.verdict == BASELINE)


def read_timed_report(path: Path) -> TimedReport:
    """Read the report of an export or a bench. Raises UnreadableReportError: it has no latencies to compare."""
    report = read_report(path)
    timings = report.latency.timings
    if not timings:
        raise UnreadableReportError(
            f"{path} has no latencies: nothing was timed in that run", hint="Run it again without --no-bench."
        )
    if problem := _inconsistency(timings):
        raise UnreadableReportError(f"{path} is no whole report: {problem}", hint="Make the report again.")
    return TimedReport(path, report)


def _inconsistency(timings: tuple[Timing, ...]) -> str:
    """Reversed intervals, or a batch without exactly one baseline or with different numbers of rounds."""
    for index, timing in enumerate(timings):
        for name in ("median_interval_ms", "p99_interval_ms", "ratio_interval"):
            low, high = getattr(timing, name)
            if low > high:
                return f"$.latency.timings[{index}].{name} is ({low}, {high}); expected is the smaller number first"
    for batch in dict.fromkeys(timing.batch for timing in timings):
        group = [timing for timing in timings if timing.batch == batch]
        baselines = sum(timing.verdict == BASELINE for timing in group)
        if baselines != 1:
            return f"$.latency.timings has {baselines} baselines of batch {batch}; expected is one"
        if len({len(timing.rounds_ms) for timing in group}) > 1:
            return f"$.latency.timings has runtimes with more rounds than others of batch {batch}"
    return ""
