"""A gate without parameters.

Yang, Zhang, Li, Xie: "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks", ICML 2021,
https://proceedings.mlr.press/v139/yang21o.html
"""

import torch
from torch import nn

from attn_export.models.attention.width import positive


class SimAM(nn.Module):
    """A gate for each number: the further it is from its channel's mean, in units of the variance, the more it counts.

    ``x * sigmoid((x - mean)^2 / (4 * (variance + e_lambda)) + 1 / 2)``, equations 4 to 6 of the paper, where the
    variance is that of all places. A block without parameters can't be trained away from the identity, so this form has
    one factor for each channel before the sigmoid, ``slope``, which starts at zero, and doubles the gate.
    """

    def __init__(self, channels: int, e_lambda: float = 1e-4, *, identity: bool = False) -> None:
        super().__init__()
        positive("channels", channels)
        self.e_lambda = e_lambda
        self.slope = nn.Parameter(torch.zeros(1, channels, 1, 1)) if identity else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        deviation = (x - x.mean((2, 3), keepdim=True)).square()
        variance = deviation.mean((2, 3), keepdim=True)
        energy = deviation / (4 * (variance + self.e_lambda)) + 0.5
        # No nn.Sigmoid: there is no layer before it whose scale could be calibrated.
        if self.slope is None:
            return x * energy.sigmoid()
        return x * (2 * (self.slope * energy).sigmoid())
