"""Attention blocks as people write them, in small networks, and both of PyTorch's exporters to make files of them.

Every spelling computes one of five kinds of block. What differs is what differs in published code: Linear layers or 1x1
convolutions, which function pools, how the gate gets its two axes back.
"""

import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 12
CHANNELS = 16
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU}


class WrittenOutHardSigmoid(nn.Module):
    """As MobileNetV3's first implementations have it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + 3.0) / 6.0


GATES: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "hardsigmoid": nn.Hardsigmoid,
    "relu6": WrittenOutHardSigmoid,
}


def map_of(x: Tensor) -> tuple[int, int]:
    """H and W as numbers: neither exporter takes a kernel that is computed."""
    return int(x.size(2)), int(x.size(3))


def pooled(x: Tensor, pool: str) -> Tensor:
    """(N, C, H, W) -> (N, C, 1, 1), or (N, C) for those that lose the axes."""
    batch, channels = x.shape[:2]
    if pool == "adaptive":
        return F.adaptive_avg_pool2d(x, 1)
    if pool == "mean":
        return x.mean((2, 3))
    if pool == "mean kept":
        return x.mean((2, 3), keepdim=True)
    if pool == "mean of means":
        return x.mean(3, keepdim=True).mean(2, keepdim=True)
    if pool == "view":
        return x.view(batch, channels, -1).mean(-1)
    assert pool == "kernel"
    return F.avg_pool2d(x, kernel_size=map_of(x))


def given_back(gate: Tensor, x: Tensor, back: str) -> Tensor:
    """(N, C) -> what can be multiplied with x."""
    batch, channels = x.shape[:2]
    if back == "view":
        return gate.view(batch, channels, 1, 1)
    if back == "expand":
        return gate.view(batch, channels, 1, 1).expand_as(x)
    if back == "index":
        return gate[:, :, None, None]
    assert back == "unsqueeze"
    return gate.unsqueeze(2).unsqueeze(3)


class SqueezeExcite(nn.Module):
    """Hu et al., https://arxiv.org/abs/1709.01507."""

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 4,
        linear: bool = True,
        bias: bool = True,
        activation: str = "relu",
        gate: str = "sigmoid",
        pool: str = "adaptive",
        back: str = "view",
    ) -> None:
        super().__init__()
        hidden = channels // reduction
        self.linear, self.pool, self.back = linear, pool, back
        self.reduce = nn.Linear(channels, hidden, bias=bias) if linear else nn.Conv2d(channels, hidden, 1, bias=bias)
        self.act = ACTIVATIONS[activation]()
        self.expand = nn.Linear(hidden, channels, bias=bias) if linear else nn.Conv2d(hidden, channels, 1, bias=bias)
        self.gate = GATES[gate]()

    def forward(self, x: Tensor) -> Tensor:
        p = pooled(x, self.pool)
        if self.linear:
            return x * given_back(self.gate(self.expand(self.act(self.reduce(p.flatten(1))))), x, self.back)
        if p.ndim == 2:
            p = p[:, :, None, None]
        return x * self.gate(self.expand(self.act(self.reduce(p))))


