import copy
import json
import pickle

import pytest
import torch

from attn_export.models.backbones.resnet import ResNetForm
from attn_export.models.complexity import count_parameters
from attn_export.models.registry import (
    BACKBONES,
    Architecture,
    architecture,
    build,
    create,
    names,
    skeleton,
    split_name,
)


def test_every_backbone_has_three_names_the_plain_one_first():
    assert len(names()) == len(set(names())) == 3 * len(BACKBONES)
    assert names()[:4] == ["resnet18", "se_resnet18", "cbam_resnet18", "resnet34"]


@pytest.mark.parametrize("name", names())
def test_every_name_builds_and_gives_logits_of_its_classes(name):
    arch = architecture(name)
    network = skeleton(arch)
    assert all(t.is_meta for t in network.state_dict().values())
    assert not network.training
    assert network(torch.empty(2, *arch.input_shape, device="meta")).shape == (2, arch.num_classes)


@pytest.mark.parametrize("name", names())
def test_a_name_and_its_architecture_are_one_thing(name):
    arch = architecture(name)
    assert arch.name == name
    assert architecture(arch.backbone, attention=arch.attention) == arch
    assert Architecture.from_dict(arch.to_dict()) == arch
    assert arch.plain.name == arch.backbone


def test_an_architecture_says_what_the_first_version_of_the_file_knows_and_no_more():
    assert set(architecture("se_resnet8").to_dict()) == {
        "backbone", "attention", "num_classes", "in_channels", "reduction", "kernel_size"
    }  # fmt: skip


def test_a_resnet_with_a_form_of_its_own_stands_in_a_file():
    form = ResNetForm("basic", (2, 1), (8, 16), stem=3)
    arch = Architecture("resnet", "cbam", bias=True, spatial_end="norm", divisor=8, form=form)
    assert Architecture.from_dict(json.loads(json.dumps(arch.to_dict()))) == arch
    assert (arch.name, arch.plain.name, arch.input_shape) == ("cbam_resnet", "resnet", (3, 32, 32))
    assert arch.plain == Architecture("resnet", form=form)


@pytest.mark.parametrize("name", ["resnet8", "se_resnet8", "cbam_resnet8", "se_mobilenet_v3_small"])
def test_the_same_seed_gives_the_same_network(name):
    first, second = (create(name, seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(first[n], second[n]) for n in first)


def test_another_seed_gives_another_network():
    first, second = (create("cbam_resnet8", seed=s).state_dict() for s in (3, 4))
    same = [n for n in first if torch.equal(first[n], second[n]) and not n.endswith("num_batches_tracked")]
    assert same == []


def test_the_seed_is_the_only_source_of_chance():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = create("se_resnet8").state_dict()
    assert torch.equal(torch.get_rng_state(), before), "building a network must not move torch's own generator"
    torch.manual_seed(2)
    second = create("se_resnet8").state_dict()
    assert all(torch.equal(first[n], second[n]) for n in first)


def test_what_create_returns_can_be_run_trained_and_copied():
    network = create("se_resnet8")
    assert not network.training
    assert all(p.requires_grad and p.device.type == "cpu" and p.dtype == torch.float32 for p in network.parameters())
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(network)(x), network(x))
        assert torch.equal(pickle.loads(pickle.dumps(network))(x), network(x))


def test_attention_may_stand_beside_the_name():
    first, second = create("se_resnet8").state_dict(), create("resnet8", attention="se").state_dict()
    assert all(torch.equal(first[n], second[n]) for n in first)


def test_attention_may_stand_in_both_places_with_the_same_meaning():
    assert architecture("se_resnet8", attention="se") == architecture("se_resnet8")


@pytest.mark.parametrize("argument", ["cbam", "none"])
def test_name_and_argument_must_not_contradict_each_other(argument):
    with pytest.raises(ValueError, match=f"'se_resnet8' says attention 'se', the argument says '{argument}'"):
        create("se_resnet8", attention=argument)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("resnet5", "resnet50"),
        ("cbam_resnet19", "cbam_resnet18"),
        ("se-resnet50", "se_resnet50"),
        ("SE_ResNet18", "se_resnet18"),
        ("mobilenetv2", "mobilenet_v2"),
        ("mobilenet_v3", "mobilenet_v3_small"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"there is no network called '{wrong}'; did you mean .*{near}"):
        create(wrong)


@pytest.mark.parametrize(
    "wrong", ["", "vit_b_16", "none_resnet18", "se_", "_resnet18", "se_se_resnet18", "se_cbam_resnet18 "]
)
def test_no_other_name_is_accepted(wrong):
    with pytest.raises(ValueError, match="there is no network called"):
        split_name(wrong)


