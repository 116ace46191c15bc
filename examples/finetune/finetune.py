"""Give a trained network attention and fine-tune it: what a block brings, and what it costs.

    python examples/finetune/finetune.py

trains a plain network on handwritten digits, puts SE, CBAM or ECA behind its stages, trains each a little further, and
the plain one as long, as a control; then exports all four, proves the files, and times them against each other.
"""

import argparse
import copy
import math
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from attn_export.cli import run
from attn_export.exporter import ExportSettings, export
from attn_export.exporter.report.tables import table
from attn_export.models import attention_of, equip

SHAPE = (1, 1, 16, 16)
HELD_OUT = 898  # a half: 899 images are few enough that the networks still err
ATTENTIONS = ("none", "se", "cbam", "eca")


@dataclass(frozen=True)
class Part:
    """Images (N, 1, 16, 16), normalized, and their labels (N,)."""

    images: torch.Tensor
    labels: torch.Tensor


class Plain(nn.Module):
    """Three stages of two convolutions, as anyone may have written it; (N, 1, H, W) -> (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1, self.stage2, self.stage3 = stage(1, 8, 1), stage(8, 16, 2), stage(16, 32, 2)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images to logits."""
        logits: torch.Tensor = self.head(self.stage3(self.stage2(self.stage1(x))).mean((2, 3)))
        return logits


def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Two 3x3 convolutions, the first with the stride."""
    layers: list[nn.Module] = []
    for channels, step in ((inputs, stride), (outputs, 1)):
        convolution = nn.Conv2d(channels, outputs, 3, step, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def load() -> tuple[Part, Part]:
    """The part to train on and the part held out."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    images = nn.functional.interpolate((images - 0.305) / 0.376, size=SHAPE[2:], mode="bilinear")
    train, held_out = train_test_split(range(len(labels)), test_size=HELD_OUT, stratify=labels, random_state=0)
    numbers = torch.tensor(labels)
    return Part(images[train], numbers[train]), Part(images[held_out], numbers[held_out])


def train(network: nn.Module, part: Part, epochs: int, rate: float, seed: int) -> nn.Module:
    """The network after ``epochs`` passes, in eval mode."""
    draw = torch.Generator().manual_seed(seed)
    batches = epochs * math.ceil(len(part.labels) / 64)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=batches)
    network.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(part.labels), generator=draw).split(64):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(part.images[batch]), part.labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def errors(network: nn.Module, part: Part) -> int:
    """How many images are read wrongly."""
    return int((network(part.images).argmax(1) != part.labels).sum())


def main() -> int:
    """Train, equip, fine-tune, export, time."""
    options = argparse.ArgumentParser(description="Fine-tune a plain network with SE, CBAM and ECA.")
    options.add_argument("--epochs", type=int, default=8, help="before, and the same number after")
    options.add_argument("--seeds", type=int, default=5, help="networks of each kind; the median counts")
    options.add_argument("--out", type=Path, default=Path("out/finetune"))
    options.add_argument("--no-bench", action="store_true", help="don't time the files")
    chosen = options.parse_args()
    torch.set_num_threads(1)

    training, held_out = load()
    before: dict[str, list[int]] = {attention: [] for attention in ATTENTIONS}
    after: dict[str, list[int]] = {attention: [] for attention in ATTENTIONS}
    networks: dict[str, nn.Module] = {}
    for seed in range(chosen.seeds):
        torch.manual_seed(seed)
        trained = train(Plain(), training, chosen.epochs, 4e-3, seed)
        for attention in ATTENTIONS:
            network = copy.deepcopy(trained)
            if attention != "none":
                equip(network, attention, "stage", input_shape=SHAPE)
            before[attention].append(errors(network, held_out))
            networks[attention] = train(network, training, chosen.epochs, 2e-3, seed)
            after[attention].append(errors(networks[attention], held_out))

    rows = table(
        f"Errors in {HELD_OUT} held-out digits", "attention", "blocks", "parameters", "before", "after", "seeds"
    )
    files = []
    for attention, network in networks.items():
        result = export(
            network, input_shape=SHAPE, out=chosen.out, name=attention, settings=ExportSettings(runtimes=())
        )
        files.append(str(result.onnx))
        parameters = sum(p.numel() for p in network.parameters())
        medians = [f"{statistics.median(counts[attention]):g}" for counts in (before, after)]
        seeds = " ".join(map(str, after[attention]))
        rows.add_row(attention, str(len(attention_of(network))), f"{parameters:,}", *medians, seeds)
    Console(soft_wrap=True, highlight=False).print(rows)
    return 0 if chosen.no_bench else run(["bench", *files, "--runtimes", "onnxruntime", "--quiet"])


if __name__ == "__main__":
    sys.exit(main())