class EfficientChannelAttention(nn.Module):
    """Wang et al., https://arxiv.org/abs/1910.03151, as its authors' code has it."""

    def __init__(self, channels: int, *, kernel: int = 3) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y = self.avg_pool(x)
        y = self.conv(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * self.sigmoid(y).expand_as(x)


class ChannelGate(nn.Module):
    """CBAM's first half: one perceptron for the mean and the maximum. Woo et al., https://arxiv.org/abs/1807.06521."""

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 4,
        linear: bool = False,
        bias: bool | None = None,
        pool: str = "adaptive",
        max_first: bool = False,
        back: str = "expand",
    ) -> None:
        super().__init__()
        hidden, bias = channels // reduction, linear if bias is None else bias
        self.linear, self.pool, self.max_first, self.back = linear, pool, max_first, back
        layers: list[nn.Module] = (
            [nn.Flatten(), nn.Linear(channels, hidden, bias=bias), nn.ReLU(), nn.Linear(hidden, channels, bias=bias)]
            if linear
            else [nn.Conv2d(channels, hidden, 1, bias=bias), nn.ReLU(), nn.Conv2d(hidden, channels, 1, bias=bias)]
        )
        self.mlp = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        if self.pool == "kernel":
            size = map_of(x)
            mean, maximum = F.avg_pool2d(x, size, stride=size), F.max_pool2d(x, size, stride=size)
        elif self.pool == "reduce":
            mean, maximum = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        else:
            mean, maximum = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        parts = [self.mlp(maximum), self.mlp(mean)] if self.max_first else [self.mlp(mean), self.mlp(maximum)]
        logits = parts[0] + parts[1]
        if not self.linear:
            return x * torch.sigmoid(logits)
        if self.back == "expand":  # Jongchan Park's
            return x * torch.sigmoid(logits).unsqueeze(2).unsqueeze(3).expand_as(x)
        return x * given_back(torch.sigmoid(logits), x, self.back)


class SpatialGate(nn.Module):
    """CBAM's second half: a convolution over the mean and the maximum of all channels."""

    def __init__(
        self, _: int = 0, *, kernel: int = 7, norm: bool = False, largest: str = "max", max_first: bool = False
    ) -> None:
        super().__init__()
        self.max, self.max_first = largest, max_first
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(1, eps=1e-5, momentum=0.01) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.max == "max":
            mean, maximum = torch.mean(x, 1).unsqueeze(1), torch.max(x, 1)[0].unsqueeze(1)
        else:
            mean, maximum = x.mean(1, keepdim=True), x.amax(1, keepdim=True)
        both = torch.cat([maximum, mean] if self.max_first else [mean, maximum], dim=1)
        return x * torch.sigmoid(self.bn(self.conv(both)))


class Cbam(nn.Module):
    def __init__(self, channels: int, *, spatial: dict[str, Any] | None = None, **channel: Any) -> None:
        super().__init__()
        self.channel = ChannelGate(channels, **channel)
        self.spatial = SpatialGate(**(spatial or {}))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.spatial(self.channel(x))
        return out


@dataclass(frozen=True)
class Spelling:
    """One way to write a block.

    Attributes:
        make: the module, for a number of channels.
        kind, reduction, kernel: what the inventory should say of it.
        most: nodes of the canonical form, the multiplication included.
        any_size: whether it can be exported with open height and width; a kernel of H x W is a number in the graph.
    """

    name: str
    make: Callable[[int], nn.Module]
    kind: str
    reduction: int | None
    kernel: int | None
    most: int
    any_size: bool = True

    def __str__(self) -> str:
        return self.name


# ReduceMean, Conv, activation, Conv, Sigmoid, Mul. SiLU is a Sigmoid and a Mul.
SE_NODES = 6
# ReduceMean, Reshape to (N, 1, C), Conv, Reshape to (N, C, 1, 1), Sigmoid, Mul.
ECA_NODES = 6
# ReduceMean and ReduceMax, Conv and Relu for each, Add, Conv, Sigmoid, Mul.
CHANNEL_NODES = 10
# ReduceMean, ReduceMax, Concat, Conv, Sigmoid, Mul.
SPATIAL_NODES = 6


def _se(name: str, **options: Any) -> Spelling:
    most = SE_NODES + (options.get("activation") == "silu")
    make = lambda channels: SqueezeExcite(channels, **options)  # noqa: E731
    return Spelling(f"SE {name}", make, "SE", options.get("reduction", 4), None, most, options.get("pool") != "kernel")


def _eca(name: str, kernel: int) -> Spelling:
    make = lambda channels: EfficientChannelAttention(channels, kernel=kernel)  # noqa: E731
    return Spelling(f"ECA {name}", make, "ECA", None, kernel, ECA_NODES)


