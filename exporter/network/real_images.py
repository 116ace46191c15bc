"""Images of the user."""

from pathlib import Path

import numpy as np

from attn_export.exporter.errors import InputError
from attn_export.exporter.network.images import Images


def read_images(path: Path, input_shape: tuple[int, ...]) -> Images:
    """Read an array of inputs.

    Args:
        path: ``.npy``, or ``.npz`` with one array: (N, C, H, W) of any float type, after the network's normalization.
        input_shape: (C, H, W) of the network.

    Returns:
        (N, C, H, W) float32.

    Raises:
        InputError: it can't be read, is of another shape or type, or holds NaN or infinity.
    """
    hint = f"Expected is .npy or .npz with (N, {', '.join(map(str, input_shape))}), normalized as the network takes it."
    try:
        read = np.load(path, allow_pickle=False)
        if isinstance(read, np.lib.npyio.NpzFile):
            with read:
                if len(read.files) != 1:
                    raise InputError(f"{path} holds {len(read.files)} arrays, and one is expected", hint=hint)
                array = read[read.files[0]]
        else:
            array = read
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} can't be read as an array of images: {error}", hint=hint) from error
    if array.dtype.kind != "f":
        raise InputError(f"{path} holds {array.dtype}, and the network takes float32", hint=hint)
    if array.ndim != len(input_shape) + 1 or array.shape[1:] != input_shape or not len(array):
        takes = ", ".join(map(str, input_shape))
        raise InputError(f"{path} holds images of {array.shape}, and the network takes (N, {takes})", hint=hint)
    images = np.asarray(array, np.float32)
    if not np.isfinite(images).all():
        raise InputError(f"{path} holds NaN or infinity", hint="Such an image proves nothing. Leave it out.")
    return images
