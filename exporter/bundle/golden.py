"""The images that an engine is judged on where it is built, and what it has to give for them."""

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attn_export.exporter.artifacts import Axis, Signature
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.engine import Profile, Range

# What an array of a bundle may have; images and results of a sample have a few megabytes.
LARGEST_ARRAYS = 2**30


@dataclass(frozen=True)
class Limit:
    """How far an output may be off on one kind of image.

    Attributes:
        baseline: the relative error that is taken for unavoidable.
        allowed: how many times that it may be.
    """

    baseline: float
    allowed: float


@dataclass(frozen=True)
class Group:
    """Images of one size, and the batches in which they run.

    Attributes:
        images: (K, C, H, W) float32.
        kinds: K names.
        batches: indices of images, one tuple for each batch; an image may stand in several, and more than once in one.
        expected: by output, (K, …) double precision: what each image alone gives.
    """

    images: Array
    kinds: tuple[str, ...]
    batches: tuple[tuple[int, ...], ...]
    expected: Mapping[str, Array]


@dataclass(frozen=True)
class GoldenVectors:
    """What a device judges its engine by.

    Attributes:
        input_name: of the one input, float32.
        reference: who computed what is expected, in words.
        baseline: what the baselines are, in words.
        groups: one for each size of image.
        limits: output -> kind of image -> limit.
    """

    input_name: str
    reference: str
    baseline: str
    groups: tuple[Group, ...]
    limits: Mapping[str, Mapping[str, Limit]]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of all batches."""
        found = [(len(batch), *group.images.shape[1:]) for group in self.groups for batch in group.batches]
        return tuple(dict.fromkeys(found))


def signature_of(sample: GoldenVectors, profile: Profile) -> Signature:
    """What artifacts of a sample's network take and return."""
    taken = profile[sample.input_name]
    axes = tuple(
        Axis(name, i, low)
        for i, (name, low, high) in enumerate(zip(_axis_names(taken), taken.min, taken.max, strict=True))
        if low != high
    )
    return Signature(sample.input_name, taken.opt, axes, tuple(sample.limits))


def _axis_names(taken: Range) -> tuple[str, ...]:
    named = ("batch", "channels", "height", "width") if len(taken.opt) == 4 else ("batch",)
    return tuple(named[i] if i < len(named) else f"axis {i}" for i in range(len(taken.opt)))


def to_document(sample: GoldenVectors) -> dict[str, Any]:
    """What ``bundle.json`` says of a sample; the arrays themselves are `save`'s."""
    return {
        "input": sample.input_name,
        "reference": sample.reference,
        "baseline": sample.baseline,
        "groups": [
            {
                "images": f"images_{g}",
                "shape": list(group.images.shape),
                "kinds": list(group.kinds),
                "batches": [list(batch) for batch in group.batches],
                "expected": {name: f"expected_{g}_{i}" for i, name in enumerate(group.expected)},
            }
            for g, group in enumerate(sample.groups)
        ],
        "limits": {o: {kind: asdict(limit) for kind, limit in kinds.items()} for o, kinds in sample.limits.items()},
    }


def save(sample: GoldenVectors, path: Path) -> None:
    """Write the arrays, compressed.

    Raises:
        OSError: the file can't be written.
    """
    arrays: dict[str, Array] = {}
    for g, group in enumerate(sample.groups):
        arrays[f"images_{g}"] = group.images
        arrays |= {f"expected_{g}_{i}": array for i, array in enumerate(group.expected.values())}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # numpy 1 has no `allow_pickle` here


def from_document(document: Mapping[str, Any], arrays: bytes, taken: Range) -> GoldenVectors:
    """The sample that ``bundle.json`` and the file of arrays describe.

    Args:
        document: as `to_document` made it.
        arrays: the bytes that `save` wrote.
        taken: the shapes that the engine takes.

    Raises:
        ValueError, KeyError, TypeError: they don't fit together, or aren't of this form.
    """
    loaded = _arrays(arrays)
    limits = {
        str(output): {
            str(kind): Limit(_positive(limit["baseline"]), _positive(limit["allowed"])) for kind, limit in kinds.items()
        }
        for output, kinds in document["limits"].items()
    }
    groups = tuple(_group(entry, loaded, limits, taken) for entry in document["groups"])
    if not groups or not limits:
        raise ValueError("the sample is empty")
    return GoldenVectors(str(document["input"]), str(document["reference"]), str(document["baseline"]), groups, limits)


def _group(
    entry: Mapping[str, Any], arrays: Mapping[str, Array], limits: Mapping[str, Mapping[str, Limit]], taken: Range
) -> Group:
    group = Group(
        images=arrays[entry["images"]],
        kinds=tuple(str(kind) for kind in entry["kinds"]),
        batches=tuple(tuple(int(i) for i in batch) for batch in entry["batches"]),
        expected={str(name): arrays[key] for name, key in entry["expected"].items()},
    )
    count = len(group.images)
    whole = (
        group.images.dtype == np.float32
        and len(group.kinds) == count
        and bool(group.batches)
        and all(batch and all(0 <= i < count for i in batch) for batch in group.batches)
        and all(taken.covers((len(batch), *group.images.shape[1:])) for batch in group.batches)
        and group.expected.keys() == limits.keys()
        and all(array.dtype == np.float64 and len(array) == count for array in group.expected.values())
        and all(np.isfinite(array).all() for array in (group.images, *group.expected.values()))
        and all(set(group.kinds) <= kinds.keys() for kinds in limits.values())
    )
    if not whole:
        raise ValueError("its images, results and limits don't fit together")
    return group


def _arrays(content: bytes) -> dict[str, Array]:
    """Raises ValueError where the bytes aren't what `save` wrote."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST_ARRAYS:
                raise ValueError("its arrays are absurdly large")
        with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, MemoryError) as error:
        raise ValueError("its arrays can't be read") from error


def _positive(value: Any) -> float:
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{value} is no limit")
    return number
