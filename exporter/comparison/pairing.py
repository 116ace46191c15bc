"""Matching the timings of one report with those of another."""

from collections.abc import Sequence
from pathlib import Path

from attn_export.exporter.comparison.read import TimedReport
from attn_export.exporter.records.latency import Timing
from attn_export.exporter.records.report import BundleRecord

Key = tuple[str, str, str, str, int]


def key_of(report: TimedReport, timing: Timing) -> Key:
    """Runtime, format, precision, device, batch. The name of the file may change."""
    runnable = (a for a in report.record.artifacts if not isinstance(a, BundleRecord))
    listed = next((a for a in runnable if a.path == timing.artifact), None)
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
