"""Golden inputs and outputs: the images that verify an engine on its device, and the outputs expected for them."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct, convert

from attn_export.exporter.artifacts import Axis, Input, Shape, Shapes, Signature
from attn_export.exporter.network.axes import axis_name
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.records.engine import Profile, Range, covers
from attn_export.exporter.records.latency import Natural

MAX_ARRAY_BYTES = 2**30  # a few megabytes are usual

Positive = Annotated[float, Meta(gt=0)]
NotEmpty = Meta(min_length=1)


class Limit(Struct, frozen=True, rename={"limit": "allowed"}):
    """The tolerance of an output on one kind of image. ``limit``: max error ratio, error / baseline."""

    baseline: Positive
    limit: Positive


class GoldenGroup(Struct, frozen=True):
    """Golden inputs of one size, (K, ...); a batch lists its images by index, which may repeat."""

    shapes: Annotated[dict[str, Annotated[Shape, NotEmpty]], NotEmpty]
    kinds: tuple[str, ...]
    batches: Annotated[tuple[Annotated[tuple[Natural, ...], NotEmpty], ...], NotEmpty]


class GoldenDescription(Struct, frozen=True):
    """The golden inputs and outputs without their arrays; limits by output, in the network's order, and kind."""

    inputs: Annotated[dict[str, str], NotEmpty]
    reference: str
    baseline: str
    groups: Annotated[tuple[GoldenGroup, ...], NotEmpty]
    limits: Annotated[dict[str, Annotated[dict[str, Limit], NotEmpty]], NotEmpty]


@dataclass(frozen=True)
class Group:
    """Golden inputs of one size, (K, ...), and float64 outputs of each image alone; see `GoldenGroup`."""

    arrays: Arrays
    kinds: tuple[str, ...]
    batches: tuple[tuple[int, ...], ...]
    expected: Mapping[str, Array]

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of each input."""
        return {name: array.shape for name, array in self.arrays.items()}


@dataclass(frozen=True)
class GoldenVectors:
    """Golden inputs and outputs with their limits; see `GoldenDescription`."""

    inputs: Mapping[str, str]
    reference: str
    baseline: str
    groups: tuple[Group, ...]
    limits: Mapping[str, Mapping[str, Limit]]

    @property
    def shapes(self) -> tuple[Shapes, ...]:
        """The shapes of all inputs of each batch, each once."""
        batches = ((len(batch), group.shapes.values()) for group in self.groups for batch in group.batches)
        return tuple(dict.fromkeys(tuple((n, *shape[1:]) for shape in shapes) for n, shapes in batches))

    @property
    def batches(self) -> int:
        """Number of batches."""
        return sum(len(group.batches) for group in self.groups)


def signature_of(golden: GoldenVectors, profile: Profile) -> Signature:
    """Inputs and outputs of the network that the golden outputs belong to."""
    inputs = tuple(_input(name, dtype, profile[name]) for name, dtype in golden.inputs.items())
    return Signature(inputs, tuple(golden.limits))


def _input(name: str, dtype: str, shapes: Range) -> Input:
    axes = tuple(
        Axis(axis_name(len(shapes.opt), i), i, low)
        for i, (low, high) in enumerate(zip(shapes.min, shapes.max, strict=True))
        if low != high
    )
    return Input(name, shapes.opt, dtype, axes)


def describe(golden: GoldenVectors) -> GoldenDescription:
    """The part of the manifest that describes the golden inputs and outputs."""
    return convert(golden, GoldenDescription, from_attributes=True)


def save(golden: GoldenVectors, path: Path) -> None:
    """Write the arrays to an ``.npz`` file. Raises OSError: the file can't be written."""
    arrays: dict[str, Array] = {}
    for g, group in enumerate(golden.groups):
        arrays |= {f"input_{g}_{i}": array for i, array in enumerate(group.arrays.values())}
        arrays |= {f"expected_{g}_{o}": group.expected[output] for o, output in enumerate(golden.limits)}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # numpy 1 has no `allow_pickle` here


def load(described: GoldenDescription, content: bytes, profile: Profile) -> GoldenVectors:
    """Join the description in the manifest with its arrays.

    ``content`` is that of the file that `save` wrote.

    Raises:
        ValueError: the arrays can't be read, or don't match the description or the profile.
    """
    arrays = _load_arrays(content)
    groups = []
    for g, group in enumerate(described.groups):
        try:
            expected = {output: arrays[f"expected_{g}_{o}"] for o, output in enumerate(described.limits)}
            inputs = {name: arrays[f"input_{g}_{i}"] for i, name in enumerate(described.inputs)}
            groups.append(Group(inputs, group.kinds, group.batches, expected))
        except KeyError as error:
            raise ValueError(f"the array {error} is missing") from error
        if not _matches(groups[-1], group, described, profile):
            raise ValueError(f"the arrays of group {g} don't match its shape, kinds, batches and limits")
    return GoldenVectors(described.inputs, described.reference, described.baseline, tuple(groups), described.limits)


def _matches(group: Group, shown: GoldenGroup, described: GoldenDescription, profile: Profile) -> bool:
    count, limits = len(shown.kinds), described.limits
    return (
        group.shapes == shown.shapes
        and all(array.dtype == described.inputs[name] for name, array in group.arrays.items())
        and all(shape[0] == count for shape in shown.shapes.values())
        and all(max(batch) < count for batch in group.batches)
        and all(_covered(profile, shown.shapes, len(batch)) for batch in group.batches)
        and all(array.dtype == np.float64 and array.shape[:1] == (count,) for array in group.expected.values())
        and all(np.isfinite(array).all() for array in (*group.arrays.values(), *group.expected.values()))
        and all(set(group.kinds) <= kinds.keys() for kinds in limits.values())
    )


def _covered(profile: Profile, shapes: Mapping[str, Shape], batch: int) -> bool:
    return covers(profile, tuple(shapes), [(batch, *shape[1:]) for shape in shapes.values()])


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