def _cbam(name: str, **options: Any) -> Spelling:
    kernel = options.get("spatial", {}).get("kernel", 7)
    most, any_size = CHANNEL_NODES + SPATIAL_NODES, options.get("pool") != "kernel"
    return Spelling(
        f"CBAM {name}", lambda c: Cbam(c, **options), "CBAM", options.get("reduction", 4), kernel, most, any_size
    )


SPELLINGS: tuple[Spelling, ...] = (
    _se("with Linear layers"),
    _se("with Linear layers, no bias, expanded", bias=False, back="expand"),
    _se("with Linear layers, mean, indexed", pool="mean", back="index"),
    _se("with Linear layers, mean of a view, unsqueezed", pool="view", back="unsqueeze", reduction=2),
    _se("with Linear layers, a kernel of the map", pool="kernel", back="view"),
    _se("with Linear layers, hard sigmoid", gate="hardsigmoid", back="expand"),
    _se("with Linear layers, hard sigmoid written out", gate="relu6", pool="mean"),
    _se("with Linear layers, SiLU", activation="silu", pool="mean", bias=False),
    _se("with convolutions", linear=False),
    _se("with convolutions, no bias, mean kept", linear=False, bias=False, pool="mean kept"),
    _se("with convolutions, mean of means", linear=False, pool="mean of means", reduction=8),
    _se("with convolutions, mean of a view", linear=False, pool="view"),
    _se("with convolutions, SiLU, a kernel of the map", linear=False, activation="silu", pool="kernel"),
    _se("with convolutions, hard sigmoid", linear=False, gate="hardsigmoid", pool="mean kept"),
    _se("with convolutions, hard sigmoid written out", linear=False, gate="relu6"),
    _eca("over 3", 3),
    _eca("over 5", 5),
    _cbam("with convolutions"),
    _cbam("with convolutions and biases, maximum first", bias=True, max_first=True, spatial={"max_first": True}),
    _cbam("with convolutions, reduced, kernel 3", pool="reduce", spatial={"kernel": 3, "largest": "amax"}),
    _cbam("with convolutions, kernels of the map, BatchNorm", pool="kernel", spatial={"norm": True}),
    _cbam("with Linear layers", linear=True, back="view"),
    _cbam("with Linear layers, kernels of the map, BatchNorm", linear=True, pool="kernel", spatial={"norm": True}),
    _cbam(
        "with Linear layers, no bias, reduced, maximum first",
        linear=True,
        bias=False,
        pool="reduce",
        max_first=True,
        back="index",
        spatial={"kernel": 3, "max_first": True, "norm": True, "largest": "amax"},
    ),
    Spelling("CBAM channel only, with convolutions", lambda c: ChannelGate(c), "CBAM channel", 4, None, CHANNEL_NODES),
    Spelling(
        "CBAM channel only, with Linear layers",
        lambda c: ChannelGate(c, linear=True, reduction=2, back="unsqueeze"),
        "CBAM channel",
        2,
        None,
        CHANNEL_NODES,
    ),
    Spelling("CBAM spatial only", lambda c: SpatialGate(c), "CBAM spatial", None, 7, SPATIAL_NODES),
    Spelling(
        "CBAM spatial only, BatchNorm, kernel 3",
        lambda c: SpatialGate(c, norm=True, kernel=3, largest="amax"),
        "CBAM spatial",
        None,
        3,
        SPATIAL_NODES,
    ),
)


