"""ResNets and attention blocks as others write and name them, in plain code of our own, to compare outputs with.

Each network keeps the names of its parameters, the order of its operations and its constants; nothing else.
"""

import torch
import torch.nn.functional as F
from torch import nn


def drawn(network: nn.Module) -> nn.Module:
    """In eval mode; BatchNorm statistics are those of images, so gates are neither open nor shut."""
    draw = torch.Generator().manual_seed(3)
    for name, tensor in network.state_dict().items():
        if tensor.dim() == 1:
            low = 0.5 if name.endswith("weight") else -0.5
            tensor.uniform_(low, low + 1, generator=draw)
        elif tensor.is_floating_point() and tensor.dim():
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=draw)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(8, 3, 48, 48, generator=draw))
    return network.eval().requires_grad_(False)


# Squeeze-and-excitation. Each class is called on the map and gives the map times the gate.


class SELinear(nn.Module):
    """moskomule/senet.pytorch."""

    def __init__(self, c, r=4):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(c, c // r, bias=False), nn.ReLU(), nn.Linear(c // r, c, bias=False), nn.Sigmoid()
        )

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class SEConvolution(nn.Module):
    """timm, Cadene, pytorchcv: two convolutions with biases, under several names."""

    def __init__(self, c, r=4, names=("fc1", "fc2"), divisor=1):
        super().__init__()
        hidden = max(divisor, round(c / r / divisor) * divisor)
        self.names = names
        self.add_module(names[0], nn.Conv2d(c, hidden, 1))
        self.add_module(names[1], nn.Conv2d(hidden, c, 1))

    def forward(self, x):
        first, second = (getattr(self, name) for name in self.names)
        return x * torch.sigmoid(second(F.relu(first(F.adaptive_avg_pool2d(x, 1)))))


