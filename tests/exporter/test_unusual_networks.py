"""Networks that can't be exported as they are: each error says what to change."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from attn_export.exporter.errors import CaptureError
from attn_export.exporter.network.run import run

IMAGES = {"x": np.ones((2, 3, 8, 8), np.float32)}


class Unusual(nn.Module):
    def __init__(self, function: Callable[[nn.Module, torch.Tensor], Any]) -> None:
        super().__init__()
        self.function, self.conv = function, nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self.conv, x)


def in_bfloat16(conv: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return (x * torch.sigmoid(conv(x))).float()


def branching(conv: nn.Module, x: torch.Tensor) -> Any:
    return torch.cond(x.sum() > 0, lambda y: y.sin(), lambda y: y.cos(), (conv(x),))


@pytest.mark.parametrize(
    ("function", "says", "hint"),
    [
        (in_bfloat16, "bfloat16", "torch.autocast"),
        (branching, "can't run", "torch.where"),
        (lambda conv, x: conv(x).sum().item(), "returns no tensor: float", "Return the tensors"),
        (lambda conv, x: None, "returns no tensor: NoneType", "Return the tensors"),
        (lambda conv, x: conv(x.image), "can't run", "a module whose forward takes tensors"),
        (lambda conv, x: conv(x).flatten(2).permute(2, 0, 1), "first axis must be the batch", "transpose"),
    ],
    ids=["autocast", "cond", "float", "nothing", "dictionary", "sequence first"],
)
def test_the_error_says_what_to_change(function: Callable[..., Any], says: str, hint: str) -> None:
    with pytest.raises(CaptureError, match=says) as caught, torch.no_grad():
        run(Unusual(function), IMAGES)
    assert hint in caught.value.hint
