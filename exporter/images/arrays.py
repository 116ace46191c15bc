"""Arrays of inputs in ``.npy`` and ``.npz``."""

import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from attn_export.exporter.artifacts import Input, Shape
from attn_export.exporter.errors import InputError
from attn_export.exporter.network.values import FLOATS, range_of
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.system.files import size_of
from attn_export.exporter.system.machine import memory

ENDINGS = (".npy", ".npz")
UNFOLDED, RATIO = 2**28, 100  # in float32, and compared, it is four times as much


def read_arrays(path: Path, inputs: Sequence[Input]) -> Arrays:
    """Read ``.npy``, or ``.npz`` with an array for each input: (N, ...) of any float type, or the input's own, by name.

    They are normalized as the network takes them; of ``inputs`` a size of 0 takes any.

    Raises:
        InputError: it can't be read, is of another shape or type, or holds NaN or infinity.
    """
    return checked(load(path, inputs), inputs, str(path))


def load(path: Path, inputs: Sequence[Input]) -> Mapping[str, Array]:
    """All arrays of a file by name; the only one of ``.npy`` has the first input's.

    Raises:
        InputError: it can't be read.
    """
    if not path.is_file():
        raise InputError(f"{path} can't be read: there is no such file", hint=hint_for(inputs))
    try:
        _refuse_bombs(path)
        read = np.load(path, allow_pickle=False)
        if not isinstance(read, np.lib.npyio.NpzFile):
            return {inputs[0].name: read}
        with read:
            found = {name: read[name] for name in read.files}
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path} can't be read as an array of images: {error}", hint=hint_for(inputs)) from error
    if strange := [name for name, array in found.items() if not isinstance(array, np.ndarray)]:
        raise InputError(f"{path} holds {strange[0]}, which is no array", hint=hint_for(inputs))
    return found


def _refuse_bombs(path: Path) -> None:
    """Refuse what is larger than the memory, and an archive that unfolds to more than pixels ever do."""
    size = size_of(path)  # a pipe or a device may never end
    most, limit = memory().available or math.inf, "free memory"
    if zipfile.is_zipfile(path):
        most, limit = min((most, limit), (UNFOLDED + RATIO * size, f"{RATIO} times the size of the file"))
        with zipfile.ZipFile(path) as members:
            size = sum(member.file_size for member in members.infolist())
    if size > most:
        raise InputError(
            f"{path} holds {size / 1e9:.1f} GB, and the limit is {most / 1e9:.1f} GB: {limit}",
            hint="Split it, or give fewer images.",
        )


def checked(found: Mapping[str, Array], inputs: Sequence[Input], origin: str) -> Arrays:
    """The arrays of a file or a caller as inputs; a single one may have any name. Raises InputError: they don't fit."""
    hint = hint_for(inputs)
    arrays = {
        taken.name: _checked(array, taken, origin, hint) for taken, array in _matched(found, inputs, origin, hint)
    }
    if len({len(array) for array in arrays.values()}) > 1:
        raise InputError(f"{origin} holds different numbers of each input", hint=hint)
    return arrays


def hint_for(inputs: Sequence[Input]) -> str:
    """What was expected."""
    if len(inputs) > 1:
        wanted = ", ".join(f"{taken.name} ({_size(taken)})" for taken in inputs)
        return f"Expected is .npz with {wanted}, as the network takes them."
    values = "pixels of 0 to 255" if inputs[0].dtype == "uint8" else "normalized as the network takes it"
    return f"Expected is .npy or .npz with ({_size(inputs[0])}), {values}."


def _size(taken: Input) -> str:
    return ", ".join(map(str, ("N", *(size or "any" for size in taken.shape[1:]))))


def _matched(
    found: Mapping[str, Array], inputs: Sequence[Input], origin: str, hint: str
) -> Sequence[tuple[Input, Array]]:
    """Each input with its array."""
    names = [taken.name for taken in inputs]
    if len(names) == len(found) == 1:
        return [(inputs[0], next(iter(found.values())))]
    if len(found) != len(names):
        expected = "one is" if len(names) == 1 else f"{len(names)} are"
        several = f"{len(found)} arrays" if len(found) != 1 else "one array"
        raise InputError(f"{origin} holds {several}, and {expected} expected", hint=hint)
    if set(found) != set(names):
        raise InputError(f"{origin} holds {', '.join(found)}, and the network takes {', '.join(names)}", hint=hint)
    return [(taken, found[taken.name]) for taken in inputs]


def _checked(array: Array, taken: Input, origin: str, hint: str) -> Array:
    """An array in the input's type."""
    of_float = taken.dtype in FLOATS
    if array.dtype.kind != "f" if of_float else array.dtype.kind not in "biu":
        raise InputError(f"{origin} holds {array.dtype}, and the network takes {taken.dtype}", hint=hint)
    if array.ndim != len(taken.shape) or not len(array) or not _fits(array.shape[1:], taken.shape[1:]):
        raise InputError(f"{origin} holds images of {array.shape}, and the network takes ({_size(taken)})", hint=hint)
    limits = range_of(taken)
    if limits is not None and not (limits[0] <= array.min() and array.max() <= limits[1]):
        raise InputError(
            f"{origin} holds values beyond {limits[0]:g} to {limits[1]:g}, the range of {taken.name}", hint=hint
        )
    converted = np.asarray(array, taken.dtype)
    if not np.isfinite(converted).all():
        raise InputError(f"{origin} holds NaN or infinity", hint="Such an image proves nothing. Leave it out.")
    return converted


def _fits(shape: Shape, wanted: Shape) -> bool:
    return all(needed in (0, size) for size, needed in zip(shape, wanted, strict=True))
