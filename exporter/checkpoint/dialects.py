"""The names of the same networks elsewhere: what public repositories call the tensors of ResNets and attention blocks.

Each row says what its names stand for, where they are published, and which forward pass they imply. Names and shapes
can't show a forward pass, so what a row implies is an assumption, and a note says it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Rename = tuple[str, str]


@dataclass(frozen=True)
class Layout:
    """The names around the attention blocks.

    Attributes:
        marks: expressions that each match a name of every network in this layout.
        renames: expressions and what replaces them, in this order; the results are torchvision's names.
        only: what else has to hold for this row: the block, whether its convolutions are grouped, the attention.
        form: fields of `ResNetForm` that the forward pass implies.
        assumed: the same in words.
    """

    name: str
    source: str
    marks: tuple[str, ...]
    renames: tuple[Rename, ...] = ()
    only: Mapping[str, Any] = field(default_factory=dict)
    form: Mapping[str, Any] = field(default_factory=dict)
    assumed: str = "stride in the 3x3 convolution, attention after the last BatchNorm, then the shortcut and ReLU"


@dataclass(frozen=True)
class Spelling:
    """The names inside one attention block.

    Attributes:
        attention: the kind of block.
        parts: our layer -> the expression for theirs, below the residual block.
        maximum_first: the spatial convolution's first input is the maximum over the channels; ours is the mean.
        assumed: what the forward pass does.
    """

    name: str
    source: str
    attention: Literal["se", "cbam", "eca"]
    parts: Mapping[str, str]
    maximum_first: bool = False
    assumed: str = ""


OWN = Layout("torchvision", "https://github.com/pytorch/vision/blob/main/torchvision/models/resnet.py", ())
_CADENE = (r"^layer0\.(conv1|bn1)\.", r"\1."), (r"^last_linear\.", "fc.")
_CADENE_SOURCE = "https://github.com/Cadene/pretrained-models.pytorch/blob/master/pretrainedmodels/models/senet.py"
_TIMM = "https://github.com/huggingface/pytorch-image-models/blob/main/timm/"
_PYTORCHCV = (
    (r"^features\.init_block\.conv\.conv\.", "conv1."),
    (r"^features\.init_block\.conv\.bn\.", "bn1."),
    (r"^features\.stage(\d+)\.unit(\d+)\.", r"layer\1.\2."),
    (r"\.body\.conv(\d)\.conv\.", r".conv\1."),
    (r"\.body\.conv(\d)\.bn\.", r".bn\1."),
    (r"\.identity_conv\.conv\.", ".downsample.0."),
    (r"\.identity_conv\.bn\.", ".downsample.1."),
    (r"^output\.", "fc."),
)
_PYTORCHCV_SOURCE = "https://github.com/osmr/pytorchcv/tree/master/pytorchcv/models"
_HEAD = r"(?:fc\.\d|(?:classifier|head|last_linear|output)(?:\.\d)?)"
_SHORTCUT = (r"\.shortcut\.", ".downsample."), (r"^linear\.", "fc.")
_IN_SEQUENCE = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6, "bn3": 7}


def _in_sequence(container: str) -> tuple[Rename, ...]:
    return tuple((rf"\.{container}\.{i}\.", f".{ours}.") for ours, i in _IN_SEQUENCE.items())


LAYOUTS = (
    Layout(
        "kuangliu/pytorch-cifar",
        "https://github.com/kuangliu/pytorch-cifar/blob/master/models/resnet.py",
        (r"^linear\.weight$|\.shortcut\.0\.", r"^layer1\.", r"^conv1\.weight$"),
        _SHORTCUT,
    ),
    Layout(
        "torchvision with another classifier",
        "https://github.com/pytorch/vision/blob/main/torchvision/models/resnet.py",
        (r"^layer1\.", rf"^{_HEAD}\.weight$"),
        ((rf"^{_HEAD}\.", "fc."),),
        assumed="one linear layer behind the mean, with nothing but dropout between",
    ),
    Layout(
        "Cadene's and timm's legacy SE-ResNet",
        _CADENE_SOURCE,
        (r"^layer0\.conv1\.", r"^last_linear\."),
        _CADENE,
        only={"block": "bottleneck", "grouped": False},
        form={"stride_in": "1x1", "stem_pool": "ceil"},
        assumed="stride in the first 1x1 convolution, and a max pool that rounds its size up, as in Caffe",
    ),
    Layout(
        "Cadene's and timm's legacy SE-ResNeXt",
        _CADENE_SOURCE,
        (r"^layer0\.conv1\.", r"^last_linear\."),
        _CADENE,
        only={"block": "bottleneck", "grouped": True},
        form={"stem_pool": "ceil"},
        assumed="stride in the 3x3 convolution, and a max pool that rounds its size up, as in Caffe",
    ),
    Layout(
        "timm's legacy SE-ResNet of basic blocks",
        _TIMM + "models/senet.py",
        (r"^layer0\.conv1\.", r"^last_linear\."),
        _CADENE,
        only={"block": "basic"},
        form={"stem_pool": "ceil", "branch_relu": True},
        assumed="a ReLU before the attention, and a max pool that rounds its size up, as in Caffe",
    ),
    Layout("pytorchcv", _PYTORCHCV_SOURCE, (r"^features\.init_block\.conv\.conv\.",), _PYTORCHCV),
    Layout(
        "pytorchcv, resnet50 without b",
        _PYTORCHCV_SOURCE,
        (r"^features\.init_block\.conv\.conv\.",),
        _PYTORCHCV,
        only={"block": "bottleneck", "attention": ("none", "se")},
        form={"stride_in": "1x1"},
        assumed="stride in the first 1x1 convolution",
    ),
    Layout(
        "weiaicunzai/pytorch-cifar100",
        "https://github.com/weiaicunzai/pytorch-cifar100/blob/master/models/resnet.py",
        (r"^conv2_x\.", r"\.residual_function\."),
        (
            (r"^conv1\.0\.", "conv1."),
            (r"^conv1\.1\.", "bn1."),
            (r"^conv(\d)_x\.", r"layer\1."),
            *_in_sequence("residual_function"),
            *_SHORTCUT,
        ),
    ),
    Layout(
        "weiaicunzai/pytorch-cifar100, SENet",
        "https://github.com/weiaicunzai/pytorch-cifar100/blob/master/models/senet.py",
        (r"^pre\.0\.", r"\.residual\.", r"\.excitation\."),
        (
            (r"^pre\.0\.", "conv1."),
            (r"^pre\.1\.", "bn1."),
            (r"^stage(\d)\.", r"layer\1."),
            *_in_sequence("residual"),
            *_SHORTCUT,
        ),
        form={"branch_relu": True},
        assumed="a ReLU before the attention",
    ),
)

_SE = r"(?i:se|se_?module|se_?layer|se_?block|senet|attention)"
_CBAM = r"(?i:cbam|cbam_?block|attention)"
_CHANNEL = rf"(?:{_CBAM}\.)?(?i:channel_?att(?:ention)?|ca)"
_MLP = r"(?i:fc|mlp|shared_?mlp)"


def _se(name: str, source: str, layers: tuple[str, str]) -> Spelling:
    """An SE block with these expressions for its two layers."""
    assumed = "mean, two layers with a ReLU between, sigmoid"
    return Spelling(name, source, "se", dict(zip(("fc.0", "fc.2"), layers, strict=True)), assumed=assumed)


def _cbam(
    name: str, source: str, channel: tuple[str, str], spatial: tuple[str, ...], *, maximum_first: bool = False
) -> Spelling:
    """A CBAM with these expressions for its channel gate's layers, and its spatial gate's convolution and norm."""
    ours = ("ChannelGate.fc1", "ChannelGate.fc2", "SpatialGate.conv1", "SpatialGate.bn")
    parts = dict(zip(ours, (*channel, *spatial), strict=False))
    order = "maximum, then the mean" if maximum_first else "mean, then the maximum"
    return Spelling(name, source, "cbam", parts, maximum_first, f"the spatial convolution sees the {order}; sigmoids")


SPELLINGS = (
    _se(
        "fc.0, fc.2",
        "https://github.com/moskomule/senet.pytorch/blob/master/senet/se_module.py",
        (rf"{_SE}\.fc\.0", rf"{_SE}\.fc\.2"),
    ),
    _se("fc1, fc2", _TIMM + "layers/squeeze_excite.py", (rf"{_SE}\.fc1", rf"{_SE}\.fc2")),
    _se(
        "fc1, fc2 in the block itself",
        "https://github.com/kuangliu/pytorch-cifar/blob/master/models/senet.py",
        ("fc1", "fc2"),
    ),
    _se(
        "excitation.0, excitation.2",
        "https://github.com/weiaicunzai/pytorch-cifar100/blob/master/models/senet.py",
        (rf"(?:{_SE}\.)?excitation\.0", rf"(?:{_SE}\.)?excitation\.2"),
    ),
    _se(
        "conv_reduce, conv_expand",
        _TIMM + "models/_efficientnet_blocks.py",
        (rf"{_SE}\.conv_reduce", rf"{_SE}\.conv_expand"),
    ),
    _se(
        "conv1, conv2",
        "https://github.com/osmr/pytorchcv/blob/master/pytorchcv/models/common/att.py",
        (rf"{_SE}\.conv1", rf"{_SE}\.conv2"),
    ),
    _se("two numbered layers", "many tutorials", (rf"{_SE}\.(?:\w+\.)?[01]", rf"{_SE}\.(?:\w+\.)?[23]")),
    Spelling(
        "conv",
        "https://github.com/BangguWu/ECANet/blob/master/models/eca_module.py",
        "eca",
        {"conv": rf"(?:{_SE}|eca)\.conv"},
        assumed="mean, a convolution over the channels, sigmoid",
    ),
    _cbam(
        "ChannelGate.fc1, SpatialGate.conv1",
        "docs/attention.md",
        (rf"{_CBAM}\.ChannelGate\.fc1", rf"{_CBAM}\.ChannelGate\.fc2"),
        (rf"{_CBAM}\.SpatialGate\.conv1", rf"{_CBAM}\.SpatialGate\.bn"),
    ),
    _cbam(
        "ChannelGate.mlp, SpatialGate.spatial",
        "https://github.com/Jongchan/attention-module/blob/master/MODELS/cbam.py",
        (rf"{_CBAM}\.ChannelGate\.mlp\.1", rf"{_CBAM}\.ChannelGate\.mlp\.3"),
        (rf"{_CBAM}\.SpatialGate\.spatial\.conv", rf"{_CBAM}\.SpatialGate\.spatial\.bn"),
        maximum_first=True,
    ),
    _cbam(
        "ca, sa",
        "https://github.com/luuuyi/CBAM.PyTorch/blob/master/model/resnet_cbam.py",
        (rf"(?:{_CBAM}\.)?ca\.(?:fc\.0|fc1)", rf"(?:{_CBAM}\.)?ca\.(?:fc\.2|fc2)"),
        (rf"(?:{_CBAM}\.)?sa\.conv1?",),
    ),
    _cbam(
        "channel_attention.bottleneck, spatial_attention.conv",
        "https://github.com/elbuco1/CBAM/blob/master/src/models/models/cbam.py",
        (rf"(?:{_CBAM}\.)?channel_attention\.bottleneck\.0", rf"(?:{_CBAM}\.)?channel_attention\.bottleneck\.2"),
        (rf"(?:{_CBAM}\.)?spatial_attention\.conv",),
        maximum_first=True,
    ),
    _cbam(
        "channel_attention, spatial_attention",
        "many tutorials",
        (rf"{_CHANNEL}\.(?:{_MLP}\.[01]|fc1)", rf"{_CHANNEL}\.(?:{_MLP}\.[23]|fc2)"),
        (rf"(?:{_CBAM}\.)?(?i:spatial_?att(?:ention)?|sa)\.conv1?",),
    ),
    _cbam(
        "ch_gate.mlp, sp_gate.conv",
        "https://github.com/osmr/pytorchcv/blob/master/pytorchcv/models/cbamresnet.py",
        (rf"{_CBAM}\.ch_gate\.mlp\.fc1", rf"{_CBAM}\.ch_gate\.mlp\.fc2"),
        (rf"{_CBAM}\.sp_gate\.conv\.conv", rf"{_CBAM}\.sp_gate\.conv\.bn"),
        maximum_first=True,
    ),
    _cbam(
        "channel.fc1, spatial.conv",
        _TIMM + "layers/cbam.py",
        (rf"{_SE}\.channel\.fc1", rf"{_SE}\.channel\.fc2"),
        (rf"{_SE}\.spatial\.conv\.conv", rf"{_SE}\.spatial\.conv\.bn"),
    ),
)
