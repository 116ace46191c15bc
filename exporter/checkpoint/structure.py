"""Names and shapes -> the architecture that they are of, as far as they say it."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from attn_export.models.attention.catalogue import KINDS, Attention
from attn_export.models.attention.squeeze_excite import SqueezeExcitation
from attn_export.models.attention.width import squeeze_width
from attn_export.models.backbones.resnet import ResNetForm
from attn_export.models.registry import ANY_RESNET, ATTENTIONS, BACKBONES, Architecture, architecture, skeleton

Shapes = dict[str, tuple[int, ...]]

# torch added this counter later; inference never reads it.
OPTIONAL = "num_batches_tracked"
# A layer inside a block's attention.
LAYER = re.compile(r"(?:layer\d+\.\d+|features\.\d+)\.attention\.(.+)|features\.\d+\.block\.\d+\.(.*[a-zA-Z].*\..+)")
BLOCK = re.compile(r"layer(\d+)\.(\d+)\.(.+)")
CLASSIFIER = re.compile(r"fc\.weight|classifier\.\d\.weight")
# The first layers of channel gates.
SQUEEZES = (".fc.0.weight", ".fc1.weight")
# Multipliers of published MobileNets.
WIDTHS = (0.25, 0.35, 0.5, 0.6, 0.75, 1.25, 1.3, 1.4, 1.5, 2.0)
REDUCTIONS = (16, 8, 4, 2, 32)


@cache
def shapes_of(arch: Architecture) -> Shapes:
    """Name and shape of every tensor in the architecture's state dict."""
    return {name: tuple(tensor.shape) for name, tensor in skeleton(arch).state_dict().items()}


def read_off(shapes: Shapes, **form: Any) -> Architecture | None:
    """The architecture that names and shapes come nearest to; whether they fit it is for the caller to compare.

    The names are torchvision's, those of attention ours; ``form`` are fields of `ResNetForm` that shapes don't say.
    """
    try:
        host = _resnet(shapes, form) if any(n.startswith("layer1.") for n in shapes) else _mobilenet(shapes)
        arch = arguments(host, shapes) if host else None
        if arch is not None:
            shapes_of(arch)
    except (ValueError, RuntimeError, OverflowError):  # numbers that no network has
        return None
    return arch


