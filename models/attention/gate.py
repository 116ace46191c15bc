"""Gates that start open: a block built with ``identity=True`` returns its input bit for bit until it is trained.

Such a gate is ``2 * sigmoid(z)`` and the layer that computes z starts at zero. ``sigmoid(0)`` is exactly 0.5 in every
binary format, so the gate is exactly 1 and ``x * 1`` is x. The gradient of z is half the gradient of the gate, so the
zeroed layer moves at the first step and what lies before it from the second on. Saturating an ordinary sigmoid by a
large bias also gives 1, but no gradient; ``x + alpha * (x * gate - x)`` adds three operations on the whole map at
inference. Here one factor on the gate is added, and graphs still show a map times a sigmoid.
"""

import torch
from torch import nn


class OpenSigmoid(nn.Sigmoid):
    """``2 * sigmoid(z)``, in (0, 2), and exactly 1 at 0; any shape and floating dtype."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        return 2 * super().forward(input)


def gate_activation(*, identity: bool) -> nn.Sigmoid:
    """The sigmoid of a gate; see the module's docstring for ``identity``."""
    return OpenSigmoid() if identity else nn.Sigmoid()


def zero(*layers: nn.Module) -> None:
    """Set every parameter of the layers to zero; of a BatchNorm this makes the output zero, too."""
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
