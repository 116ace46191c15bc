"""State dicts under the names of public repositories: read without their code, with the same outputs."""

from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import nn

from attn_export.exporter.checkpoint import structure, translate
from attn_export.exporter.checkpoint.container import Payload
from attn_export.exporter.checkpoint.dialects import LAYOUTS, OWN, SPELLINGS
from attn_export.exporter.checkpoint.fit import check, readings
from attn_export.exporter.checkpoint.fit import named as named_reading
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.checkpoint.zoo import described
from attn_export.exporter.errors import StateDictMismatchError, UnknownArchitectureError
from attn_export.models.backbones.mobilenet_v2 import MobileNetV2
from attn_export.models.registry import ATTENTIONS, architecture, names
from tests.checkpoint import other_networks as e

SE, CBAM = e.SEConvolution, e.AuthorsCBAM
# Spelling, block, the word before its names, fields of the architecture that follow from it.
BLOCKS = [
    ("fc.0, fc.2", e.SELinear, "se", {}),
    ("fc.0, fc.2", e.SELinear, "se_layer", {}),
    ("fc1, fc2", SE, "se", {"bias": True}),
    ("fc1, fc2", SE, "se_module", {"bias": True}),
    ("fc1, fc2", partial(SE, r=16, divisor=8), "se", {"bias": True, "reduction": 16, "divisor": 8}),
    ("fc1, fc2 in the block itself", SE, "", {"bias": True}),
    ("excitation.0, excitation.2", e.SEExcitation, "", {"bias": True}),
    ("conv_reduce, conv_expand", partial(SE, names=("conv_reduce", "conv_expand")), "se", {"bias": True}),
    ("conv1, conv2", partial(SE, names=("conv1", "conv2")), "se", {"bias": True}),
    ("ChannelGate.fc1, SpatialGate.conv1", e.SeedCBAM, "cbam", {}),
    ("ChannelGate.mlp, SpatialGate.spatial", CBAM, "cbam", {"bias": True, "spatial_end": "norm"}),
    ("ca, sa", e.CaSa, "", {}),
    ("ca, sa", e.CaSa, "cbam", {}),
    (
        "channel_attention.bottleneck, spatial_attention.conv",
        e.BottleneckCBAM,
        "cbam",
        {"bias": True, "spatial_end": "bias", "kernel_size": 3},
    ),
    ("channel_attention, spatial_attention", e.TutorialCBAM, "cbam", {}),
    ("channel_attention, spatial_attention", e.SharedCBAM, "CBAM", {"kernel_size": 3, "spatial_end": "bias"}),
    ("ch_gate.mlp, sp_gate.conv", e.PytorchcvCBAM, "cbam", {"bias": True, "spatial_end": "norm"}),
    ("two numbered layers", e.SESequential, "se", {"bias": True}),
    ("conv", e.ECA, "se", {}),
    ("conv", e.ECA, "eca", {}),
    ("channel.fc1, spatial.conv", e.TimmCBAM, "se", {"spatial_end": "norm"}),
]


def with_head(name, kind):
    """An SE-ResNet whose classifier has another name, or stands behind a Dropout."""
    word, _, index = name.partition(".")
    network = e.ResNet(kind, SE, head=word)
    if index:
        setattr(network, word, nn.Sequential(nn.Dropout(), getattr(network, word)))
    return network


