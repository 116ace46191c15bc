"""Golden inputs and outputs: the images that verify an engine on its device, and the outputs expected for them."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from attn_export.exporter.artifacts import Axis, Signature
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.engine import Profile, Range, Shape
from attn_export.exporter.records.latency import Natural

MAX_ARRAY_BYTES = 2**30  # a few megabytes are usual

Positive = Annotated[float, Meta(gt=0)]
NotEmpty = Meta(min_length=1)


class Limit(Struct, frozen=True, rename={"limit": "allowed"}):
    """The tolerance of an output on one kind of image.

    Attributes:
        baseline: relative baseline error.
        limit: max error ratio, error / baseline.
    """

    baseline: Positive
    limit: Positive


class GoldenGroup(Struct, frozen=True):
    """Golden inputs of one size.

    Attributes:
        shape: (K, C, H, W) of the images.
        kinds: kind of each of the K images.
        batches: image indices of each batch. An image may be in several batches, or repeated within one.
    """

    shape: Annotated[Shape, NotEmpty]
    kinds: tuple[str, ...]
    batches: Annotated[tuple[Annotated[tuple[Natural, ...], NotEmpty], ...], NotEmpty]


class GoldenDescription(Struct, frozen=True):
    """The golden inputs and outputs, without their arrays.

    Attributes:
        input_name: name of the float32 input.
        reference: source of the golden outputs, in words.
        baseline: source of the baseline errors, in words.
        groups: one per image size.
        limits: by output, in the order of the network's outputs, and kind of image.
    """

    input_name: str
    reference: str
    baseline: str
    groups: Annotated[tuple[GoldenGroup, ...], NotEmpty]
    limits: Annotated[dict[str, Annotated[dict[str, Limit], NotEmpty]], NotEmpty]


@dataclass(frozen=True)
class Group:
    """Golden inputs of one size, and their outputs.

    Attributes:
        images: (K, C, H, W) float32.
        kinds: kind of each of the K images.
        batches: image indices of each batch. An image may be in several batches, or repeated within one.
        expected: by output, (K, ...) float64: the outputs of each image alone.
    """

    images: Array
    kinds: tuple[str, ...]
    batches: tuple[tuple[int, ...], ...]
    expected: Mapping[str, Array]


@dataclass(frozen=True)
class GoldenVectors:
    """Golden inputs and outputs with their limits.

    Attributes:
        input_name, reference, baseline, limits: see `GoldenDescription`.
        groups: one per image size.
    """

    input_name: str
    reference: str
    baseline: str
    groups: tuple[Group, ...]
    limits: Mapping[str, Mapping[str, Limit]]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The batch shapes (N, C, H, W), each once."""
        shapes = [(len(batch), *group.images.shape[1:]) for group in self.groups for batch in group.batches]
        return tuple(dict.fromkeys(shapes))

    @property
    def batches(self) -> int:
        """Number of batches."""
        return sum(len(group.batches) for group in self.groups)


def signature_of(golden: GoldenVectors, profile: Profile) -> Signature:
    """Inputs and outputs of the network that the golden outputs belong to."""
    shapes = profile[golden.input_name]
    names = ("batch", "channels", "height", "width") if len(shapes.opt) == 4 else ("batch",)
    axes = tuple(
        Axis(names[i] if i < len(names) else f"axis {i}", i, low)
        for i, (low, high) in enumerate(zip(shapes.min, shapes.max, strict=True))
        if low != high
    )
    return Signature(golden.input_name, shapes.opt, axes, tuple(golden.limits))


def describe(golden: GoldenVectors) -> GoldenDescription:
    """The part of the manifest that describes the golden inputs and outputs."""
    return GoldenDescription(
        golden.input_name,
        golden.reference,
        golden.baseline,
        tuple(GoldenGroup(group.images.shape, group.kinds, group.batches) for group in golden.groups),
        {output: dict(limits) for output, limits in golden.limits.items()},
    )


def save(golden: GoldenVectors, path: Path) -> None:
    """Write the arrays to an ``.npz`` file.

    Raises:
        OSError: the file can't be written.
    """
    arrays: dict[str, Array] = {}
    for g, group in enumerate(golden.groups):
        arrays[f"images_{g}"] = group.images
        arrays |= {f"expected_{g}_{o}": group.expected[output] for o, output in enumerate(golden.limits)}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # numpy 1 has no `allow_pickle` here


def load(described: GoldenDescription, content: bytes, shapes: Range) -> GoldenVectors:
    """Join the description in the manifest with its arrays.

    Args:
        described: from the manifest.
        content: of the file that `save` wrote.
        shapes: that the engine takes.

    Raises:
        ValueError: the arrays can't be read, or don't match the description or the shapes.
    """
    arrays = _load_arrays(content)
    groups = []
    for g, group in enumerate(described.groups):
        try:
            expected = {output: arrays[f"expected_{g}_{o}"] for o, output in enumerate(described.limits)}
            groups.append(Group(arrays[f"images_{g}"], group.kinds, group.batches, expected))
        except KeyError as error:
            raise ValueError(f"the array {error} is missing") from error
        if not _matches(groups[-1], group, described.limits, shapes):
            raise ValueError(f"the arrays of group {g} don't match its shape, kinds, batches and limits")
    return GoldenVectors(described.input_name, described.reference, described.baseline, tuple(groups), described.limits)


def _matches(group: Group, described: GoldenGroup, limits: Mapping[str, Mapping[str, Limit]], shapes: Range) -> bool:
    count = described.shape[0]
    return (
        group.images.shape == described.shape
        and group.images.dtype == np.float32
        and len(group.kinds) == count
        and all(max(batch) < count and shapes.covers((len(batch), *described.shape[1:])) for batch in group.batches)
        and all(array.dtype == np.float64 and array.shape[:1] == (count,) for array in group.expected.values())
        and all(np.isfinite(array).all() for array in (group.images, *group.expected.values()))
        and all(set(group.kinds) <= kinds.keys() for kinds in limits.values())
    )


def _load_arrays(content: bytes) -> dict[str, Array]:
    try:
        _check_size(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
            return {name: np.asarray(loaded[name]) for name in loaded.files}
    except Exception as error:  # zipfile and numpy raise a dozen types for damaged files
        raise ValueError(f"the arrays can't be read ({error})") from error


def _check_size(content: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_ARRAY_BYTES:
            raise ValueError("they are too large")