def _resnet(shapes: Shapes, form: dict[str, Any]) -> Architecture | None:
    """The ResNet without attention; every number is the most frequent one, so that one odd tensor changes none."""
    stages = _stages(shapes)
    bottleneck = any(n.startswith("layer1.") and ".conv3." in n for n in shapes)
    last = 3 if bottleneck else 2
    widths = [_commonest(_sizes(blocks, f"bn{last}.weight", f"conv{last}.weight")) for blocks in stages]
    if not stages or not all(widths) or "conv1.weight" not in shapes:
        return None
    if bottleneck:
        inner = _commonest(_sizes(stages[0], "bn1.weight", "conv1.weight", "conv2.weight"))
        each = _commonest(s["conv2.weight"][1] for s in stages[0] if len(s.get("conv2.weight", ())) == 4)
        widths = [width // 4 for width in widths]
        groups = inner // max(each, 1)
        form = {**form, "groups": groups, "base_width": max(1, inner * 64 // max(1, widths[0] * groups))}
    found = ResNetForm(
        block="bottleneck" if bottleneck else "basic",
        depths=tuple(map(len, stages)),
        widths=tuple(widths),
        stem=3 if shapes["conv1.weight"][2:] == (3, 3) else 7,
        **form,
    )
    named = next((name for name, entry in BACKBONES.items() if entry.form == found), None)
    return architecture(named) if named else Architecture(ANY_RESNET, form=found)


def _stages(shapes: Shapes) -> list[list[Shapes]]:
    """Names and shapes in each block of each stage."""
    stages: dict[str, dict[str, Shapes]] = {}
    for name, shape in shapes.items():
        if found := BLOCK.fullmatch(name):
            stages.setdefault(found[1], {}).setdefault(found[2], {})[found[3]] = shape
    return [list(stages[stage].values()) for stage in sorted(stages, key=int)]


def _sizes(blocks: Iterable[Shapes], *names: str) -> list[int]:
    return [block[name][0] for block in blocks for name in names if block.get(name)]


def _commonest(values: Iterable[int]) -> int:
    """0 of none."""
    return next((value for value, _ in Counter(values).most_common(1)), 0)


def _mobilenet(shapes: Shapes) -> Architecture | None:
    """The backbone with the most names in common."""
    if not any(n.startswith("features.") for n in shapes):
        return None
    others = [architecture(name) for name, entry in BACKBONES.items() if entry.form is None]
    backbone = max(others, key=lambda arch: _likeness(shapes_of(arch), shapes))
    scaled = (replace(backbone, width=width) for width in WIDTHS)
    return next((arch for arch in (backbone, *scaled) if _same_ends(arch, shapes)), backbone)


def _same_ends(arch: Architecture, shapes: Shapes) -> bool:
    """Whether the first and the last BatchNorm are as wide as in ``arch``."""
    norms = [n for n in shapes_of(arch) if n.endswith("running_mean")]
    return all(shapes.get(n) == shapes_of(arch)[n] for n in (norms[0], norms[-4], norms[-1]))


def _likeness(expected: Iterable[str], names: Iterable[str]) -> float:
    ours, theirs = ({n for n in group if not n.endswith(OPTIONAL)} for group in (expected, names))
    return len(ours & theirs) / max(1, len(ours | theirs))


def arguments(host: Architecture, shapes: Shapes, attention: Attention | None = None) -> Architecture:
    """``host`` with classes, input channels and attention as the shapes say, or with the attention that is named."""
    first = shapes.get("conv1.weight" if host.entry.form else "features.0.0.weight", ())
    last = max((n for n in shapes if CLASSIFIER.fullmatch(n)), default="")
    host = replace(
        host,
        in_channels=first[1] if len(first) == 4 else host.in_channels,
        num_classes=shapes[last][0] if len(shapes.get(last, ())) == 2 else host.num_classes,
    )
    layers = {found[1] or found[2]: shape for n, shape in shapes.items() if (found := LAYER.fullmatch(n))}
    if attention is None and layers:
        attention = max(ATTENTIONS, key=lambda kind: _likeness(_layers_of(kind, _has_own_se(host)), layers))
    if attention is None or attention == "none":
        return host
    reduction = host.entry.se_reduction if attention == "se" else KINDS[attention].reduction or 16
    return _attended(replace(host, attention=attention, reduction=reduction), layers, shapes)


def _attended(arch: Architecture, layers: Shapes, shapes: Shapes) -> Architecture:
    """``arch`` with the reduction and options of its attention, of which ``layers`` are those of one block."""
    squeezes = [(s[1], s[0]) for n, s in shapes.items() if LAYER.fullmatch(n) and n.endswith(SQUEEZES) and len(s) > 1]
    if arch.attention not in ("se", "cbam"):
        guesses = [arch, *(replace(arch, reduction=r) for r in REDUCTIONS)]
        return next((guess for guess in guesses if not _misshapen(guess, shapes)), arch)
    if arch.attention == "se" and _has_own_se(arch):
        return replace(arch, reduction=_reduction(squeezes, (8,))[0]) if squeezes else arch
    if arch.attention == "cbam":
        arch = replace(arch, **_spatial(layers))
    reduction, divisor = _reduction(squeezes, (1, 8) if arch.attention == "se" else (1,)) if squeezes else (16, 1)
    biased = any(n.endswith(("fc.0.bias", "fc1.bias")) for n in layers)
    return replace(arch, reduction=reduction, divisor=divisor, bias=biased)


def _has_own_se(arch: Architecture) -> bool:
    """MobileNetV3's, which rounds hidden widths by itself and always has biases."""
    return arch.entry.se is SqueezeExcitation


@cache
def _layers_of(attention: Attention, own_se: bool) -> frozenset[str]:
    """Names of the tensors in one block."""
    own = own_se and attention == "se"
    network, block = ("mobilenet_v3_small", "features.1.block.1.") if own else ("resnet8", "layer1.0.attention.")
    shapes = shapes_of(architecture(network, attention=attention))
    return frozenset(n.removeprefix(block) for n in shapes if n.startswith(block))


@cache
def own_layers() -> tuple[frozenset[str], ...]:
    """For each kind of attention, the names of its layers, as they are here."""
    kinds = [_layers_of(kind, own_se=False) for kind in ATTENTIONS]
    return tuple(frozenset(n.rpartition(".")[0] for n in kind) for kind in kinds)


def _spatial(layers: Shapes) -> dict[str, Any]:
    """What the names and shapes in a CBAM say about its spatial gate."""
    kernel = (7, *layers.get("SpatialGate.conv1.weight", ()))[-1]
    biased = "SpatialGate.conv1.bias" in layers
    return {
        "kernel_size": kernel if kernel in (3, 7) else 7,
        "spatial_end": "norm" if "SpatialGate.bn.weight" in layers else "bias" if biased else "plain",
    }


def _reduction(squeezes: Sequence[tuple[int, int]], divisors: Sequence[int]) -> tuple[int, int]:
    """Reduction and divisor that explain the most of ``squeezes``, pairs of channels and hidden width."""
    channels, hidden = max(squeezes)
    exact = max(1, channels // max(1, hidden))
    return max(
        ((reduction, divisor) for divisor in divisors for reduction in (exact, *REDUCTIONS)),
        key=lambda guess: sum(squeeze_width(c, *guess) == h for c, h in squeezes),
    )


def _misshapen(arch: Architecture, shapes: Shapes) -> int:
    return sum(shapes.get(n, shape) != shape for n, shape in shapes_of(arch).items())
