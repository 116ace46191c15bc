"""Names to networks: what can be built, and how.

A network is called ``[<attention>_]<backbone>``, such as ``eca_resnet50``; without a prefix it has no attention, and is
the control that an attended network is compared with.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from functools import partial
from typing import Any, cast, get_args

import torch
from torch import nn

from attn_export.models.attention.catalogue import KINDS, Attention
from attn_export.models.attention.cbam import SpatialEnd
from attn_export.models.attention.squeeze_excite import SqueezeExcitation
from attn_export.models.backbones.mobilenet_v2 import MobileNetV2
from attn_export.models.backbones.mobilenet_v3 import LARGE, SMALL, MobileNetV3
from attn_export.models.backbones.resnet import AttentionFactory, ResNet, ResNetForm
from attn_export.models.initialization import initialize

# Far above any real layer, far below what overflows a tensor's size.
LARGEST_WIDTH = 2**24
# With each backbone these are listed and tested; the others are built in the same way.
LISTED: tuple[Attention, ...] = ("none", "se", "cbam")
ATTENTIONS: tuple[Attention, ...] = get_args(Attention)

BackboneBuilder = Callable[..., nn.Module]


@dataclass(frozen=True)
class Backbone:
    """How a family's member is built: attention factory, classes and input channels in, network out.

    MobileNets also take a ``width``.
    """

    build: BackboneBuilder
    num_classes: int = 1000
    size: int = 224
    se: Callable[[int, int], nn.Module] | None = None
    se_reduction: int = 16
    form: ResNetForm | None = None


def _resnet(form: ResNetForm) -> Backbone:
    large = form.stem == 7
    return Backbone(partial(ResNet, form), num_classes=1000 if large else 10, size=224 if large else 32, form=form)


SMALL_IMAGES = (16, 32, 64)
BACKBONES: dict[str, Backbone] = {
    "resnet18": _resnet(ResNetForm("basic", (2, 2, 2, 2))),
    "resnet34": _resnet(ResNetForm("basic", (3, 4, 6, 3))),
    "resnet50": _resnet(ResNetForm("bottleneck", (3, 4, 6, 3))),
    "resnet101": _resnet(ResNetForm("bottleneck", (3, 4, 23, 3))),
    "resnet152": _resnet(ResNetForm("bottleneck", (3, 8, 36, 3))),
    "resnext50_32x4d": _resnet(ResNetForm("bottleneck", (3, 4, 6, 3), groups=32, base_width=4)),
    "mobilenet_v2": Backbone(MobileNetV2),
    "mobilenet_v3_small": Backbone(partial(MobileNetV3, SMALL, 1024), se=SqueezeExcitation, se_reduction=4),
    "mobilenet_v3_large": Backbone(partial(MobileNetV3, LARGE, 1280), se=SqueezeExcitation, se_reduction=4),
    # Section 4.2 of the ResNet paper: 6 n + 2 layers, for small images.
    "resnet8": _resnet(ResNetForm("basic", (1, 1, 1), SMALL_IMAGES, stem=3)),
    "resnet20": _resnet(ResNetForm("basic", (3, 3, 3), SMALL_IMAGES, stem=3)),
}
# The backbone of an `Architecture` that has a form of its own.
ANY_RESNET = "resnet"


# Fields that came after the first version of the checkpoint format.
LATER = ("bias", "divisor", "spatial_end", "width", "form")


@dataclass(frozen=True)
class Architecture:
    """Everything that decides a network's structure; plain values, so it can stand in a file.

    Attributes:
        backbone: a key of `BACKBONES`, or "resnet" with a ``form``.
        bias: the layers of the channel gates have biases.
        divisor: the hidden widths of SE blocks are rounded to its multiples.
        spatial_end: see `SpatialAttention`.
        width: of a MobileNet: all channels are multiplied by it and rounded to multiples of 8.
        form: of a ResNet that isn't in `BACKBONES`.

    Raises:
        ValueError: an unknown backbone or attention (with the nearest known name), or a number that is not positive.
    """

    backbone: str
    attention: Attention = "none"
    num_classes: int = 1000
    in_channels: int = 3
    reduction: int = 16
    kernel_size: int = 7
    bias: bool = False
    divisor: int = 1
    spatial_end: SpatialEnd = "plain"
    width: float = 1.0
    form: ResNetForm | None = None

    def __post_init__(self) -> None:
        if (self.backbone == ANY_RESNET) != (self.form is not None):
            raise ValueError(f"the backbone is {self.backbone!r}, the form {self.form}; only {ANY_RESNET!r} has one")
        if self.form is None and self.backbone not in BACKBONES:
            raise ValueError(unknown_name(self.backbone, BACKBONES))
        if self.attention not in ATTENTIONS:
            raise ValueError(f"unknown attention {self.attention!r}; known are {', '.join(ATTENTIONS)}")
        for name in ("num_classes", "in_channels", "reduction", "divisor"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= LARGEST_WIDTH:
                raise ValueError(f"{name} is {value!r}; it must be an integer from 1 to {LARGEST_WIDTH}")
        if type(self.width) is not float or not 0 < self.width <= 16 or (self.width != 1 and self.entry.form):
            raise ValueError(f"width is {self.width!r}; expected is a number up to 16.0, and 1.0 for ResNets")
        if type(self.bias) is not bool or self.spatial_end not in get_args(SpatialEnd):
            raise ValueError(f"bias is {self.bias!r}, spatial_end {self.spatial_end!r}; no attention has these")
        if type(self.kernel_size) is not int or self.kernel_size not in (3, 7):
            raise ValueError(f"kernel_size is {self.kernel_size!r}; spatial attention is defined for 3 and 7")

    @property
    def name(self) -> str:
        """``cbam_resnet50``, or ``resnet50`` without attention."""
        return self.backbone if self.attention == "none" else f"{self.attention}_{self.backbone}"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The default (C, H, W)."""
        size = self.entry.size
        return self.in_channels, size, size

    @property
    def entry(self) -> Backbone:
        """How it is built."""
        return BACKBONES[self.backbone] if self.form is None else _resnet(self.form)

    @property
    def block_options(self) -> dict[str, Any]:
        """What an attention block may be built with besides its channels; see `Kind.options`."""
        return {name: getattr(self, name) for name in ("reduction", "kernel_size", "bias", "divisor", "spatial_end")}

    @property
    def plain(self) -> "Architecture":
        """The same network without attention: what its cost is measured against."""
        return replace(self, attention="none", bias=False, divisor=1, spatial_end="plain")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a file. Defaults of later fields are left out, so that earlier versions read it."""
        values = asdict(self)
        return {f.name: values[f.name] for f in fields(self) if f.name not in LATER or values[f.name] != f.default}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Architecture":
        """The inverse of `to_dict`.

        Raises:
            ValueError: a field is missing, unknown, or has a value that no architecture has.
        """
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown architecture fields: {', '.join(unknown)}")
        if not isinstance(values, dict) or "backbone" not in values:
            raise ValueError("the architecture names no backbone")
        if (form := values.get("form")) is not None:
            values = {**values, "form": _form(form)}
        return cls(**values)


def _form(values: Any) -> ResNetForm:
    known = {f.name for f in fields(ResNetForm)}
    if not isinstance(values, dict) or not {"block", "depths"} <= set(values) <= known:
        raise ValueError(f"the form {values!r} is not that of a ResNet")
    return ResNetForm(**values)


def names(attentions: Sequence[Attention] = LISTED) -> list[str]:
    """Every backbone's name with each attention, family by family."""
    return [Architecture(b, attention=a).name for b in BACKBONES for a in attentions]


