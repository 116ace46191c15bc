"""The digits as folders of pictures, one for each class: ``class_folders.py FOLDER [--noise 70]``.

For ``--images``, ``--calibration`` and ``--eval``: FOLDER/training and FOLDER/held-out, the split of `digits`.
"""

import argparse
from pathlib import Path

import numpy as np
from digits import HELD_OUT, SPLIT_SEED
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

LEVELS = 16  # the pixels are 0 to 16


def write(folder: Path, noise: float = 0.0) -> None:
    """Write all digits.

    Args:
        folder: gets a folder for each part, with one for each digit.
        noise: standard deviation, in levels of 0 to 255, from a fixed seed.
    """
    pixels, labels = load_digits(return_X_y=True)
    draw = np.random.default_rng(0)
    parts = train_test_split(pixels, labels, test_size=HELD_OUT, stratify=labels, random_state=SPLIT_SEED)
    for part, images, of in (("training", parts[0], parts[2]), ("held-out", parts[1], parts[3])):
        for i, (image, label) in enumerate(zip(images, of, strict=True)):
            place = folder / part / str(label)
            place.mkdir(parents=True, exist_ok=True)
            values = image.reshape(8, 8) * 255 / LEVELS + noise * draw.standard_normal((8, 8))
            Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).save(place / f"{i:04}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--noise", type=float, default=0.0)
    given = parser.parse_args()
    write(given.folder, given.noise)
