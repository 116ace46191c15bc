"""Attention blocks of other people's spellings, each with a twin that looks like one and isn't."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attn_export.models.attention.catalogue import KINDS
from attn_export.models.equip import Equipment
from tests.cleanup.spellings import SpatialGate

C = 16
# A block as a function of its module and of the map.
Form = Callable[[Any, Tensor], Tensor]


class Block(nn.Module):
    """``forward`` is a function of the module and the map; convolutions are made as they are named."""

    def __init__(self, form: Form, **layers: nn.Module) -> None:
        super().__init__()
        self.form = form
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.form(self, x)


def conv(inputs: int = C, outputs: int = C, kernel: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation)


def mlp(inputs: int = C) -> nn.Sequential:
    return nn.Sequential(conv(inputs, C // 4), nn.ReLU(), conv(C // 4, C))


def mean(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


def maximum(x: Tensor) -> Tensor:
    return x.amax((2, 3), keepdim=True)


def summary(x: Tensor) -> Tensor:
    return torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)


def spatial(m: Any, x: Tensor) -> Tensor:
    return torch.sigmoid(m.spatial(summary(x)))


def softmax_pool(m: Any, x: Tensor) -> Tensor:
    weights = m.mask(x).flatten(2).softmax(-1)
    return torch.matmul(x.flatten(2), weights.transpose(1, 2)).unsqueeze(-1)


def coordinates(m: Any, x: Tensor) -> Tensor:
    """Hou et al., https://arxiv.org/abs/2103.02907."""
    rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).permute(0, 1, 3, 2)
    y = F.relu(m.first(torch.cat([rows, columns], 2)))
    first, second = torch.split(y, [int(x.shape[2]), int(x.shape[3])], dim=2)
    return x * torch.sigmoid(m.second(second.permute(0, 1, 3, 2))) * torch.sigmoid(m.third(first))


