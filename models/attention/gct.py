"""Gated channel transformation.

Yang, Zhu, Wu, Yang: "Gated Channel Transformation for Visual Recognition", CVPR 2020,
https://arxiv.org/abs/1909.11519
"""

import torch
from torch import nn

from attn_export.models.attention.width import positive


class GCT(nn.Module):
    """A channel gate from the l2 norm of each channel, compared with those of the others; three numbers a channel.

    ``x * (1 + tanh(gamma * s / rms(s) + beta))`` with ``s = alpha * norm(x)``. The parameters are called ``alpha``,
    ``gamma`` and ``beta``, (1, C, 1, 1), as in the authors' checkpoints. ``epsilon`` keeps root and division away from
    zero. ``identity`` makes no difference: gamma and beta start at zero in the paper, and ``1 + tanh(0)`` is exactly 1.
    """

    def __init__(self, channels: int, epsilon: float = 1e-5, *, identity: bool = False) -> None:  # noqa: ARG002
        super().__init__()
        shape = (1, positive("channels", channels), 1, 1)
        self.alpha = nn.Parameter(torch.ones(shape))
        self.gamma = nn.Parameter(torch.zeros(shape))
        self.beta = nn.Parameter(torch.zeros(shape))
        self.epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedding = (x.square().sum((2, 3), keepdim=True) + self.epsilon).sqrt() * self.alpha  # (N, C, 1, 1)
        scale = self.gamma / (embedding.square().mean(1, keepdim=True) + self.epsilon).sqrt()
        return x * (1 + torch.tanh(embedding * scale + self.beta))
