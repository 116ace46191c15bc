"""Faults of weights: what an exporter, a rewrite or a conversion does to one layer."""

import numpy as np
import torch

from tests.faults.editing import Edited, Place, bias_of


def scale_weight(edited: Edited, place: Place) -> None:
    edited.replace_tensor(place.weight, edited.tensor(place.weight) * np.float32(1.0001))


def round_weight_to_bfloat16(edited: Edited, place: Place) -> None:
    rounded = torch.from_numpy(edited.tensor(place.weight)).bfloat16().float()
    edited.replace_tensor(place.weight, rounded.numpy())


def round_weight_to_float16(edited: Edited, place: Place) -> None:
    edited.replace_tensor(place.weight, edited.tensor(place.weight).astype(np.float16).astype(np.float32))


def flip_one_sign(edited: Edited, place: Place) -> None:
    weight = edited.tensor(place.weight)
    weight.reshape(-1)[weight.size // 2] *= -1
    edited.replace_tensor(place.weight, weight)


def zero_one_channel(edited: Edited, place: Place) -> None:
    weight = edited.tensor(place.weight)
    weight[3] = 0
    edited.replace_tensor(place.weight, weight)


def swap_two_channels(edited: Edited, place: Place) -> None:
    weight = edited.tensor(place.weight)
    weight[[0, 1]] = weight[[1, 0]]
    edited.replace_tensor(place.weight, weight)


def transpose_kernels(edited: Edited, place: Place) -> None:
    edited.replace_tensor(place.weight, np.ascontiguousarray(edited.tensor(place.weight).swapaxes(2, 3)))


def nan_in_a_weight(edited: Edited, place: Place) -> None:
    weight = edited.tensor(place.weight)
    weight.reshape(-1)[0] = np.nan
    edited.replace_tensor(place.weight, weight)


def infinity_in_a_bias(edited: Edited, place: Place) -> None:
    name = bias_of(edited, place)
    bias = edited.tensor(name)
    bias[0] = np.inf
    edited.replace_tensor(name, bias)


def shift_one_bias(edited: Edited, place: Place) -> None:
    name = bias_of(edited, place)
    bias = edited.tensor(name)
    bias[0] += 1e-3
    edited.replace_tensor(name, bias)


def another_epsilon_in_batch_norm(edited: Edited, place: Place) -> None:
    """1e-3 instead of 1e-5 changes every channel's scale by about half a thousandth of its variance."""
    weight = edited.tensor(place.weight)
    variance = np.square(weight).reshape(len(weight), -1).sum(1) + 0.1
    factor = np.sqrt((variance + 1e-5) / (variance + 1e-3)).astype(np.float32)
    edited.replace_tensor(place.weight, weight * factor.reshape(-1, 1, 1, 1))
