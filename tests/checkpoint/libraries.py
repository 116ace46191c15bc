"""Small libraries of our own in the places of timm and torchvision, which are extras."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tests.checkpoint.blog_senet import SEBlock

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)


class Small(nn.Module):
    """A branch that ends in zeros, as libraries begin training."""

    def __init__(self, num_classes: int = 10, in_chans: int = 3, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_chans, width, 3, 2, 1)
        self.block = SEBlock(width, width)
        self.head = nn.Linear(width, num_classes)
        nn.init.zeros_(self.block.bn2.weight)
        self.pretrained_cfg = {"input_size": (3, 32, 32), "mean": MEAN, "std": STD}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(self.stem(x)).mean((2, 3)))


WIDTHS = {"seresnet8": 8, "seresnet20": 16, "tf_seresnet20": 16, "seresnet50": 8, "vit": 4}


def create_model(name: str, pretrained: bool, **arguments: Any) -> nn.Module:
    assert not pretrained, "nothing is downloaded"
    return Small(**{"width": WIDTHS[name], **arguments})


def get_model(name: str, weights: None, **arguments: Any) -> nn.Module:
    assert weights is None, "nothing is downloaded"
    return Small(**arguments)


def weights_of(name: str) -> Any:
    usual = SimpleNamespace(transforms=lambda: SimpleNamespace(crop_size=[48], mean=MEAN, std=STD))
    return SimpleNamespace(DEFAULT=usual) if name == "small" else SimpleNamespace()


def use(patch: pytest.MonkeyPatch) -> None:
    """Let both be imported."""
    models = {"list_models": lambda module: ["small", "plain"], "get_model": get_model, "get_model_weights": weights_of}
    contents: dict[str, dict[str, Any]] = {
        "torchvision": {"models": SimpleNamespace(**models)},
        "timm": {
            "create_model": create_model,
            "is_model": lambda name: name in WIDTHS,
            "list_models": lambda module="": [name for name in WIDTHS if module == "" or "resnet" in name],
            "model_entrypoint": lambda name: create_model,
        },
    }
    for name, content in contents.items():
        library = ModuleType(name)
        vars(library).update(content)
        patch.setitem(sys.modules, name, library)