# Layout, network, what its form says besides depths and widths.
NETWORKS: list[tuple[str, Any, tuple[str, ...], dict[str, Any]]] = [
    (
        "kuangliu/pytorch-cifar",
        partial(e.ResNet, stem=3, head="linear", shortcut="shortcut", attention=SE, word=""),
        ("basic", "bottleneck"),
        {"stem": 3},
    ),
    (
        "kuangliu/pytorch-cifar",
        partial(e.ResNet, stem=3, head="linear", shortcut="shortcut"),
        ("basic", "bottleneck"),
        {"stem": 3},
    ),
    ("kuangliu/pytorch-cifar", partial(e.ResNet, shortcut="shortcut", attention=SE), ("basic",), {"stem": 7}),
    *(
        ("torchvision with another classifier", partial(with_head, head), ("basic",), {})
        for head in ("classifier", "last_linear", "fc.1", "head.1")
    ),
    (
        "Cadene's and timm's legacy SE-ResNet",
        partial(e.Cadene, stride_first=True),
        ("bottleneck",),
        {"stride_in": "1x1", "stem_pool": "ceil"},
    ),
    (
        "Cadene's and timm's legacy SE-ResNeXt",
        partial(e.Cadene, groups=4),
        ("bottleneck",),
        {"groups": 4, "base_width": 16, "stem_pool": "ceil"},
    ),
    (
        "timm's legacy SE-ResNet of basic blocks",
        partial(e.Cadene, relu=True),
        ("basic",),
        {"stem_pool": "ceil", "branch_relu": True},
    ),
    ("pytorchcv", partial(e.Pytorchcv, attention=partial(SE, names=("conv1", "conv2")), word="se"), ("basic",), {}),
    ("pytorchcv", partial(e.Pytorchcv, attention=e.PytorchcvCBAM, word="cbam"), ("basic", "bottleneck"), {}),
    ("weiaicunzai/pytorch-cifar100", partial(e.Weiaicunzai, senet=False), ("basic", "bottleneck"), {"stem": 3}),
    (
        "weiaicunzai/pytorch-cifar100, SENet",
        partial(e.Weiaicunzai, senet=True),
        ("basic", "bottleneck"),
        {"stem": 3, "branch_relu": True},
    ),
]


def spelling_of(name):
    return next(row for row in SPELLINGS if row.name == name)


def same_outputs(model, theirs, size=32) -> bool:
    """In float64, of weights that are the same up to a rounding of float32."""
    x = torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours, reference = model.module.double()(x), theirs.double()(x)
    return torch.allclose(ours, reference, rtol=1e-5, atol=1e-5 * float(reference.abs().max()))


def named(network, old, new):
    """A state dict with another word in its names."""
    return {name.replace(old, new): tensor for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "block", "word", "says", "kind"),
    [(*row, "basic") for row in BLOCKS] + [(*row, "bottleneck") for row in BLOCKS if row[1] in (SE, CBAM)],
)
def test_every_spelling_of_attention_gives_the_same_outputs(write, name, block, word, says, kind):
    theirs = e.drawn(e.ResNet(kind, block, word, width=64 if "divisor" in says and kind == "basic" else 16))
    (reading,) = readings(theirs.state_dict())
    model = load(write(theirs.state_dict()))
    spelling = spelling_of(name)
    assert reading.spelling == spelling
    reduction = {} if spelling_of(name).attention == "eca" else {"reduction": 4}
    assert {**reduction, **says}.items() <= model.architecture.to_dict().items()
    assert model.architecture.attention == spelling.attention
    assert model.architecture.form.depths == (1, 2, 1)
    assert any(note.startswith("assumed: ") and spelling.source in note for note in model.notes)
    assert same_outputs(model, theirs)


@pytest.mark.parametrize(
    ("name", "network", "kind", "form"), [(n, net, kind, form) for n, net, kinds, form in NETWORKS for kind in kinds]
)
def test_every_layout_gives_the_same_outputs(write, name, network, kind, form):
    theirs = e.drawn(network(kind))
    layout = next(row for row in LAYOUTS if row.name == name)
    model = load(write(theirs.state_dict()))
    found = model.architecture.to_dict()["form"]
    assert {"block": kind, **form}.items() <= found.items()
    assert any(layout.source in note and layout.assumed in note and "--factory" in note for note in model.notes)
    # An odd size, so that pools that round up or down differ.
    assert same_outputs(model, theirs, size=45)