class SEExcitation(nn.Module):
    """weiaicunzai/pytorch-cifar100."""

    def __init__(self, c, r=4):
        super().__init__()
        self.excitation = nn.Sequential(nn.Linear(c, c // r), nn.ReLU(), nn.Linear(c // r, c), nn.Sigmoid())

    def forward(self, x):
        return x * self.excitation(x.mean((2, 3)))[:, :, None, None]


class SESequential(nn.Sequential):
    """As in many tutorials: the whole gate is one Sequential."""

    def __init__(self, c, r=4):
        pool, first, second = nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c // r, 1), nn.Conv2d(c // r, c, 1)
        super().__init__(pool, first, nn.ReLU(), second, nn.Sigmoid())

    def forward(self, x):
        return x * super().forward(x)


class ECA(nn.Module):
    """timm and BangguWu/ECANet."""

    def __init__(self, c):
        super().__init__()
        k = 3 if c < 128 else 5
        self.conv = nn.Conv1d(1, 1, k, padding=k // 2, bias=False)

    def forward(self, x):
        return x * torch.sigmoid(self.conv(x.mean((2, 3))[:, None]))[:, 0, :, None, None]


# CBAM: channel gate, then spatial gate.


def channel_gate(x, mlp, *, flat):
    pooled = [F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)]
    a, b = (mlp(p.flatten(1) if flat else p) for p in pooled)
    return torch.sigmoid(a + b).reshape(*x.shape[:2], 1, 1)


def summary(x, *, maximum_first):
    both = [x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]]
    return torch.cat(both[::-1] if maximum_first else both, 1)


class AuthorsChannelGate(nn.Module):
    def __init__(self, c, r):
        super().__init__()
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(c, c // r), nn.ReLU(), nn.Linear(c // r, c))


class ConvNorm(nn.Module):
    def __init__(self, *sizes, **options):
        super().__init__()
        self.conv = nn.Conv2d(*sizes, bias=False, **options)
        self.bn = nn.BatchNorm2d(sizes[1])

    def forward(self, x):
        return self.bn(self.conv(x))


class AuthorsCBAM(nn.Module):
    """Jongchan/attention-module."""

    def __init__(self, c, r=4):
        super().__init__()
        self.ChannelGate = AuthorsChannelGate(c, r)
        self.SpatialGate = nn.Module()
        self.SpatialGate.spatial = ConvNorm(2, 1, 7, padding=3)

    def forward(self, x):
        x = x * channel_gate(x, self.ChannelGate.mlp, flat=False)
        return x * torch.sigmoid(self.SpatialGate.spatial(summary(x, maximum_first=True)))


class ConvolutionMLP(nn.Module):
    def __init__(self, c, r=4):
        super().__init__()
        self.fc = nn.Sequential(nn.Conv2d(c, c // r, 1, bias=False), nn.ReLU(), nn.Conv2d(c // r, c, 1, bias=False))


class CaSa(nn.Module):
    """luuuyi/CBAM.PyTorch: ``ca`` and ``sa`` stand in the residual block itself, so names have no word before them."""

    def __init__(self, c, r=4):
        super().__init__()
        self.ca = ConvolutionMLP(c, r)
        self.sa = nn.Module()
        self.sa.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x):
        x = channel_gate(x, self.ca.fc, flat=False) * x
        return torch.sigmoid(self.sa.conv1(summary(x, maximum_first=False))) * x


class TutorialCBAM(nn.Module):
    """As in many tutorials."""

    def __init__(self, c, r=4):
        super().__init__()
        self.channel_attention = ConvolutionMLP(c, r)
        self.spatial_attention = nn.Module()
        self.spatial_attention.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x):
        x = x * channel_gate(x, self.channel_attention.fc, flat=False)
        return x * torch.sigmoid(self.spatial_attention.conv(summary(x, maximum_first=False)))


class SharedCBAM(nn.Module):
    """As in other tutorials: a pool or Flatten stands before the layers, and nothing has a line between its words."""

    def __init__(self, c, r=4):
        super().__init__()
        self.ChannelAttention = nn.Module()
        layers = nn.Linear(c, c // r, bias=False), nn.ReLU(), nn.Linear(c // r, c, bias=False)
        self.ChannelAttention.shared_MLP = nn.Sequential(nn.Flatten(), *layers)
        self.SpatialAttention = nn.Module()
        self.SpatialAttention.conv = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x):
        x = x * channel_gate(x, self.ChannelAttention.shared_MLP, flat=False)
        return x * torch.sigmoid(self.SpatialAttention.conv(summary(x, maximum_first=False)))


class BottleneckCBAM(nn.Module):
    """elbuco1/CBAM."""

    def __init__(self, c, r=4):
        super().__init__()
        self.channel_attention = nn.Module()
        self.channel_attention.bottleneck = nn.Sequential(nn.Linear(c, c // r), nn.ReLU(), nn.Linear(c // r, c))
        self.spatial_attention = nn.Module()
        self.spatial_attention.conv = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x):
        x = x * channel_gate(x, self.channel_attention.bottleneck, flat=True)
        return x * torch.sigmoid(self.spatial_attention.conv(summary(x, maximum_first=True)))


class TwoLayers(nn.Module):
    def __init__(self, make, c, r):
        super().__init__()
        self.fc1, self.fc2 = make(c, c // r), make(c // r, c)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))


class PytorchcvCBAM(nn.Module):
    """osmr/pytorchcv."""

    def __init__(self, c, r=4):
        super().__init__()
        self.ch_gate = nn.Module()
        self.ch_gate.mlp = TwoLayers(nn.Linear, c, r)
        self.sp_gate = nn.Module()
        self.sp_gate.conv = ConvNorm(2, 1, 7, padding=3)

    def forward(self, x):
        x = x * channel_gate(x, self.ch_gate.mlp, flat=True)
        return x * torch.sigmoid(self.sp_gate.conv(summary(x, maximum_first=True)))


class TimmCBAM(nn.Module):
    """timm.layers.CbamModule."""

    def __init__(self, c, r=4):
        super().__init__()
        self.channel = TwoLayers(lambda a, b: nn.Conv2d(a, b, 1, bias=False), c, r)
        self.spatial = nn.Module()
        self.spatial.conv = ConvNorm(2, 1, 7, padding=3)

    def forward(self, x):
        x = x * channel_gate(x, self.channel, flat=False)
        return x * torch.sigmoid(self.spatial.conv(summary(x, maximum_first=False)))


class SeedCBAM(nn.Module):
    """This project's names."""

    def __init__(self, c, r=4):
        super().__init__()
        self.ChannelGate = TwoLayers(lambda a, b: nn.Conv2d(a, b, 1, bias=False), c, r)
        self.SpatialGate = nn.Module()
        self.SpatialGate.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x):
        x = x * channel_gate(x, self.ChannelGate, flat=False)
        return x * torch.sigmoid(self.SpatialGate.conv1(summary(x, maximum_first=False)))


# ResNets.


def layers_of(kind, c_in, width, stride, *, bias=False, stride_first=False):
    """Convolutions of one residual branch."""
    if kind == "basic":
        return [
            nn.Conv2d(c_in, width, 3, stride, 1, bias=bias),
            nn.Conv2d(width, width, 3, 1, 1, bias=bias),
        ], width
    first, second = (stride, 1) if stride_first else (1, stride)
    return [
        nn.Conv2d(c_in, width, 1, first, bias=bias),
        nn.Conv2d(width, width, 3, second, 1, bias=bias),
        nn.Conv2d(width, 4 * width, 1, bias=bias),
    ], 4 * width


def shortcut_of(c_in, c_out, stride, *, bias=False):
    if stride == 1 and c_in == c_out:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=bias), nn.BatchNorm2d(c_out))


class Block(nn.Module):
    """conv1, bn1, ... and an attention under ``word``, or with its parts in the block itself where that is empty."""

    def __init__(self, kind, c_in, width, stride, attention, word, *, shortcut="downsample", relu=False, **branch):
        super().__init__()
        convolutions, self.c_out = layers_of(kind, c_in, width, stride, **branch)
        for i, convolution in enumerate(convolutions, 1):
            self.add_module(f"conv{i}", convolution)
            self.add_module(f"bn{i}", nn.BatchNorm2d(convolution.out_channels))
        self.count, self.relu, self.shortcut_word = len(convolutions), relu, shortcut
        self.add_module(shortcut, shortcut_of(c_in, self.c_out, stride))
        self.attend = [attention(self.c_out)] if attention else []
        for name, part in (
            [(word, self.attend[0])]
            if word and attention
            else [pair for a in self.attend for pair in a.named_children()]
        ):
            self.add_module(name, part)

    def forward(self, x):
        out = x
        for i in range(1, self.count + 1):
            out = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(out))
            out = F.relu(out) if i < self.count or self.relu else out
        for attention in self.attend:
            out = attention(out)
        return F.relu(out + getattr(self, self.shortcut_word)(x))


