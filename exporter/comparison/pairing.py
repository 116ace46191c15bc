"""Which timing of one report belongs to which of another."""

from collections.abc import Sequence
from pathlib import Path

from attn_export.exporter.comparison.read import LoadedReport
from attn_export.exporter.records.latency import Timing
from attn_export.exporter.records.report import BundleRecord

Key = tuple[str, str, str, str, int]


def key_of(report: LoadedReport, timing: Timing) -> Key:
    """Runtime, format of its file, precision, device, batch: a file's name may change."""
    name = timing.artifact
    runnable = (a for a in report.record.artifacts if not isinstance(a, BundleRecord))
    listed = next((a for a in runnable if a.path == name), None)
    if listed is None:
        return timing.runtime, Path(name or "").suffix, timing.precision, timing.device, timing.batch
    precision = listed.precision or timing.precision
    return timing.runtime, type(listed).__name__, precision, timing.device, timing.batch


def pairs_of(old: LoadedReport, new: LoadedReport) -> tuple[tuple[Timing, Timing], ...]:
    """Timings of the same, in the new report's order.

    Where several have the same key (two files of one format and precision), those of the same name belong together;
    what is left is a pair if there is one on either side.
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
    of = f" of {timing.artifact}" if timing.artifact else ""
    return f"{timing.runtime}{of}, batch {timing.batch}"
