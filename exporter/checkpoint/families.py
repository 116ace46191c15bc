"""Families that are known by their names and that this project doesn't have: where their code is.

A state dict of one of these is answered with an option that builds a network of the family.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Networks of a library.

    Attributes:
        marks: expressions that each match a tensor's name in every member.
        member: one of them, such as ``timm:resnest14d``; empty for networks of no library.
        factory: builds a member, for networks of no library.
    """

    name: str
    marks: tuple[str, ...]
    member: str = ""
    factory: str = ""

    @property
    def option(self) -> str:
        """What builds a member."""
        return f"--arch {self.member}" if self.member else f"--factory {self.factory}"


FAMILIES = (
    Family(
        "timm's MobileNet, EfficientNet or GhostNet",
        (r"^conv_stem\.weight$", r"^blocks\.0\.0\."),
        "timm:mobilenetv3_large_100",
    ),
    Family("timm's ResNeSt", (r"^layer1\.0\.conv2\.fc1\.weight$",), "timm:resnest14d"),
    Family("timm's SKNet", (r"^layer1\.0\.conv1\.paths\.0\.",), "timm:skresnet18"),
    Family("timm's Res2Net", (r"^layer1\.0\.convs\.0\.weight$",), "timm:res2net50d"),
    Family("timm's HRNet", (r"^stage2\.0\.branches\.0\.",), "timm:hrnet_w18_small"),
    Family("timm's ReXNet", (r"^stem\.conv\.weight$", r"^features\.0\.conv_dw\.conv\.weight$"), "timm:rexnet_100"),
    Family("timm's NFNet", (r"^stages\.0\.0\.conv1\.gain$",), "timm:eca_nfnet_l0"),
    Family("timm's VoVNet", (r"^stages\.0\.blocks\.0\.conv_concat\.conv\.weight$",), "timm:ese_vovnet19b_slim_dw"),
    Family("timm's RepViT", (r"^stem\.conv1\.c\.weight$", r"\.token_mixer\."), "timm:repvit_m0_9"),
    Family(
        "timm's networks of configurable blocks (byobnet)",
        (r"^stages\.0\.0\.conv(?:\d_\dx\d|\d_kxk|_kxk)\.",),
        "timm:seresnext26ts",
    ),
    Family("timm's CSPNet", (r"^stages\.0\.conv_down\.conv\.weight$",), "timm:cs3sedarknet_l"),
    Family(
        "timm's CoAtNet or MaxViT",
        (r"^stem\.conv1\.weight$", r"^stages\.0\.blocks\.0\..*norm"),
        "timm:coatnet_nano_rw_224",
    ),
    Family("timm's ConvNeXt", (r"^stem\.0\.weight$", r"^stages\.0\.blocks\.0\.conv_dw\.weight$"), "timm:convnext_atto"),
    Family(
        "timm's ResNet with a deep stem or pooled shortcuts",
        (r"^layer1\.0\.conv1\.weight$", r"^conv1\.0\.weight$|\.downsample\.2\."),
        "timm:seresnet152d",
    ),
    Family("timm's legacy SENet-154", (r"^layer0\.conv3\.weight$", r"^last_linear\."), "timm:legacy_senet154"),
    Family("timm's RegNet", (r"^stem\.conv\.weight$", r"^s1\.b1\.conv1\.conv\.weight$"), "timm:regnety_032"),
    Family(
        "timm's vision transformer",
        (r"^patch_embed\.proj\.weight$", r"^blocks\.0\.attn\.qkv\.weight$"),
        "timm:vit_small_patch16_224",
    ),
    Family("torchvision's EfficientNet", (r"^features\.1\.0\.block\.0\.0\.weight$",), "torchvision:efficientnet_b0"),
    Family("torchvision's RegNet", (r"^trunk_output\.block1\.",), "torchvision:regnet_y_400mf"),
    Family("torchvision's VGG", (r"^features\.0\.weight$", r"^classifier\.6\.weight$"), "torchvision:vgg16"),
    Family("torchvision's DenseNet", (r"^features\.denseblock1\.denselayer1\.",), "torchvision:densenet121"),
    Family(
        "torchvision's segmentation network",
        (r"^backbone\.layer1\.0\.|^backbone\.features\.", r"^classifier\.\d\."),
        "torchvision:fcn_resnet50",
    ),
    Family(
        "kuangliu's pre-activated SENet18",
        (r"^layer1\.0\.fc1\.weight$", r"^layer2\.0\.shortcut\.0\.weight$", r"^linear\.weight$"),
        factory="models:SENet18",
    ),
)


def family_of(names: Iterable[str]) -> Family | None:
    """The family that all marks say, None where none does."""
    names = list(names)
    return next((f for f in FAMILIES if all(any(re.search(mark, n) for n in names) for mark in f.marks)), None)
