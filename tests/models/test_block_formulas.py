"""scSE, BAM, coordinate attention, SimAM, GCT, triplet attention and gather-excite against their papers' formulas."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attn_export.models.attention.catalogue import KINDS

C, H, W = 8, 6, 5


def layer(w: dict[str, Tensor], name: str, x: Tensor, **how: int) -> Tensor:
    return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), **how)


def norm(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, variance, weight, bias = (
        w[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def scse(w: dict[str, Tensor], x: Tensor) -> Tensor:
    channel = layer(w, "cSE.3", layer(w, "cSE.1", x.mean((2, 3), keepdim=True)).relu())
    return x * channel.sigmoid() + x * layer(w, "sSE.0", x).sigmoid()


def bam(w: dict[str, Tensor], x: Tensor) -> Tensor:
    pooled = x.mean((2, 3), keepdim=True)
    channel = norm(w, "channel_att.4", layer(w, "channel_att.3", layer(w, "channel_att.1", pooled).relu()))
    y = norm(w, "spatial_att.1", layer(w, "spatial_att.0", x)).relu()
    for i in (3, 6):
        y = norm(w, f"spatial_att.{i + 1}", layer(w, f"spatial_att.{i}", y, padding=4, dilation=4)).relu()
    return x + x * (channel + norm(w, "spatial_att.10", layer(w, "spatial_att.9", y))).sigmoid()


def coordinate(w: dict[str, Tensor], x: Tensor) -> Tensor:
    hidden = lambda y: F.hardswish(norm(w, "bn1", layer(w, "conv1", y)))  # noqa: E731
    rows = layer(w, "conv_h", hidden(x.mean(3, keepdim=True)))
    columns = layer(w, "conv_w", hidden(x.mean(2, keepdim=True)))
    return x * rows.sigmoid() * columns.sigmoid()


def simam(w: dict[str, Tensor], x: Tensor) -> Tensor:
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
    energy = 4 * (variance + 1e-4) / ((x - mean) ** 2 + 2 * variance + 2e-4)  # equation 5
    return x * (1 / energy).sigmoid()  # equation 6


def gct(w: dict[str, Tensor], x: Tensor) -> Tensor:
    s = w["alpha"] * (x.flatten(2).norm(dim=2)[..., None, None] ** 2 + 1e-5).sqrt()
    normalized = C**0.5 * s / (s.flatten(1).norm(dim=1)[:, None, None, None] ** 2 + C * 1e-5).sqrt()
    return x * (1 + torch.tanh(w["gamma"] * normalized + w["beta"]))


def triplet(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """As the authors write it: the map is turned around, gated, and turned back."""

    def gated(name: str, turned: Tensor) -> Tensor:
        pooled = torch.cat([turned.amax(1, keepdim=True), turned.mean(1, keepdim=True)], 1)
        return turned * norm(w, f"{name}.conv.bn", layer(w, f"{name}.conv.conv", pooled, padding=3)).sigmoid()

    cw = gated("cw", x.permute(0, 2, 1, 3)).permute(0, 2, 1, 3)
    hc = gated("hc", x.permute(0, 3, 2, 1)).permute(0, 3, 2, 1)
    return (cw + hc + gated("hw", x)) / 3


def gather_excite(w: dict[str, Tensor], x: Tensor) -> Tensor:
    y = norm(w, "gather.1", layer(w, "gather.0", x, stride=2, padding=1, groups=C)).relu()
    y = norm(w, "gather.4", layer(w, "gather.3", y, stride=2, padding=1, groups=C))
    rows, columns = torch.arange(H) * y.shape[2] // H, torch.arange(W) * y.shape[3] // W
    return x * y[:, :, rows][..., columns].sigmoid()


FORMULAS = {
    "scse": scse,
    "bam": bam,
    "coord": coordinate,
    "simam": simam,
    "gct": gct,
    "triplet": triplet,
    "ge": gather_excite,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_block_computes_its_papers_formula(name):
    torch.manual_seed(0)
    block = KINDS[name].build(C).double().eval()
    for part in block.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
        x = 2 * torch.randn(3, C, H, W, dtype=torch.float64)
        expected = FORMULAS[name](block.state_dict(), x)
        torch.testing.assert_close(block(x), expected)
    assert (expected / x).std() > 0.01, "a gate that is the same everywhere would prove nothing"


TRIPLET = ("conv.weight", "bn.weight", "bn.bias")


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        ("scse", "cSE.1.weight cSE.1.bias cSE.3.weight cSE.3.bias sSE.0.weight sSE.0.bias"),
        ("coord", "conv1.weight conv1.bias bn1.weight bn1.bias conv_h.weight conv_h.bias conv_w.weight conv_w.bias"),
        ("gct", "alpha gamma beta"),
        ("triplet", " ".join(f"{b}.conv.{p}" for b in ("cw", "hc", "hw") for p in TRIPLET)),
        ("simam", ""),
    ],
)  # fmt: skip
def test_parameters_have_the_names_of_the_published_networks(name, tensors):
    assert [n for n, _ in KINDS[name].build(16).named_parameters()] == tensors.split()