class ResNet(nn.Module):
    """torchvision's names, or kuangliu's."""

    def __init__(
        self, kind="basic", attention=None, word="se", *, depths=(1, 2, 1), width=16, stem=7, head="fc", **block
    ):
        super().__init__()
        self.stem, self.word, self.depth = stem, head, len(depths)
        self.conv1 = nn.Conv2d(3, width, stem, 2 if stem == 7 else 1, stem // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        c = width
        for i, depth in enumerate(depths):
            blocks = []
            for j in range(depth):
                stride = 2 if i and not j else 1
                blocks.append(Block(kind, c, width * 2**i, stride, attention, word, **block))
                c = blocks[-1].c_out
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.add_module(head, nn.Linear(c, 5))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, 2, 1) if self.stem == 7 else x
        for i in range(self.depth):
            x = getattr(self, f"layer{i + 1}")(x)
        return getattr(self, self.word)(x.mean((2, 3)))


class Cadene(nn.Module):
    """Cadene's and timm's legacy SENets: layer0, last_linear, and Caffe's pool."""

    def __init__(self, kind, *, relu=False, stride_first=False, groups=1):
        super().__init__()
        self.layer0 = nn.Sequential()
        self.layer0.add_module("conv1", nn.Conv2d(3, 16, 7, 2, 3, bias=False))
        self.layer0.add_module("bn1", nn.BatchNorm2d(16))
        c = 16
        for i in range(3):
            stride = 2 if i else 1
            block = Block(kind, c, 16 * 2**i, stride, SEConvolution, "se_module", relu=relu, stride_first=stride_first)
            if groups > 1:
                inner = block.conv2.in_channels
                block.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
            self.add_module(f"layer{i + 1}", nn.Sequential(block))
            c = block.c_out
        self.last_linear = nn.Linear(c, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.layer0(x)), 3, 2, ceil_mode=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.last_linear(x.mean((2, 3)))