class Stage(nn.Module):
    """A convolution, a block behind it, and perhaps a sum around both."""

    def __init__(self, channels: int, attention: nn.Module, *, residual: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.attention = attention
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        if self.residual:
            return F.relu(x + self.attention(y))
        out: Tensor = self.attention(F.relu(y))
        return out


class Network(nn.Module):
    """Stem, stages, classifier; weights, and BatchNorm's statistics, are random, none of them 0 or 1."""

    def __init__(self, *spellings: Spelling, channels: int = CHANNELS, residual: bool = False, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
            self.bn = nn.BatchNorm2d(channels)
            self.stages = nn.Sequential(
                *(Stage(channels, spelling.make(channels), residual=residual) for spelling in spellings)
            )
            self.head = nn.Linear(channels, 5)
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    for tensor, low, high in (
                        (module.weight, 0.6, 1.4),
                        (module.bias, -0.3, 0.3),
                        (module.running_mean, -0.3, 0.3),
                        (module.running_var, 0.5, 1.5),
                    ):
                        assert isinstance(tensor, Tensor)
                        nn.init.uniform_(tensor, low, high)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(F.relu(self.bn(self.stem(x))))
        out: Tensor = self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return out


def nodes_around(stages: int) -> int:
    """Conv and Relu of the stem and of each stage; the pool, a view and the linear layer of the classifier."""
    return 2 + 2 * stages + 3


@dataclass(frozen=True)
class Way:
    """How a file is made: by which exporter, of which opset, with which axes open ("", "batch" or "batch and map")."""

    exporter: str
    opset: int
    open_axes: str = "batch"

    def __str__(self) -> str:
        return f"{self.exporter}, opset {self.opset}, {self.open_axes or 'nothing'} open"


LEGACY = (Way("legacy", 17), Way("legacy", 13), Way("legacy", 11), Way("legacy", 17, ""))
DYNAMO = (Way("dynamo", 18), Way("dynamo", 20), Way("dynamo", 18, ""))
EVERY_MAP = (Way("legacy", 17, "batch and map"), Way("dynamo", 20, "batch and map"))


def example(batch: int = 2, height: int = SIZE, width: int = SIZE, seed: int = 5) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal((batch, 3, height, width), dtype=np.float32)


def export(network: nn.Module, path: Path, way: Way, images: np.ndarray[Any, Any] | None = None) -> Path:
    """The network as a file, as `torch.onnx.export` writes it."""
    tensor = torch.from_numpy(example() if images is None else images)
    axes = {"": {}, "batch": {0: "batch"}, "batch and map": {0: "batch", 2: "height", 3: "width"}}[way.open_axes]
    names: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"], "opset_version": way.opset}
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        if way.exporter == "legacy":
            torch.onnx.export(network, (tensor,), str(path), dynamo=False, dynamic_axes={"input": axes}, **names)
        else:
            shapes = {"x": {axis: torch.export.Dim(name, min=1) for axis, name in axes.items()}}
            torch.onnx.export(
                network,
                (tensor,),
                str(path),
                dynamo=True,
                dynamic_shapes=shapes if axes else None,
                external_data=False,
                verbose=False,
                **names,
            )
    return path


def run(model: Path | bytes, **feeds: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """All outputs in ONNX Runtime, as the graph stands: none of its own optimizations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
    )
    return [np.asarray(output) for output in session.run(None, feeds)]


def difference(got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """Relative, in the 2-norm."""
    assert got.shape == expected.shape
    size = float(np.linalg.norm(expected.astype(np.float64)))
    assert size > 1e-3, "zeros would prove nothing"
    return float(np.linalg.norm(got.astype(np.float64) - expected.astype(np.float64))) / size


def parsed(text: str, **weights: np.ndarray[Any, Any]) -> onnx.ModelProto:
    """A model in ONNX's text form (https://onnx.ai/onnx/repo-docs/Syntax.html), with weights by their names."""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def noise(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


# x is gated by a vector that is computed from {source}.
SE_NODES_OF = """p = GlobalAveragePool({source})  h = Conv(p, w1, b1)  r = Relu(h)  l = Conv(r, w2, b2)  g = Sigmoid(l)
    y = Mul(x, g)"""


def se_weights(dtype: Any = np.float32) -> dict[str, np.ndarray[Any, Any]]:
    shapes = {"w1": (4, 16, 1, 1), "b1": (4,), "w2": (16, 4, 1, 1), "b2": (16,)}
    return {name: noise(*shape, dtype=dtype) for name, shape in shapes.items()}