def architecture(
    name: str,
    *,
    attention: Attention | None = None,
    num_classes: int | None = None,
    in_channels: int = 3,
    reduction: int | None = None,
    kernel_size: int = 7,
) -> Architecture:
    """The architecture called ``name``, with the backbone's own defaults for what isn't given.

    ``attention`` may stand in the name or beside it, not in both with different meanings.

    Raises:
        ValueError: the name is unknown (the nearest is suggested), or an argument doesn't fit.
    """
    prefix, backbone = split_name(name)
    if attention is not None and prefix not in ("none", attention):
        raise ValueError(f"{name!r} says attention {prefix!r}, the argument says {attention!r}")
    chosen = attention or prefix
    entry = BACKBONES[backbone]
    papers = 16 if chosen == "none" else KINDS[chosen].reduction or 16
    default_reduction = entry.se_reduction if chosen == "se" else papers
    return Architecture(
        backbone=backbone,
        attention=chosen,
        num_classes=entry.num_classes if num_classes is None else num_classes,
        in_channels=in_channels,
        reduction=default_reduction if reduction is None else reduction,
        kernel_size=kernel_size,
    )


def split_name(name: str) -> tuple[Attention, str]:
    """``cbam_resnet50`` -> ("cbam", "resnet50"). Raises ValueError: the name is unknown."""
    prefix, _, rest = name.partition("_")
    if prefix in ATTENTIONS and prefix != "none" and rest in BACKBONES:
        return cast("Attention", prefix), rest
    if name in BACKBONES:
        return "none", name
    raise ValueError(unknown_name(name, names((cast("Attention", prefix),) if prefix in KINDS else LISTED)))