@pytest.mark.parametrize(("block", "word"), [row[1:3] for row in BLOCKS if spelling_of(row[0]).attention == "cbam"])
def test_the_order_of_the_spatial_maps_matters(write, monkeypatch, block, word):
    """So the comparisons above would see a wrong row."""
    wrong = [replace(row, maximum_first=not row.maximum_first) for row in SPELLINGS]
    monkeypatch.setattr(translate, "SPELLINGS", wrong)
    theirs = e.drawn(e.ResNet("basic", block, word))
    assert not same_outputs(load(write(theirs.state_dict())), theirs)


@pytest.mark.parametrize(
    ("network", "kind", "field"),
    [
        (net, kinds[-1], f)
        for _, net, kinds, form in NETWORKS
        for f in ("stride_in", "stem_pool", "branch_relu")
        if f in form
    ],
)
def test_what_a_layout_implies_matters(write, monkeypatch, network, kind, field):
    wrong = [replace(row, form={k: v for k, v in row.form.items() if k != field}) for row in LAYOUTS]
    monkeypatch.setattr(translate, "LAYOUTS", wrong)
    theirs = e.drawn(network(kind))
    assert not same_outputs(load(write(theirs.state_dict())), theirs, size=45)


def test_every_row_is_in_the_documentation():
    page = Path(__file__).parents[2].joinpath("docs", "checkpoints.md").read_text(encoding="utf-8")
    for row in (*LAYOUTS, *SPELLINGS):
        assert row.source in page, row.name
    assert all(row.assumed in page for row in LAYOUTS)


def test_every_row_of_the_table_is_proved_here():
    pairs = {"pytorchcv, resnet50 without b"}  # one of two that can't be told apart, see below
    assert {row.name for row in SPELLINGS} == {name for name, *_ in BLOCKS}
    assert {row.name for row in LAYOUTS} - pairs == {name for name, *_ in NETWORKS}


@pytest.mark.parametrize(("block", "word"), [(e.SELinear, "se"), (SE, "se_module"), (CBAM, "cbam"), (e.CaSa, "cbam")])
def test_mobilenet_v2_takes_every_block_at_the_end_of_its_branches(write, block, word):
    theirs = e.drawn(MobileNetV2(block, 5, 3))
    model = load(write(named(theirs, ".attention.", f".{word}.")))
    assert model.architecture.backbone == "mobilenet_v2"
    assert same_outputs(model, theirs)


@pytest.mark.parametrize(
    ("name", "word"),
    [("se_resnet8", "se"), ("se_resnet8", "attention"), ("cbam_resnet8", "cbam"), ("se_resnet18", "se")],
)
def test_the_zoos_weights_are_read_under_usual_words(write, name, word):
    theirs = e.drawn(structure.skeleton(architecture(name)).to_empty(device="cpu"))
    model = load(write(named(theirs, ".attention.", f".{word}.")))
    assert model.name == name
    assert same_outputs(model, theirs)


def test_a_named_architecture_is_read_in_other_words_too(write):
    theirs = e.drawn(e.ResNet("basic", e.SELinear, "se", depths=(2, 2, 2, 2), width=64))
    assert same_outputs(load(write(theirs.state_dict()), arch="se_resnet18"), theirs)
    with pytest.raises(StateDictMismatchError) as caught:
        load(write(theirs.state_dict()), arch="resnet18")
    assert caught.value.hint == "All names and shapes fit se_resnet18: leave --arch out."


def test_two_forward_passes_with_the_same_names_are_not_guessed_between(write):
    theirs = e.Pytorchcv("bottleneck", partial(SE, names=("conv1", "conv2")), "se")
    with pytest.raises(UnknownArchitectureError) as caught:
        load(write(theirs.state_dict()))
    hint = caught.value.hint
    assert "stride in the 3x3 convolution" in hint
    assert "stride in the first 1x1 convolution" in hint
    assert "--factory" in hint
    assert "--arch" not in hint


class ChannelsOnly(e.BottleneckCBAM):
    def __init__(self, c):
        super().__init__(c)
        del self.spatial_attention


class OneLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fc = nn.Conv2d(c, c, 1)


class ThreeLayers(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(c, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, c))


