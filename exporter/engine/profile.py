"""Optimization profiles: the min, opt and max shapes that an engine takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attn_export.exporter.errors import UsageError
from attn_export.exporter.records.engine import Dim, Profile, Range

# Batches that an engine takes where N is open and nothing else was asked.
DEFAULT_LARGEST_BATCH = 8
NEEDED_RANK = 4


@dataclass(frozen=True)
class Sizes:
    """What was asked for open axes.

    Attributes:
        batch: N, min, opt and max.
        images: (H, W), min, opt and max.
    """

    batch: tuple[int, int, int] | None = None
    images: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None = None


def make_profile(inputs: Mapping[str, tuple[Dim, ...]], sizes: Sizes, opt_batch: int = 1) -> Profile:
    """The ranges for all inputs of a graph.

    Args:
        inputs: name -> dimensions; a name, or None, is an open one.
        sizes: what was asked.
        opt_batch: where N is open and no batch was asked for.

    Raises:
        UsageError: an open axis isn't covered, sizes don't grow, or a fixed axis has another size than was asked.
    """
    batch = sizes.batch or (1, opt_batch, max(opt_batch, DEFAULT_LARGEST_BATCH))
    profile = {name: _range(name, dims, batch, sizes) for name, dims in inputs.items()}
    if sizes.images and not any(len(dims) == NEEDED_RANK for dims in inputs.values()):
        raise UsageError("--size is for images (N, C, H, W), and the graph takes none", hint="Leave --size out.")
    return profile


def _range(name: str, dims: tuple[Dim, ...], batch: tuple[int, int, int], sizes: Sizes) -> Range:
    columns = []
    for axis, dim in enumerate(dims):
        asked: tuple[int, int, int] | None = None
        option = ""
        if axis == 0 and (sizes.batch or not isinstance(dim, int)):
            asked, option = batch, "--batch"
        elif len(dims) == NEEDED_RANK and axis in (2, 3) and sizes.images:
            asked, option = tuple(size[axis - 2] for size in sizes.images), "--size"  # type: ignore[assignment]
        if isinstance(dim, int):
            if asked is not None and set(asked) != {dim}:
                raise UsageError(
                    f"{option} asks for {_spelled(asked)}, and axis {axis} of the input {name!r} is fixed to {dim}",
                    hint=f"Leave {option} out, or export the network with this axis open (--dynamic).",
                )
            columns.append((dim, dim, dim))
        elif asked is None:
            option = "--size 224x224 or --size 192x192,224x224,320x320 (min, opt, max)"
            covers = len(dims) == NEEDED_RANK and axis in (2, 3)
            raise UsageError(
                f"axis {axis} of the input {name!r} is open ({dim or 'without a name'}), and no size is given for it",
                hint=f"Give {option}." if covers else "Export the network with this axis fixed.",
            )
        elif 1 <= asked[0] <= asked[1] <= asked[2]:
            columns.append(asked)
        else:
            raise UsageError(
                f"{option} {','.join(map(str, asked))} is no range for axis {axis} of the input {name!r}",
                hint="Give the min, opt and max size, in this order, each at least 1.",
            )
    low, usual, high = (tuple(column[i] for column in columns) for i in range(3))
    return Range(low, usual, high)


def _spelled(asked: tuple[int, int, int]) -> str:
    return ",".join(str(size) for size in dict.fromkeys(asked))


def add_profile(builder: Any, config: Any, profile: Profile) -> None:
    """Give a builder's config the profile. TensorRT wants one where any axis is open, and takes one everywhere.

    Raises:
        UsageError: TensorRT doesn't accept it.
    """
    made = builder.create_optimization_profile()
    try:
        for name, shapes in profile.items():
            made.set_shape(name, shapes.min, shapes.opt, shapes.max)
        accepted = config.add_optimization_profile(made) >= 0
    except (RuntimeError, ValueError):  # the bindings' own words say less than the shapes do
        accepted = False
    if not accepted:
        raise UsageError(
            "TensorRT doesn't accept the profile "
            + "; ".join(f"{name}: {r.min} to {r.max}, opt {r.opt}" for name, r in profile.items()),
            hint="Each opt size has to lie between min and max.",
        )