def unknown_name(name: str, known: Any) -> str:
    """The sentence for a name that isn't there, with the nearest ones that are."""
    near = get_close_matches(name, list(known), n=3)
    suggestion = f"did you mean {' or '.join(near)}?" if near else "`attn-export models` lists them"
    return f"there is no network called {name!r}; {suggestion}"


def build(arch: Architecture) -> nn.Module:
    """The network in eval mode, with torch's own random weights, on torch's current default device."""
    scaled = {} if arch.entry.form else {"width": arch.width}
    return arch.entry.build(_factory(arch), arch.num_classes, arch.in_channels, **scaled).eval()


def _factory(arch: Architecture) -> AttentionFactory:
    if arch.attention == "none":
        return lambda _: nn.Identity()
    if arch.attention == "se" and (own := arch.entry.se) is not None:
        return lambda channels: own(channels, arch.reduction)
    kind = KINDS[arch.attention]
    return lambda channels: kind.build(channels, **arch.block_options)


def skeleton(arch: Architecture) -> nn.Module:
    """The network on the meta device: structure and shapes, no memory, made in milliseconds."""
    with torch.device("meta"):
        return build(arch)


def create(
    name: str,
    *,
    attention: Attention | None = None,
    num_classes: int | None = None,
    in_channels: int = 3,
    reduction: int | None = None,
    kernel_size: int = 7,
    seed: int = 0,
) -> nn.Module:
    """Build a network by name: ``create("cbam_resnet50")`` or ``create("resnet50", attention="cbam")``.

    Args:
        name: ``[<attention>_]<backbone>``; `names` lists them.
        attention: "none", "se", "cbam", …, where the name doesn't say.
        num_classes: outputs; 1000 unless the backbone is made for small images (10).
        in_channels: channels of the input image.
        reduction: of the hidden layers; the paper's own, and 4 for MobileNetV3's SE.
        kernel_size: of CBAM's spatial gates, 7 or 3.
        seed: the weights and BatchNorm statistics are drawn from it, see `initialize`.

    Returns:
        The network, float32, in eval mode; (N, in_channels, H, W) -> (N, num_classes).

    Raises:
        ValueError: an unknown name (the nearest is suggested) or an argument that doesn't fit.
    """
    arch = architecture(
        name,
        attention=attention,
        num_classes=num_classes,
        in_channels=in_channels,
        reduction=reduction,
        kernel_size=kernel_size,
    )
    return create_network(arch, seed)


def create_network(arch: Architecture, seed: int = 0) -> nn.Module:
    """`create` for an architecture."""
    network = skeleton(arch).to_empty(device="cpu")
    initialize(network, arch.in_channels, arch.entry.size, seed)
    return network
