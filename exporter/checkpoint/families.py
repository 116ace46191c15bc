"""Families that are known by their names and that this project doesn't have: where their code is.

A state dict of one of these is answered with the options that build the network.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Networks of a library.

    Attributes:
        name: in words.
        marks: expressions that each match a tensor's name in every member.
        factory: for ``--factory``, of one member.
        kwargs: for ``--kwargs``.
    """

    name: str
    marks: tuple[str, ...]
    factory: str
    kwargs: str = ""

    @property
    def command(self) -> str:
        """The options that build a member."""
        return f"--factory {self.factory}" + (f" --kwargs '{self.kwargs}'" if self.kwargs else "")


_TIMM = "timm:create_model"

FAMILIES = (
    Family(
        "timm's MobileNet, EfficientNet or GhostNet",
        (r"^conv_stem\.weight$", r"^blocks\.0\.0\."),
        _TIMM,
        '{"model_name": "mobilenetv3_large_100", "num_classes": 10}',
    ),
    Family(
        "timm's ResNet with a deep stem or pooled shortcuts",
        (r"^layer1\.0\.conv1\.weight$", r"^conv1\.0\.weight$|\.downsample\.2\."),
        _TIMM,
        '{"model_name": "seresnet152d", "num_classes": 10}',
    ),
    Family(
        "timm's legacy SENet-154",
        (r"^layer0\.conv3\.weight$", r"^last_linear\."),
        _TIMM,
        '{"model_name": "legacy_senet154", "num_classes": 10}',
    ),
    Family(
        "timm's RegNet",
        (r"^stem\.conv\.weight$", r"^s1\.b1\.conv1\.conv\.weight$"),
        _TIMM,
        '{"model_name": "regnety_032", "num_classes": 10}',
    ),
    Family(
        "timm's vision transformer",
        (r"^patch_embed\.proj\.weight$", r"^blocks\.0\.attn\.qkv\.weight$"),
        _TIMM,
        '{"model_name": "vit_small_patch16_224", "num_classes": 10}',
    ),
    Family(
        "torchvision's EfficientNet",
        (r"^features\.1\.0\.block\.0\.0\.weight$",),
        "torchvision.models:efficientnet_b0",
        '{"num_classes": 10}',
    ),
    Family(
        "torchvision's RegNet",
        (r"^trunk_output\.block1\.",),
        "torchvision.models:regnet_y_400mf",
        '{"num_classes": 10}',
    ),
    Family(
        "torchvision's VGG",
        (r"^features\.0\.weight$", r"^classifier\.6\.weight$"),
        "torchvision.models:vgg16",
        '{"num_classes": 10}',
    ),
    Family(
        "torchvision's DenseNet",
        (r"^features\.denseblock1\.denselayer1\.",),
        "torchvision.models:densenet121",
        '{"num_classes": 10}',
    ),
    Family(
        "torchvision's segmentation network",
        (r"^backbone\.layer1\.0\.|^backbone\.features\.", r"^classifier\.\d\."),
        "torchvision.models.segmentation:fcn_resnet50",
        '{"num_classes": 21}',
    ),
    Family(
        "kuangliu's pre-activated SENet18",
        (r"^layer1\.0\.fc1\.weight$", r"^layer2\.0\.shortcut\.0\.weight$", r"^linear\.weight$"),
        "models:SENet18",
    ),
)


def family_of(names: Iterable[str]) -> Family | None:
    """The family that all marks say, None where none does."""
    names = list(names)
    return next((f for f in FAMILIES if all(any(re.search(mark, n) for n in names) for mark in f.marks)), None)
