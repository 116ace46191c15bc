"""Random weights for a network that is run without having been trained.

An untrained network is only useful for testing an export when its activations neither explode nor die out, its
BatchNorms do something and its gates are neither all open nor all shut. A framework's defaults give none of the three
in eval mode: BatchNorm is the identity, every residual addition doubles the variance, and with the depth every gate
saturates.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

# A residual branch adds a quarter of its input's spread, so fifty in a row stay well inside float16's range.
BRANCH_SCALE = 0.25
# Root mean square of a gate's pre-activation: sigmoid takes it to values between 0.1 and 0.9.
GATE_SPREAD = 1.0
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
# The first layers of the channel gates.
SQUEEZES = (".fc.0", ".fc1")
CALIBRATION_IMAGES = 6
CALIBRATION_SIZE = 96


def initialize(network: nn.Module, in_channels: int = 3, size: int = CALIBRATION_SIZE, seed: int = 0) -> None:
    """Draw every parameter and BatchNorm statistic of ``network`` from ``seed``, in place.

    Convolutions and linear layers keep the variance through a ReLU (He et al., "Delving Deep into Rectifiers", 2015,
    https://arxiv.org/abs/1502.01852, equation 10). Then a few random images go through once; each BatchNorm takes the
    statistics of what it sees, and the layer before each gate is scaled to a given spread, one after the other as in
    Mishkin and Matas, "All you need is a good init", 2016, https://arxiv.org/abs/1511.06422.

    Args:
        network: takes (N, in_channels, H, W), float32.
        in_channels: channels of the images.
        size: H and W of the images; at most `CALIBRATION_SIZE` of it is used.
        seed: of the weights and of the images.
    """
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        draw_weights(network, draw)
        calibrate(network, natural_images(in_channels, min(size, CALIBRATION_SIZE), draw))


def draw_weights(network: nn.Module, draw: torch.Generator) -> None:
    """Parameters only; BatchNorm statistics are zero and one afterwards."""
    branch_ends = set(last_norms_of_residual_branches(network))
    for module in network.modules():
        if isinstance(module, LAYERS):
            gain = 2.0 if isinstance(module, nn.Conv2d) else 1.0
            module.weight.normal_(0, math.sqrt(gain / module.weight[0].numel()), generator=draw)
            if module.bias is not None:
                module.bias.uniform_(-0.1, 0.1, generator=draw)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            scale = BRANCH_SCALE if module in branch_ends else 1.0
            module.weight.uniform_(0.8 * scale, 1.2 * scale, generator=draw)
            module.bias.uniform_(-0.1, 0.1, generator=draw)
        else:  # a block's own parameters, such as GCT's
            for parameter in module.parameters(recurse=False):
                parameter.normal_(generator=draw)


def last_norms_of_residual_branches(network: nn.Module) -> list[nn.BatchNorm2d]:
    """The BatchNorm that ends each residual branch: the last of a block, shortcut's and attention's left out."""
    ends = []
    for block in network.modules():
        if not getattr(block, "has_shortcut", hasattr(block, "downsample")):
            continue
        elsewhere = ("downsample", "attention")
        named = ((name, m) for name, m in block.named_modules() if isinstance(m, nn.BatchNorm2d))
        norms = [m for name, m in named if not name.startswith(elsewhere)]
        ends.append(norms[-1])
    return ends


def natural_images(channels: int, size: int, draw: torch.Generator) -> torch.Tensor:
    """(N, C, size, size) float32: from soft large shapes to pure noise, each with mean 0 and spread 1."""
    shapes = torch.randn(CALIBRATION_IMAGES, channels, 4, 4, generator=draw)
    shapes = nn.functional.interpolate(shapes, size=(size, size), mode="bilinear")
    noise = torch.randn(shapes.shape, generator=draw)
    share = torch.linspace(0, 1, CALIBRATION_IMAGES)[:, None, None, None]
    images = (1 - share) * shapes + share * noise
    images -= images.mean((1, 2, 3), keepdim=True)
    return images / images.std((1, 2, 3), keepdim=True)


def calibrate(network: nn.Module, images: torch.Tensor) -> None:
    """One forward pass in which every BatchNorm learns its statistics and every gate's layers their scale and sign."""
    weighted: list[nn.Module] = []
    turned: set[nn.Module] = set()

    def remember(module: nn.Module, *_: object) -> None:
        weighted.append(module)

    def turn(module: nn.Module, _: object, output: torch.Tensor) -> torch.Tensor | None:
        """Make a gate's hidden channels positive on average.

        Of one or two channels, all would often be dead behind the ReLU, and the gate would not depend on its input.
        """
        if module in turned:  # CBAM's layers are used twice, and were turned at the first use
            return None
        turned.add(module)
        sign = torch.where(output.transpose(0, 1).flatten(1).mean(1) < 0, -1.0, 1.0)  # one for each hidden channel
        for tensor in module.parameters(recurse=False):
            tensor.mul_(sign.view(-1, *[1] * (tensor.dim() - 1)))
        return output * sign.view(1, -1, *[1] * (output.dim() - 2))

    def spread(_: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        """Scale the layer before a gate's sigmoid."""
        factor = GATE_SPREAD / inputs[0].square().mean().sqrt().clamp_min(1e-6)
        for tensor in weighted[-1].parameters(recurse=False):
            tensor.mul_(factor)
        return (inputs[0] * factor,)

    with ExitStack() as hooks, statistics_learned(network):
        for name, module in network.named_modules():
            if name.endswith(SQUEEZES):
                hooks.callback(module.register_forward_hook(turn).remove)
            if isinstance(module, (*LAYERS, nn.BatchNorm2d)):
                hooks.callback(module.register_forward_hook(remember).remove)
            elif isinstance(module, nn.Sigmoid | nn.Hardsigmoid):
                hooks.callback(module.register_forward_pre_hook(spread).remove)
        network(images)


@contextmanager
def statistics_learned(network: nn.Module) -> Iterator[None]:
    """Inside, every BatchNorm's statistics are those of the batch at hand, and nothing older."""
    norms = [(m, m.training, m.momentum) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    try:
        for norm, _, _ in norms:
            norm.train()
            norm.momentum = 1.0
        yield
    finally:
        for norm, training, momentum in norms:
            norm.train(training)
            norm.momentum = momentum
