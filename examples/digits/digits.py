"""Real data that needs no download: the 1797 handwritten digits that come with scikit-learn.

They are the test part of Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", 1998,
https://doi.org/10.24432/C50P49: grey images of 8x8 pixels with 17 levels, written by 13 people.
"""

from dataclasses import dataclass
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from attn_export.exporter.artifacts import Normalization

CLASS_NAMES = tuple("0123456789")
# Twice the original's, so that the last of three stages still sees 4x4. At 32x32, which these networks are made for,
# training took four times as long and was no more accurate: there is nothing more to see in them.
SIZE = 16
HELD_OUT = 450  # a quarter: 43 to 46 of each digit
SPLIT_SEED = 0


@dataclass(frozen=True)
class Digits:
    """Images (N, 1, 16, 16), float32 in 0..1, and their labels (N,), int64."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, normalization: Normalization) -> torch.Tensor:
        """What a network takes: the images, normalized."""
        return (self.images - normalization.mean[0]) / normalization.std[0]


def load() -> tuple[Digits, Digits]:
    """The part to train on and the part held out; always the same split, with the same share of every digit."""
    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=HELD_OUT, stratify=labels, random_state=SPLIT_SEED
    )
    return _digits(train_x, train_y), _digits(test_x, test_y)


def normalization_of(part: Digits) -> Normalization:
    """Mean and standard deviation of all pixels of a part, one channel."""
    return Normalization(mean=(part.images.mean().item(),), std=(part.images.std().item(),))


def _digits(pixels: Any, labels: Any) -> Digits:
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    images = torch.nn.functional.interpolate(images, size=(SIZE, SIZE), mode="bilinear")
    return Digits(images, torch.tensor(labels, dtype=torch.int64))
