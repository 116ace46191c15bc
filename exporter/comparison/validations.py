"""The validations of artifacts in two reports."""

import math
from collections.abc import Iterator, Sequence

from attn_export.exporter.comparison.read import TimedReport
from attn_export.exporter.records.compare import Standing, ValidationChange
from attn_export.exporter.records.report import BundleRecord, EngineSummary, OnnxRecord

# A larger growth of an error ratio is worth a note: the same versions give the same ratio on the same images.
GREW = 1.1


def compare_validations(old: TimedReport, new: TimedReport) -> tuple[ValidationChange, ...]:
    """Artifacts of the same format and precision, those of the same name first."""
    left = _runnable(old)
    paired = []
    for artifact in _runnable(new):
        same_kind = [other for other in left if _kind(other) == _kind(artifact)]
        twin = min(same_kind, key=lambda other: other.path != artifact.path, default=None)
        if twin is not None:
            left.remove(twin)
        paired.append(ValidationChange(artifact.path, _standing(twin) if twin else None, _standing(artifact)))
    return (*paired, *(ValidationChange(artifact.path, _standing(artifact), None) for artifact in left))


def _runnable(report: TimedReport) -> list[OnnxRecord | EngineSummary]:
    return [artifact for artifact in report.record.artifacts if not isinstance(artifact, BundleRecord)]


def _kind(artifact: OnnxRecord | EngineSummary) -> tuple[type, str | None]:
    return type(artifact), artifact.precision


def _standing(artifact: OnnxRecord | EngineSummary) -> Standing:
    verdict = artifact.validation
    if verdict is None:
        return Standing(None, None, None, None)
    ratios = [c.ratio for c in verdict.comparisons]
    finite = [ratio for ratio in ratios if ratio is not None and math.isfinite(ratio)]
    worst = max(finite) if finite and len(finite) == len(ratios) else None
    classes = verdict.classes
    return Standing(artifact.agrees, worst, classes.differ if classes else None, classes.images if classes else None)


def validation_notes(validations: Sequence[ValidationChange]) -> Iterator[str]:
    """Validations that got worse or are missing."""
    for entry in validations:
        before, now = entry.before, entry.now
        if before is None:
            continue
        if now is None:
            yield f"{entry.artifact} was made before, and isn't now"
        elif before.agrees and now.agrees is None:
            yield f"{entry.artifact} was compared with PyTorch before, and isn't now"
        elif before.agrees and not now.agrees:
            yield f"{entry.artifact} agreed with PyTorch before, and DISAGREES now"
        elif before.worst_ratio and now.worst_ratio and now.worst_ratio > GREW * before.worst_ratio:
            yield f"{entry.artifact}: the worst error ratio is {now.worst_ratio:.2f}, {before.worst_ratio:.2f} before"
        if now is not None and _share(now) > _share(before):
            yield (
                f"{entry.artifact} gives another class than float64 for {now.differ} of {now.images} images, "
                f"{before.differ} of {before.images} before"
            )


def _share(standing: Standing) -> float:
    return (standing.differ or 0) / (standing.images or 1)
