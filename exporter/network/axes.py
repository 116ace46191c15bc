"""Names of axes, and which of them are dynamic."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from attn_export.exporter.artifacts import NCHW, NHWC, Axis, Input
from attn_export.exporter.errors import UsageError

BATCH = "batch"
OF_IMAGES = (BATCH, "channels", "height", "width")
CHANNELS_LAST = (BATCH, "height", "width", "channels")


def axis_name(rank: int, index: int, layout: str = NCHW) -> str:
    """What an axis is called: batch, the axes of images by their names, others by their number."""
    if index == 0:
        return BATCH
    names = CHANNELS_LAST if layout == NHWC else OF_IMAGES
    return names[index] if rank == len(OF_IMAGES) else f"axis_{index}"


def opened(inputs: Sequence[Input], dynamic: Collection[str] = (BATCH,), batch: int = 1) -> tuple[Input, ...]:
    """The inputs with their dynamic axes.

    Axes of the same name have the same size, so those that differ in size are called after their inputs. N is the same
    of all: it is dynamic in all inputs or in none.

    ``height`` is dynamic in all inputs that have it, ``image:height`` in one; ``batch`` is N.

    Raises:
        UsageError: no input has such an axis.
    """
    wanted = [_found(inputs, name) for name in dict.fromkeys(dynamic)]
    if any(i == 0 for at in wanted for _, i in at):
        wanted.append(_found(inputs, BATCH))
    indices = [sorted({i for at in wanted for other, i in at if other == place}) for place in range(len(inputs))]
    sizes: dict[str, set[int]] = {}
    for taken, own in zip(inputs, indices, strict=True):
        for i in own:
            sizes.setdefault(axis_name(len(taken.shape), i, taken.layout), set()).add(taken.shape[i])

    def named(taken: Input, i: int) -> Axis:
        name = axis_name(len(taken.shape), i, taken.layout)
        return Axis(name if len(sizes[name]) == 1 else f"{taken.name}_{name}", i)

    return tuple(
        replace(taken.with_batch(batch), axes=tuple(named(taken, i) for i in own))
        for taken, own in zip(inputs, indices, strict=True)
    )


def _found(inputs: Sequence[Input], wanted: str) -> list[tuple[int, int]]:
    """The places of the inputs that have an axis, and its index."""
    of, colon, name = wanted.rpartition(":")
    known = [taken.name for taken in inputs]
    if colon and of not in known:
        raise UsageError(f"--dynamic {wanted}: no input is called {of!r}", hint=f"Known are {', '.join(known)}.")
    found = [
        (place, i)
        for place, taken in enumerate(inputs)
        if not colon or taken.name == of
        for i in range(len(taken.shape))
        if axis_name(len(taken.shape), i, taken.layout) == name and name != OF_IMAGES[1]
    ]
    if any(inputs[place].layout == NHWC and i for place, i in found):
        raise UsageError(
            f"{name} can't be dynamic where the input is pixels of (N, H, W, C)",
            hint="Use --input-image uint8:nchw, or --dynamic batch.",
        )
    if found:
        return found
    if name in OF_IMAGES[2:]:
        raise UsageError(f"{name} can be dynamic in a (C, H, W) input only", hint="Use --dynamic batch.")
    raise UsageError(f"unknown dynamic axis {wanted!r}", hint=f"Known are {', '.join(_known(inputs))}.")


def _known(inputs: Sequence[Input]) -> list[str]:
    names = [axis_name(len(taken.shape), i, taken.layout) for taken in inputs for i in range(len(taken.shape))]
    return [name for name in dict.fromkeys(names) if name != OF_IMAGES[1]]


def _listed(inputs: Sequence[Input]) -> str:
    return ", ".join(taken.name for taken in inputs)