class PytorchcvUnit(nn.Module):
    def __init__(self, kind, c_in, width, stride, attention, word, **branch):
        super().__init__()
        convolutions, self.c_out = layers_of(kind, c_in, width, stride, **branch)
        self.body = nn.Module()
        for i, convolution in enumerate(convolutions, 1):
            layer = nn.Module()
            layer.conv, layer.bn = convolution, nn.BatchNorm2d(convolution.out_channels)
            self.body.add_module(f"conv{i}", layer)
        if stride != 1 or c_in != self.c_out:
            self.identity_conv = ConvNorm(c_in, self.c_out, 1, stride=stride)
        self.word = word
        self.add_module(word, attention(self.c_out) if attention else nn.Identity())

    def forward(self, x):
        out = x
        layers = list(self.body.children())
        for layer in layers:
            out = layer.bn(layer.conv(out))
            out = out if layer is layers[-1] else F.relu(out)
        identity = self.identity_conv(x) if hasattr(self, "identity_conv") else x
        return F.relu(getattr(self, self.word)(out) + identity)


class Pytorchcv(nn.Module):
    """osmr/pytorchcv."""

    def __init__(self, kind, attention, word, depths=(1, 2, 1), **branch):
        super().__init__()
        self.features = nn.Sequential()
        init = nn.Sequential()
        init.add_module("conv", ConvNorm(3, 16, 7, stride=2, padding=3))
        self.features.add_module("init_block", init)
        c = 16
        for i, depth in enumerate(depths):
            stage = nn.Sequential()
            for j in range(depth):
                unit = PytorchcvUnit(kind, c, 16 * 2**i, 2 if i and not j else 1, attention, word, **branch)
                stage.add_module(f"unit{j + 1}", unit)
                c = unit.c_out
            self.features.add_module(f"stage{i + 1}", stage)
        self.output = nn.Linear(c, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.features.init_block(x)), 3, 2, 1)
        for stage in list(self.features)[1:]:
            x = stage(x)
        return self.output(x.mean((2, 3)))


class Sequenced(nn.Module):
    """One block of weiaicunzai/pytorch-cifar100; its branch is a Sequential."""

    def __init__(self, kind, c_in, width, stride, *, senet):
        super().__init__()
        convolutions, self.c_out = layers_of(kind, c_in, width, stride, bias=senet)
        parts = [m for conv in convolutions for m in (conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU())]
        self.word = "residual" if senet else "residual_function"
        self.add_module(self.word, nn.Sequential(*(parts if senet else parts[:-1])))
        self.shortcut = shortcut_of(c_in, self.c_out, stride, bias=senet)
        self.attend = [SEExcitation(self.c_out)] if senet else []
        if senet:
            self.excitation = self.attend[0].excitation

    def forward(self, x):
        out = getattr(self, self.word)(x)
        for attention in self.attend:
            out = attention(out)
        return F.relu(out + self.shortcut(x))


class Weiaicunzai(nn.Module):
    """weiaicunzai/pytorch-cifar100: ``models/resnet.py`` and ``models/senet.py``."""

    def __init__(self, kind, *, senet):
        super().__init__()
        self.words = ["pre", "stage1", "stage2", "stage3"] if senet else ["conv1", "conv2_x", "conv3_x", "conv4_x"]
        stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=senet), nn.BatchNorm2d(16), nn.ReLU())
        self.add_module(self.words[0], stem)
        c = 16
        for i, word in enumerate(self.words[1:]):
            blocks = []
            for j in range(2):
                blocks.append(Sequenced(kind, c, 16 * 2**i, 2 if i and not j else 1, senet=senet))
                c = blocks[-1].c_out
            self.add_module(word, nn.Sequential(*blocks))
        self.head = "linear" if senet else "fc"
        self.add_module(self.head, nn.Linear(c, 5))

    def forward(self, x):
        for word in self.words:
            x = getattr(self, word)(x)
        return getattr(self, self.head)(x.mean((2, 3)))