class Normed(e.SEConvolution):
    def __init__(self, c):
        super().__init__(c)
        self.bn = nn.BatchNorm2d(c // 4)


class Unshared(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ca = e.ConvolutionMLP(c)
        self.ca.other = e.ConvolutionMLP(c).fc
        self.sa = nn.Conv2d(2, 1, 7, bias=False)


class OneMap(e.TimmCBAM):
    def __init__(self, c):
        super().__init__(c)
        self.spatial.conv = e.ConvNorm(1, 1, 7, padding=3)


@pytest.mark.parametrize(
    ("block", "word"),
    [
        (ChannelsOnly, "cbam"),
        (OneLayer, "attn"),
        (OneLayer, "se"),
        (ThreeLayers, "se"),
        (Normed, "se"),
        (Unshared, ""),
        (OneMap, "se"),
        (e.SELinear, "mixer"),
    ],
)
def test_a_block_that_only_resembles_one_is_not_read_as_it(write, block, word):
    with pytest.raises(UnknownArchitectureError) as caught:
        load(write(e.ResNet("basic", block, word).state_dict()))
    assert "--arch" not in caught.value.hint
    assert "--factory" in caught.value.hint


def test_a_classifier_of_two_layers_is_not_read_as_one(write):
    theirs = e.ResNet("basic", SE)
    theirs.fc = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))
    with pytest.raises(UnknownArchitectureError) as caught:
        load(write(theirs.state_dict()))
    assert "--factory" in caught.value.hint


class PreActivated(e.Block):
    def __init__(self, kind, c_in, width, stride, *rest, **options):
        super().__init__(kind, c_in, width, stride, *rest, **options)
        self.bn1 = nn.BatchNorm2d(c_in)


def test_a_pre_activated_resnet_is_no_resnet_of_ours(write, monkeypatch):
    monkeypatch.setattr(e, "Block", PreActivated)
    theirs = e.ResNet("basic", SE, "", stem=3, head="linear", shortcut="shortcut")
    with pytest.raises(UnknownArchitectureError):
        load(write(theirs.state_dict()))


@pytest.mark.parametrize("depths", [(2, 2, 1, 1), (1, 1), (1,), (3, 1, 2, 1, 1)])
@pytest.mark.parametrize("stem", [3, 7])
def test_depths_widths_stem_and_groups_are_read_off(write, depths, stem):
    theirs = e.drawn(e.ResNet("basic", e.SELinear, "se", depths=depths, width=8, stem=stem))
    model = load(write(theirs.state_dict()))
    form = model.architecture.form
    assert (form.depths, form.widths, form.stem) == (depths, tuple(8 * 2**i for i in range(len(depths))), stem)
    assert same_outputs(model, theirs)
    assert any("no pooling after the 3x3 stem" in note for note in model.notes) == (stem == 3)


@pytest.mark.parametrize("width", [0.25, 0.75, 1.4])
@pytest.mark.parametrize("name", ["mobilenet_v2", "cbam_mobilenet_v2", "se_mobilenet_v3_small", "mobilenet_v3_large"])
def test_the_width_of_a_mobilenet_is_read_off(name, width):
    arch = replace(architecture(name, num_classes=4), width=width)
    (reading,) = readings(structure.skeleton(arch).state_dict())
    assert not reading.differences
    assert reading.architecture == arch


def test_biases_before_batch_norm_move_into_it(write):
    theirs = e.drawn(e.ResNet("bottleneck", e.SELinear, "se", bias=True))
    assert same_outputs(load(write(theirs.state_dict())), theirs)


def test_the_zoos_own_names_need_no_assumption(write):
    theirs = e.drawn(structure.skeleton(architecture("cbam_resnet8")).to_empty(device="cpu"))
    (reading,) = readings(theirs.state_dict())
    assert (reading.layout, reading.spelling, reading.assumptions) == (OWN, None, ())
    assert not any("assumed" in note for note in load(write(theirs.state_dict())).notes)


