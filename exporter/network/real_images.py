"""Images of the user."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from attn_export.exporter.artifacts import Input, Shape
from attn_export.exporter.errors import InputError
from attn_export.exporter.network.values import FLOATS, range_of
from attn_export.exporter.records.arrays import Array, Arrays


def read_images(path: Path, inputs: Sequence[Input]) -> Arrays:
    """Read arrays of inputs.

    Args:
        path: ``.npy``, or ``.npz`` with an array for each input: (N, ...) of any float type, or the input's own, after
            the network's normalization.
        inputs: of the network; a size of 0 takes any.

    Returns:
        (N, ...) of each input, by name.

    Raises:
        InputError: it can't be read, is of another shape or type, or holds NaN or infinity.
    """
    wanted = ", ".join(f"{taken.name} ({_size(taken)})" for taken in inputs)
    hint = f"Expected is .npy or .npz with ({_size(inputs[0])}), normalized as the network takes it."
    if len(inputs) > 1:
        hint = f"Expected is .npz with {wanted}, as the network takes them."
    found = _read(path, inputs, hint)
    arrays = {taken.name: _checked(found[taken.name], taken, path, hint) for taken in inputs}
    if len({len(array) for array in arrays.values()}) > 1:
        raise InputError(f"{path} holds different numbers of each input", hint=hint)
    return arrays


def _size(taken: Input) -> str:
    return ", ".join(map(str, ("N", *(size or "any" for size in taken.shape[1:]))))


def _read(path: Path, inputs: Sequence[Input], hint: str) -> Mapping[str, Array]:
    """The arrays by name; of a file with one array whatever it is called."""
    names = [taken.name for taken in inputs]
    try:
        read = np.load(path, allow_pickle=False)
        if not isinstance(read, np.lib.npyio.NpzFile):
            found = {names[0]: read}
        else:
            with read:
                found = {name: read[name] for name in read.files}
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} can't be read as an array of images: {error}", hint=hint) from error
    if len(names) == len(found) == 1:
        return {names[0]: next(iter(found.values()))}
    if len(found) != len(names):
        expected = "one is" if len(names) == 1 else f"{len(names)} are"
        several = f"{len(found)} arrays" if len(found) != 1 else "one array"
        raise InputError(f"{path} holds {several}, and {expected} expected", hint=hint)
    if set(found) != set(names):
        raise InputError(f"{path} holds {', '.join(found)}, and the network takes {', '.join(names)}", hint=hint)
    return found


def _checked(array: Array, taken: Input, path: Path, hint: str) -> Array:
    """An array in the input's type.

    Raises:
        InputError: it doesn't fit.
    """
    of_float = taken.dtype in FLOATS
    if array.dtype.kind != "f" if of_float else array.dtype.kind not in "biu":
        raise InputError(f"{path} holds {array.dtype}, and the network takes {taken.dtype}", hint=hint)
    if array.ndim != len(taken.shape) or not len(array) or not _fits(array.shape[1:], taken.shape[1:]):
        raise InputError(f"{path} holds images of {array.shape}, and the network takes ({_size(taken)})", hint=hint)
    limits = range_of(taken)
    if limits is not None and not (limits[0] <= array.min() and array.max() <= limits[1]):
        raise InputError(
            f"{path} holds values beyond {limits[0]:g} to {limits[1]:g}, the range of {taken.name}", hint=hint
        )
    converted = np.asarray(array, taken.dtype)
    if not np.isfinite(converted).all():
        raise InputError(f"{path} holds NaN or infinity", hint="Such an image proves nothing. Leave it out.")
    return converted


def _fits(shape: Shape, wanted: Shape) -> bool:
    return all(needed in (0, size) for size, needed in zip(shape, wanted, strict=True))
