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