PERTURBATIONS = {
    "a tensor is missing": lambda weights, name: weights.pop(name),
    "a tensor is too much": lambda weights, name: weights.update({name + "_mask": weights[name]}),
    "a tensor has another name": lambda weights, name: weights.update({"x" + name: weights.pop(name)}),
    "a tensor is twice as long": lambda weights, name: weights.update({name: torch.cat([weights[name]] * 2)}),
    "everything has a prefix": lambda weights, _: weights.update({f"a.{n}": weights.pop(n) for n in list(weights)}),
    "nothing": lambda weights, name: None,
}


@pytest.mark.parametrize("perturb", PERTURBATIONS.values(), ids=PERTURBATIONS)
@given(name=st.sampled_from(names()), asked=st.sampled_from([None, *names()]), place=st.integers(0, 10_000))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_hint_leads_in_a_circle(perturb, name, asked, place):
    """Where an option is suggested, it works; where none is, the hint is the user's own code."""
    weights = dict(structure.skeleton(architecture(name, num_classes=7)).state_dict())
    parameters = [n for n, t in weights.items() if t.dim()]
    perturb(weights, parameters[place % len(parameters)])
    error = refusal(asked, weights)
    if error is None:
        return
    assert "--arch " not in error.hint.replace("leave --arch out", "")
    if "leave --arch out" in error.hint:
        assert asked is not None
        assert refusal(None, weights) is None
    else:
        assert "--factory" in error.hint


def refusal(asked, weights):
    """The error of a load, None where the weights are read."""
    try:
        reading = described(asked, weights, Path("model.pt"), Payload(weights))
        check(reading.architecture, reading.weights)
    except (UnknownArchitectureError, StateDictMismatchError) as error:
        return error
    return None


@given(
    name=st.sampled_from(
        ["se_resnet18", "cbam_resnet50", "resnext50_32x4d", "cbam_mobilenet_v2", "se_mobilenet_v3_small"]
    ),
    changes=st.lists(
        st.tuples(
            st.integers(0, 10_000),
            st.lists(st.sampled_from([0, 1, 2, 3, 7, 64, 2**24, 2**40]), max_size=5).filter(
                lambda s: prod(max(size, 1) for size in s) < 2**60
            ),
            st.sampled_from(["", "layer1.", "layer99.99.", "layer1.0.attention.", "features.3.block.9.fc1."]),
        ),
        min_size=1,
        max_size=6,
    ),
)
@example(name="se_mobilenet_v3_small", changes=[(242, [], "")])
@example(name="resnext50_32x4d", changes=[(0, [], "layer1."), (8846, [], "layer1.0.attention.")])
@settings(max_examples=30, deadline=None)
def test_no_names_and_shapes_break_the_reading(name, changes):
    weights = dict(structure.skeleton(architecture(name)).state_dict())
    for place, shape, prefix in changes:
        weights[prefix + list(weights)[place % len(weights)]] = torch.empty(shape, device="meta")
    for asked in (None, name):
        refusal(asked, weights)


@pytest.mark.parametrize("kind", ATTENTIONS)
@pytest.mark.parametrize("backbone", ["resnet8", "mobilenet_v2"])
def test_every_kind_of_attention_is_read_off(backbone, kind):
    arch = architecture(backbone, attention=kind, num_classes=4)
    weights = structure.skeleton(arch).state_dict()
    (reading,) = readings(weights)
    assert not reading.differences
    silent = weights.keys() == structure.shapes_of(arch.plain).keys()  # an attention without parameters
    assert reading.architecture == (arch.plain if silent else arch)
    assert named_reading(arch.name, weights).architecture == arch


@pytest.mark.parametrize("name", ["se_resnet152", "cbam_mobilenet_v3_large", "resnext50_32x4d"])
def test_few_networks_are_built_to_find_the_right_one(name):
    """A network takes milliseconds even without memory, and there are many."""
    weights = structure.skeleton(architecture(name, num_classes=3)).state_dict()
    structure.shapes_of.cache_clear()
    structure._layers_of.cache_clear()
    (reading,) = readings(weights)
    assert not reading.differences
    assert structure.shapes_of.cache_info().misses <= 4 + len(structure.ATTENTIONS)