def test_a_name_near_nothing_is_answered_with_the_command_that_lists_them():
    with pytest.raises(ValueError, match="`attn-export models` lists them"):
        create("efficientvit")


@pytest.mark.parametrize("field", ["num_classes", "in_channels", "reduction"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "3", True, 2**24 + 1])
def test_numbers_that_no_network_has_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value!r}; it must be an integer from 1 to 16777216"):
        architecture("cbam_resnet8", **{field: value})


@pytest.mark.parametrize("value", [0, 1, 5, "7", None])
def test_other_kernels_than_3_and_7_are_refused(value):
    with pytest.raises(ValueError, match=r"kernel_size is .*; spatial attention is defined for 3 and 7"):
        architecture("cbam_resnet8", kernel_size=value)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({}, "names no backbone"),
        ({"attention": "se"}, "names no backbone"),
        ({"backbone": "resnet9"}, "no network called 'resnet9'"),
        ({"backbone": "resnet8", "attention": "SE"}, "unknown attention 'SE'; known are none, se, cbam, eca, scse"),
        ({"backbone": "resnet8", "depth": 2}, "unknown architecture fields: depth"),
        ({"backbone": "resnet8", "num_classes": None}, "num_classes is None"),
        ({"backbone": "resnet8", "bias": 1}, "bias is 1"),
        ({"backbone": "resnet8", "spatial_end": "relu"}, "spatial_end 'relu'"),
        ({"backbone": "resnet8", "divisor": 0}, "divisor is 0"),
        ({"backbone": "resnet8", "width": 0.5}, "width is 0.5; .*1.0 for ResNets"),
        ({"backbone": "mobilenet_v2", "width": 0.0}, "width is 0.0"),
        ({"backbone": "mobilenet_v2", "width": 1}, "width is 1"),
        ({"backbone": "mobilenet_v2", "width": float("nan")}, "width is nan"),
        ({"backbone": "resnet"}, "only 'resnet' has one"),
        ({"backbone": "resnet8", "form": {"block": "basic", "depths": [1]}}, "1 depths and 4 widths"),
        ({"backbone": "resnet", "form": {"block": "basic"}}, "is not that of a ResNet"),
        ({"backbone": "resnet", "form": "basic"}, "is not that of a ResNet"),
        ({"backbone": "resnet", "form": {"block": "basic", "depths": [1], "widths": [8], "deep": 1}}, "is not that of"),
    ],
)
def test_an_architecture_that_makes_no_sense_is_refused(values, complaint):
    with pytest.raises(ValueError, match=complaint):
        Architecture.from_dict(values)


def test_arguments_reach_the_network():
    shapes = {
        name: tuple(t.shape)
        for name, t in skeleton(
            architecture("cbam_resnet8", num_classes=7, in_channels=5, reduction=4, kernel_size=3)
        ).state_dict().items()
    }  # fmt: skip
    assert shapes["conv1.weight"] == (16, 5, 3, 3)
    assert shapes["fc.weight"] == (7, 64)
    assert shapes["layer3.0.attention.ChannelGate.fc1.weight"] == (16, 64, 1, 1)
    assert shapes["layer3.0.attention.SpatialGate.conv1.weight"] == (1, 2, 3, 3)


@pytest.mark.parametrize(
    ("name", "reduction"),
    [("se_resnet50", 16), ("cbam_mobilenet_v2", 16), ("se_mobilenet_v3_small", 4), ("cbam_mobilenet_v3_small", 16)],
)
def test_the_reduction_is_the_papers_unless_it_is_given(name, reduction):
    assert architecture(name).reduction == reduction
    assert architecture(name, reduction=2).reduction == 2


def test_networks_for_small_images_have_small_defaults():
    assert architecture("se_resnet20").num_classes == 10
    assert architecture("se_resnet20", in_channels=1).input_shape == (1, 32, 32)
    assert architecture("se_resnet50").input_shape == (3, 224, 224)


@pytest.mark.parametrize("attention", ["se", "cbam"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_attention_always_costs_parameters(backbone, attention):
    arch = architecture(backbone, attention=attention)
    assert count_parameters(skeleton(arch)) > count_parameters(skeleton(arch.plain))


def test_build_gives_torchs_own_initialization():
    torch.manual_seed(0)
    network = build(architecture("resnet8"))
    assert not network.training
    assert torch.equal(network.bn1.weight, torch.ones(16))
    assert torch.equal(network.bn1.running_mean, torch.zeros(16))


@pytest.mark.full
@pytest.mark.parametrize("name", names())
def test_every_network_is_created_with_finite_outputs_of_moderate_size(name):
    arch = architecture(name)
    with torch.no_grad():
        logits = create(name)(torch.randn(2, *arch.input_shape))
    assert logits.isfinite().all()
    assert 1e-3 < logits.std() < 1e3
