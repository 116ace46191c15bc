"""Optimization profiles: the min, opt and max shapes that an engine takes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from attn_export.exporter.artifacts import Dim
from attn_export.exporter.errors import UsageError
from attn_export.exporter.records.engine import Profile, Range

# For a dynamic N without --profile-batch.
DEFAULT_MAX_BATCH = 8
IMAGE_RANK = 4


@dataclass(frozen=True)
class Sizes:
    """The requested sizes of dynamic axes.

    Attributes:
        batch: N, min, opt and max.
        images: (H, W), min, opt and max.
        named: of other axes, by the name of the dimension, min, opt and max.
    """

    batch: tuple[int, int, int] | None = None
    images: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None = None
    named: tuple[tuple[str, tuple[int, int, int]], ...] = ()


def make_profile(inputs: Mapping[str, tuple[Dim, ...]], sizes: Sizes, opt_batch: int = 1) -> Profile:
    """The ranges for all inputs of a graph.

    A dimension that is a string or None is dynamic; ``opt_batch`` is the opt size of N where none is requested.

    Raises:
        UsageError: a dynamic axis has no size, sizes aren't ascending, or a static axis has another size.
    """
    batch = sizes.batch or (1, opt_batch, max(opt_batch, DEFAULT_MAX_BATCH))
    known = {dim for dims in inputs.values() for dim in dims if isinstance(dim, str)}
    if strange := [name for name, _ in sizes.named if name not in known]:
        raise UsageError(
            f"--size {strange[0]}: no dynamic axis is called so",
            hint=f"Known are {', '.join(sorted(known)) or 'none'}.",
        )
    profile = {name: _range(name, dims, batch, _for(dims, sizes, inputs)) for name, dims in inputs.items()}
    if sizes.images and not any(len(dims) == IMAGE_RANK for dims in inputs.values()):
        raise UsageError("--size is for images (N, C, H, W), but the graph has no such input", hint="Leave --size out.")
    return profile


def _for(dims: tuple[Dim, ...], sizes: Sizes, inputs: Mapping[str, tuple[Dim, ...]]) -> Sizes:
    """The sizes for an input; those of images aren't for one of a static size beside others."""
    return replace(sizes, images=None) if not _is_open(dims) and any(map(_is_open, inputs.values())) else sizes


def _is_open(dims: tuple[Dim, ...]) -> bool:
    return len(dims) == IMAGE_RANK and not all(isinstance(dim, int) for dim in dims[2:])


def _range(name: str, dims: tuple[Dim, ...], batch: tuple[int, int, int], sizes: Sizes) -> Range:
    columns = []
    for axis, dim in enumerate(dims):
        size: tuple[int, int, int] | None = None
        option = ""
        if axis == 0 and (sizes.batch or not isinstance(dim, int)):
            size, option = batch, "--profile-batch"
        elif dim in dict(sizes.named):
            size, option = dict(sizes.named)[str(dim)], f"--size {dim}"
        elif len(dims) == IMAGE_RANK and axis in (2, 3) and sizes.images:
            size, option = tuple(image[axis - 2] for image in sizes.images), "--size"  # type: ignore[assignment]
        if isinstance(dim, int):
            if size is not None and set(size) != {dim}:
                asked = ",".join(str(one) for one in dict.fromkeys(size))
                raise UsageError(
                    f"{option} asks for {asked}, but axis {axis} of the input {name!r} is static ({dim})",
                    hint=f"Leave {option} out, or export the network with this axis dynamic (--dynamic).",
                )
            columns.append((dim, dim, dim))
        elif size is None:
            named = f"Give --size {dim}=8,16,32 (min, opt, max), or export" if dim else "Export"
            hint = f"{named} the network with this axis static."
            if len(dims) == IMAGE_RANK and axis in (2, 3):
                hint = "Give --size 224x224 or --size 192x192,224x224,320x320 (min, opt, max)."
            raise UsageError(
                f"axis {axis} of the input {name!r} is dynamic ({dim or 'unnamed'}), and no size is given for it",
                hint=hint,
            )
        elif 1 <= size[0] <= size[1] <= size[2]:
            columns.append(size)
        else:
            raise UsageError(
                f"{option} {','.join(map(str, size))} is not a range for axis {axis} of the input {name!r}",
                hint="Give the min, opt and max size, in this order, each at least 1.",
            )
    return Range(*(tuple(column[i] for column in columns) for i in range(3)))


def add_profile(builder: Any, config: Any, profile: Profile) -> None:
    """Add the profile to a builder's config. TensorRT requires one for dynamic axes and accepts one for static shapes.

    Raises:
        UsageError: TensorRT rejects it.
    """
    optimization = builder.create_optimization_profile()
    try:
        for name, shapes in profile.items():
            optimization.set_shape(name, shapes.min, shapes.opt, shapes.max)
        accepted = config.add_optimization_profile(optimization) >= 0
    except (RuntimeError, ValueError):  # their messages say less than the shapes
        accepted = False
    if not accepted:
        raise UsageError(
            "TensorRT rejects the profile "
            + "; ".join(f"{name}: {r.min} to {r.max}, opt {r.opt}" for name, r in profile.items()),
            hint="Each opt size must lie between min and max.",
        )
