"""How artifacts stood to PyTorch before, and how they do now."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from attn_export.exporter.compare.read import Report

# A ratio that grew by more than this is worth a note: on the same images the same versions give the same ratio.
GREW = 1.1


@dataclass(frozen=True)
class Standing:
    """How one artifact stands to PyTorch.

    Attributes:
        agrees: None where it wasn't compared.
        worst_ratio: the largest error, in PyTorch's own errors; None where it wasn't compared, or is no number.
        differ: images whose class is another than in float64; None where that isn't known.
        images: of how many.
    """

    agrees: bool | None
    worst_ratio: float | None
    differ: int | None
    images: int | None


@dataclass(frozen=True)
class Validation:
    """One artifact in both reports.

    Attributes:
        artifact: name of its file in the new report.
        before, now: None where the report doesn't have it.
    """

    artifact: str
    before: Standing | None
    now: Standing | None


def compare_validations(old: Report, new: Report) -> tuple[Validation, ...]:
    """Artifacts of the same format and precision, those of the same name first."""
    left = [artifact for artifact in old.record["artifacts"] if artifact["format"] != "bundle"]
    made = []
    for artifact in new.record["artifacts"]:
        if artifact["format"] == "bundle":
            continue
        alike = [other for other in left if _kind(other) == _kind(artifact)]
        alike.sort(key=lambda other: other["path"] != artifact["path"])
        twin = alike[0] if alike else None
        if twin is not None:
            left.remove(twin)
        made.append(Validation(artifact["path"], _standing(twin) if twin else None, _standing(artifact)))
    return (*made, *(Validation(artifact["path"], _standing(artifact), None) for artifact in left))


def _kind(artifact: dict[str, Any]) -> tuple[str, Any]:
    return artifact["format"], artifact.get("precision")


def _standing(artifact: dict[str, Any]) -> Standing:
    validation = artifact.get("validation")
    if not validation:
        return Standing(None, None, None, None)
    ratios = [c.get("ratio") for c in validation.get("comparisons") or [] if isinstance(c, dict)]
    numbers = [ratio for ratio in ratios if isinstance(ratio, int | float)]
    classes = validation.get("classes") or {}
    worst = max(numbers) if numbers and len(numbers) == len(ratios) else None
    return Standing(validation["agrees"], worst, classes.get("differ"), classes.get("images"))


def validation_notes(validations: Sequence[Validation]) -> Iterator[str]:
    """What got worse, or isn't there any more."""
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
            yield (
                f"{entry.artifact} is further from float64: {now.worst_ratio:.2f} times PyTorch's own error, "
                f"{before.worst_ratio:.2f} before"
            )
        if before is not None and now is not None and _share(now) > _share(before):
            yield (
                f"{entry.artifact} gives another class than float64 for {now.differ} of {now.images} images, "
                f"{before.differ} of {before.images} before"
            )


def _share(standing: Standing) -> float:
    return (standing.differ or 0) / (standing.images or 1)
