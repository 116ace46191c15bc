"""AdaRound: whether each weight is rounded up or down, by gradient descent on a soft choice.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", https://arxiv.org/abs/2004.10568. Here the
error of the layer's output is computed from its second moments, so every step sees all calibration images.
"""

import numpy as np
import onnx_ir as ir
import torch

from attn_export.exporter.precision.int8.ranges import Weights
from attn_export.exporter.precision.int8.rounding import Moments, as_matrix, damped, from_matrix
from attn_export.exporter.records.arrays import Array

STEPS = 1000
RATE = 1e-2
# Of the paper: the stretched sigmoid, and the weight and the exponents of the term that makes choices hard.
LOW, HIGH = -0.1, 1.1
WEIGHT = 0.01
SOFTEST, HARDEST = 20.0, 2.0
WARM_UP = 0.2


def by_adaround(layer: ir.Node, weights: Array, nearest: Weights, found: Moments) -> Weights:
    """Weights rounded up or down, with the scales of `nearest`.

    ``nearest`` are the weights rounded to the nearest integers.
    """
    groups = len(found.inputs)
    power, target = damped(found, as_matrix(layer, weights, groups))
    scales = nearest.scales.astype(np.float64).reshape(groups, -1, 1)
    unit = np.trace(power, axis1=1, axis2=2).reshape(groups, 1, 1) / power.shape[1]
    below = np.floor(as_matrix(layer, weights, groups) / scales)
    rest = torch.tensor(as_matrix(layer, weights, groups) / scales - below, dtype=torch.float32)
    with torch.enable_grad():
        up = _choices(rest, below, torch.tensor(power / unit), torch.tensor(target / scales / unit))
    integers = np.clip(below + up, -127, 127)
    return Weights(from_matrix(layer, integers, weights.shape).astype(np.int8), nearest.scales, nearest.axis)


def _choices(rest: torch.Tensor, below: Array, power: torch.Tensor, target: torch.Tensor) -> Array:
    """1 for each weight that is rounded up, 0 for the others; integers stay, and with them pruned weights."""
    power, target, floor = power.float(), target.float(), torch.tensor(below, dtype=torch.float32)
    variable = torch.logit(((rest - LOW) / (HIGH - LOW)).clamp(1e-3, 1 - 1e-3)).requires_grad_()
    between = rest > 0
    optimizer = torch.optim.Adam([variable], lr=RATE)
    for step in range(STEPS):
        soft = _soft(variable) * between
        integers = (floor + soft).clamp(-127, 127)
        loss = ((integers @ power - 2 * target) * integers).sum()
        done = (step / STEPS - WARM_UP) / (1 - WARM_UP)
        if done > 0:
            exponent = HARDEST + (SOFTEST - HARDEST) * (1 - done)
            loss = loss + WEIGHT * (1 - (2 * soft - 1).abs().pow(exponent)).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.no_grad():
        return ((_soft(variable) >= 0.5) & between).numpy().astype(np.float64)


def _soft(variable: torch.Tensor) -> torch.Tensor:
    return (torch.sigmoid(variable) * (HIGH - LOW) + LOW).clamp(0, 1)
