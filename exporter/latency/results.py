"""What one run of timing gives: the latencies, and how and under what conditions they were taken."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from attn_export.exporter.latency.measure import Run, Schedule
from attn_export.exporter.latency.statistics import Timing
from attn_export.exporter.latency.turns import TIMED


@dataclass(frozen=True)
class Latency:
    """Everything that was timed together.

    Attributes:
        threads: CPU threads of every runtime.
        cpus: that the process may use.
        schedule: what was asked for.
        runs: one for each batch.
        timings: of the first batch in the order of the runtimes, then of the next.
    """

    threads: int
    cpus: tuple[int, ...]
    schedule: Schedule
    runs: tuple[Run, ...] = ()
    timings: tuple[Timing, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, see docs/report.md."""
        asked = self.schedule
        return {
            "threads": self.threads,
            "cpus": list(self.cpus),
            "timed": TIMED,
            "asked": {"interval": asked.interval, "confidence": asked.confidence, "seconds": asked.seconds},
            "runs": [asdict(run) for run in self.runs],
            "timings": [asdict(timing) for timing in self.timings],
        }


def joined(parts: Sequence[Latency]) -> Latency:
    """Several batches that were timed one after the other, with the same schedule, as one; at least one."""
    first = parts[0]
    runs = tuple(run for part in parts for run in part.runs)
    timings = tuple(timing for part in parts for timing in part.timings)
    return Latency(first.threads, first.cpus, first.schedule, runs, timings)