def half_and_half(m: Any, x: Tensor) -> Tensor:
    both = torch.cat([mean(x[:, : C // 2]), maximum(x[:, C // 2 :])], 1)
    return x * torch.sigmoid(m.mlp(both))


def parallel(m: Any, x: Tensor) -> Tensor:
    channel = torch.sigmoid(m.mlp(mean(x)) + m.mlp(maximum(x)))
    return x * channel + x * spatial(m, x)


def both_gates(m: Any, x: Tensor) -> Tensor:
    channel = torch.sigmoid(m.mlp(mean(x)) + m.mlp(maximum(x)))
    return x * channel * spatial(m, x)


def spatial_first(m: Any, x: Tensor) -> Tensor:
    y = x * spatial(m, x)
    return y * torch.sigmoid(m.mlp(mean(y)) + m.mlp(maximum(y)))


def cbam(channel: Form, carry: Callable[[Tensor, Tensor], Tensor] | None = None) -> Form:
    def form(m: Any, x: Tensor) -> Tensor:
        y = x * channel(m, x)
        gate = spatial(m, y)
        return y * (carry(gate, y) if carry else gate)

    return form


def unet_gate(m: Any, x: Tensor) -> Tensor:
    coarse = F.interpolate(F.relu(m.down(F.max_pool2d(x, 2))), scale_factor=2.0, mode="nearest")
    return x * torch.sigmoid(m.psi(F.relu(m.left(coarse) + m.right(x))))


def bam(m: Any, x: Tensor) -> Tensor:
    """Park et al., https://arxiv.org/abs/1807.06514."""
    places = m.out(F.relu(m.wide(F.relu(m.reduce(x)))))
    return x * (1 + torch.sigmoid(m.mlp(mean(x)).expand_as(x) + places.expand_as(x)))


def squares(x: Tensor) -> Tensor:
    return (x - mean(x)) ** 2


def variance(x: Tensor) -> Tensor:
    """As SimAM's authors compute it."""
    return squares(x).sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1) + 1e-4


def gct(m: Any, x: Tensor) -> Tensor:
    """Yang et al., https://arxiv.org/abs/1909.11519, with norms instead of roots of sums."""
    norms = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
    return x * (1 + torch.tanh(1.3 * norms / (norms.square().mean(1, keepdim=True) + 1e-5).sqrt() - 0.4))


def gathered(gate: Tensor, x: Tensor) -> Tensor:
    return F.interpolate(gate, size=x.shape[2:])


def stirred(block: nn.Module) -> nn.Module:
    """A block with other numbers in its parameters: a zero would be folded away."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw))
    return block


@dataclass(frozen=True)
class Dialect:
    """A block and the kinds that the inventory lists for it."""

    name: str
    make: Callable[[], nn.Module]
    kinds: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


def _of(name: str, kind: str, form: Form, *layers: str) -> Dialect:
    known: dict[str, Callable[[], nn.Module]] = {
        "mlp": mlp,
        "fc": conv,
        "spatial": lambda: conv(2, 1, 7),
        "mask": lambda: conv(C, 1),
        "first": lambda: conv(C, 8),
        "second": lambda: conv(8, C),
        "third": lambda: conv(8, C),
        "left": lambda: conv(C, 8),
        "right": lambda: conv(C, 8),
        "down": lambda: conv(C, C, 3),
        "psi": lambda: conv(8, 1),
        "reduce": lambda: conv(C, 4),
        "wide": lambda: conv(4, 4, 3, dilation=4),
        "out": lambda: conv(4, 1),
        "stride": lambda: nn.Conv2d(C, C, 3, stride=2, padding=1),
        "deep": lambda: nn.Conv2d(C, C, 3, stride=2, padding=1, groups=C),
        "alone": lambda: SpatialGate(),
    }
    return Dialect(name, lambda: Block(form, **{layer: known[layer]() for layer in layers}), (kind,) if kind else ())


SE_FORMS = (
    _of("sigmoid by exp", "SE", lambda m, x: x * (1 / (1 + torch.exp(-m.mlp(mean(x))))), "mlp"),
    _of("sigmoid by reciprocal", "SE", lambda m, x: x * torch.reciprocal(1 + torch.exp(-m.mlp(mean(x)))), "mlp"),
    _of("sigmoid by tanh", "SE", lambda m, x: x * ((torch.tanh(m.mlp(mean(x)) / 2) + 1) / 2), "mlp"),
    _of("sigmoid by half a tanh", "SE", lambda m, x: x * (0.5 * torch.tanh(0.5 * m.mlp(mean(x))) + 0.5), "mlp"),
    _of("one plus the gate", "SE", lambda m, x: x * (1 + torch.sigmoid(m.mlp(mean(x)))), "mlp"),
    _of("twice the gate", "SE", lambda m, x: x * (2 * torch.sigmoid(m.mlp(mean(x)))), "mlp"),
    _of("einsum", "SE", lambda m, x: torch.einsum("bchw,bc->bchw", x, torch.sigmoid(m.mlp(mean(x))).flatten(1)), "mlp"),
    _of(
        "half mean, half maximum", "SE", lambda m, x: x * torch.sigmoid(m.mlp(0.5 * mean(x) + 0.5 * maximum(x))), "mlp"
    ),
    _of("half the channels each", "SE", half_and_half, "mlp"),
    _of("from sums", "SE (sums)", lambda m, x: x * torch.sigmoid(m.mlp(x.sum((2, 3), keepdim=True))), "mlp"),
    _of("softmax pool", "SE (softmax pool)", lambda m, x: x * torch.sigmoid(m.mlp(softmax_pool(m, x))), "mlp", "mask"),
    _of("one layer", "SE (one layer)", lambda m, x: x * torch.sigmoid(m.fc(mean(x))), "fc"),
    _of("one layer, hard", "SE (one layer)", lambda m, x: x * (F.relu6(m.fc(mean(x)) + 3) / 6), "fc"),
)
CBAM_FORMS = (
    _of(
        "branches squashed before the sum",
        "CBAM",
        cbam(lambda m, x: torch.sigmoid(m.mlp(mean(x))) + torch.sigmoid(m.mlp(maximum(x)))),
        "mlp",
        "spatial",
    ),
    _of("halves in parallel", "CBAM", parallel, "mlp", "spatial"),
    _of("both gates of one map", "CBAM", both_gates, "mlp", "spatial"),
    _of("spatial half first", "CBAM", spatial_first, "mlp", "spatial"),
    _of("one layer", "CBAM", cbam(lambda m, x: torch.sigmoid(m.fc(mean(x)) + m.fc(maximum(x)))), "fc", "spatial"),
    _of("mean pool only", "CBAM", cbam(lambda m, x: torch.sigmoid(m.fc(mean(x)))), "fc", "spatial"),
    _of(
        "gate expanded",
        "CBAM",
        cbam(lambda m, x: torch.sigmoid(m.mlp(mean(x)) + m.mlp(maximum(x))), lambda g, y: g.expand_as(y)),
        "mlp",
        "spatial",
    ),
    _of(
        "gate repeated",
        "CBAM",
        cbam(lambda m, x: torch.sigmoid(m.mlp(mean(x)) + m.mlp(maximum(x))), lambda g, y: g.repeat(1, C, 1, 1)),
        "mlp",
        "spatial",
    ),
)
OTHER_FORMS = (
    _of("BAM", "BAM", bam, "mlp", "reduce", "wide", "out"),
    _of("coordinate attention", "coordinate attention", coordinates, "first", "second", "third"),
    _of("attention gate", "attention gate", unet_gate, "down", "left", "right", "psi"),
)


def _of_the_zoo(name: str, init: str) -> Dialect:
    return Dialect(f"of the zoo, {init}", lambda: stirred(Equipment(name, init=init).block(C)), (KINDS[name].title,))


OF_THE_ZOO = tuple(_of_the_zoo(name, init) for name in KINDS for init in ("paper", "identity"))
NEWER_FORMS = (
    _of(
        "scSE, both gated maps added",
        "scSE",
        lambda m, x: x * torch.sigmoid(m.mlp(mean(x))) + x * torch.sigmoid(m.mask(x)),
        "mlp",
        "mask",
    ),
    _of("sSE alone", "sSE", lambda m, x: x * torch.sigmoid(m.mask(x)), "mask"),
    _of("GCT by a norm", "GCT", gct),
    _of("SimAM, one place less", "SimAM", lambda m, x: x * torch.sigmoid(squares(x) / (4 * variance(x)) + 0.5)),
)
TWINS = (
    _of("gate of each place and channel", "gate", lambda m, x: x * torch.sigmoid(m.fc(x)), "fc"),
    _of("GCT without a comparison", "gate", lambda m, x: x * (1 + torch.tanh(squares(x).sum((2, 3), keepdim=True)))),
    _of("distance, not squared", "gate", lambda m, x: x * torch.sigmoid((x - mean(x)) / variance(x).sqrt())),
    _of("two plus tanh", "", lambda m, x: x * (2 + torch.tanh(m.mlp(mean(x)))), "mlp"),
    _of("gathered by a full convolution", "gate", lambda m, x: x * gathered(torch.sigmoid(m.stride(x)), x), "stride"),
    _of("gathered, and not brought back", "", lambda m, x: x * gathered(m.deep(x), x), "deep"),
    _of("swish of one", "", lambda m, x: x * torch.sigmoid(1.0 * x)),
    _of("swish of 1.7", "", lambda m, x: x * torch.sigmoid(1.702 * x)),
    _of("swish by exp", "", lambda m, x: x / (1 + torch.exp(-x))),
    _of("swish by exp, multiplied", "", lambda m, x: x * (1 / (1 + torch.exp(-x)))),
    _of("GELU by tanh", "", lambda m, x: x * (0.5 * (1 + torch.tanh(0.79788 * (x + 0.044715 * x**3))))),
    _of("hard swish in parts", "", lambda m, x: x * (F.relu6(x + 3) / 6)),
    _of("no sigmoid", "", lambda m, x: x * torch.tanh(m.mlp(mean(x))), "mlp"),
    _of("exp alone", "", lambda m, x: x * torch.exp(-m.mlp(mean(x))), "mlp"),
    _of(
        "einsum with a sum",
        "",
        lambda m, x: (
            torch.einsum("bchw,bc->bhw", x, torch.sigmoid(m.mlp(mean(x))).flatten(1)).unsqueeze(1).expand_as(x)
        ),
        "mlp",
    ),
    _of("gate of a map's neighbour", "", lambda m, x: F.relu(m.down(x)) * torch.sigmoid(m.fc(x)), "down", "fc"),
    _of("two gates of other maps", "SE", lambda m, x: F.relu(m.down(x * torch.sigmoid(m.mlp(mean(x))))), "mlp", "down"),
)
DIALECTS = (*SE_FORMS, *CBAM_FORMS, *OTHER_FORMS, *NEWER_FORMS, *OF_THE_ZOO, *TWINS)
