"""Networks that this project doesn't have: their names say whose they are, and the hint builds them."""

import pytest
import torch

from attn_export.exporter.checkpoint.families import FAMILIES, family_of
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.checkpoint.structure import shapes_of
from attn_export.exporter.errors import UnknownArchitectureError
from attn_export.models.registry import architecture, names

# A few names of one member of each.
NAMES = {
    "timm's MobileNet, EfficientNet or GhostNet": ["conv_stem.weight", "bn1.weight", "blocks.0.0.conv_dw.weight"],
    "timm's ResNeSt": ["conv1.0.weight", "layer1.0.conv2.fc1.weight", "fc.weight"],
    "timm's SKNet": ["conv1.weight", "layer1.0.conv1.paths.0.conv.weight", "fc.weight"],
    "timm's Res2Net": ["conv1.0.weight", "layer1.0.convs.0.weight", "fc.weight"],
    "timm's HRNet": ["conv1.weight", "stage2.0.branches.0.0.conv1.weight", "classifier.weight"],
    "timm's ReXNet": ["stem.conv.weight", "features.0.conv_dw.conv.weight", "head.fc.weight"],
    "timm's NFNet": ["stem.conv1.weight", "stages.0.0.conv1.gain", "head.fc.weight"],
    "timm's VoVNet": ["stem.0.conv.weight", "stages.0.blocks.0.conv_concat.conv.weight", "head.fc.weight"],
    "timm's RepViT": ["stem.conv1.c.weight", "stages.0.blocks.0.token_mixer.conv.c.weight", "head.head.l.weight"],
    "timm's networks of configurable blocks (byobnet)": ["stem.conv.weight", "stages.0.0.conv1_1x1.conv.weight"],
    "timm's CSPNet": ["stem.conv1.conv.weight", "stages.0.conv_down.conv.weight", "head.fc.weight"],
    "timm's CoAtNet or MaxViT": ["stem.conv1.weight", "stages.0.blocks.0.conv.pre_norm.weight", "head.fc.weight"],
    "timm's ConvNeXt": ["stem.0.weight", "stages.0.blocks.0.conv_dw.weight", "head.fc.weight"],
    "timm's ResNet with a deep stem or pooled shortcuts": ["conv1.0.weight", "layer1.0.conv1.weight", "fc.weight"],
    "timm's legacy SENet-154": ["layer0.conv1.weight", "layer0.conv3.weight", "last_linear.weight"],
    "timm's RegNet": ["stem.conv.weight", "s1.b1.conv1.conv.weight", "s1.b1.se.fc1.weight"],
    "timm's vision transformer": ["cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"],
    "torchvision's EfficientNet": ["features.0.0.weight", "features.1.0.block.0.0.weight", "classifier.1.weight"],
    "torchvision's RegNet": ["stem.0.weight", "trunk_output.block1.block1-0.proj.0.weight", "fc.weight"],
    "torchvision's VGG": ["features.0.weight", "features.2.weight", "classifier.6.weight"],
    "torchvision's DenseNet": ["features.conv0.weight", "features.denseblock1.denselayer1.conv1.weight"],
    "torchvision's segmentation network": ["backbone.layer1.0.conv1.weight", "classifier.0.weight"],
    "kuangliu's pre-activated SENet18": [
        "layer1.0.fc1.weight", "layer2.0.shortcut.0.weight", "linear.weight",
    ],
}  # fmt: skip


def test_every_family_has_an_example():
    assert list(NAMES) == [family.name for family in FAMILIES]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_hint_says_whose_the_names_are_and_what_builds_the_network(write, family):
    with pytest.raises(UnknownArchitectureError) as caught:
        load(write({name: torch.ones(3, 2, 1, 1) for name in NAMES[family.name]}))
    assert f"The names are those of {family.name}." in caught.value.hint
    assert family.option in caught.value.hint


@pytest.mark.parametrize("name", names()[::2])
def test_no_network_of_the_zoo_is_taken_for_a_stranger(name):
    assert family_of(shapes_of(architecture(name))) is None


def test_the_names_are_known_beside_a_loss_and_in_a_backbone(write):
    names_of_a_regnet = NAMES["timm's RegNet"]
    weights = {f"backbone.{name}": torch.ones(2, 2) for name in names_of_a_regnet} | {"criterion.weight": torch.ones(3)}
    with pytest.raises(UnknownArchitectureError) as caught:
        load(write({"state_dict": weights}))
    assert caught.value.hint.startswith("The names are those of timm's RegNet.")
