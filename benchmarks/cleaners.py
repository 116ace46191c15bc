"""Networks of others: nodes that each cleaner leaves, and TensorRT-RTX kernels of the export and of our form.

    python benchmarks/cleaners.py [--only resnet10t+cbam,two_blocks] [--kernels legacy_seresnet18,...] [--save]
                                  [--peers-python PATH]

timm's networks have random weights and 64 x 64 images; ``NAME+BLOCK`` is a network with that attention in each block.
Both of PyTorch's exporters write them, with an open batch. The networks of PP-OCR come from the wheel
rapidocr-onnxruntime. What isn't installed is left out. ``--save`` writes results/cleaners.json.
"""

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from cleanup import entry, node_count
from common import words_of
from corpus import Corpus, Row, exported, in_worker, say
from torch import nn

RESULT = Path(__file__).parent / "results" / "cleaners.json"
TOOLS = ("onnxslim", "onnxsim")
SHAPE = (3, 64, 64)
TIMM = (
    *("legacy_seresnet18", "regnety_002", "mobilenetv3_small_050", "efficientnet_b0", "ghostnet_050", "rexnet_100"),
    *("ese_vovnet19b_slim_dw", "ecaresnet50t", "skresnet18", "nf_regnet_b0"),
    *(f"resnet10t+{block}" for block in ("se", "ese", "eca", "ecam", "ceca", "cbam", "lcbam", "coord", "gc", "gca")),
)
KERNELS = ("resnet10t+se", "resnet10t+cbam", "mobilenetv3_small_050", "coordinate", "two_blocks")
WHEEL = "rapidocr_onnxruntime"


class Squeeze(nn.Module):
    """SE with Linear layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // 4), nn.ReLU(), nn.Linear(channels // 4, channels), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) like x."""
        n, c, _, _ = x.size()
        gate = self.fc(nn.functional.adaptive_avg_pool2d(x, 1).view(n, c)).view(n, c, 1, 1)
        return x * gate.expand_as(x)


class Coordinate(nn.Module):
    """Coordinate attention, as in "Coordinate Attention for Efficient Mobile Network Design", 2021."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, 8, 1), nn.BatchNorm2d(8), nn.Hardswish())
        self.rows, self.columns = nn.Conv2d(8, channels, 1), nn.Conv2d(8, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) like x."""
        _, _, h, w = x.size()
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).permute(0, 1, 3, 2)
        rows, columns = torch.split(self.first(torch.cat([rows, columns], dim=2)), [h, w], dim=2)
        return x * self.columns(columns.permute(0, 1, 3, 2)).sigmoid() * self.rows(rows).sigmoid()


def blocks(*kinds: type[nn.Module]) -> nn.Module:
    """Four residual blocks with attention of these kinds in a row."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1)]
    for _ in range(4):
        layers += [nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
        layers += [kind(32) for kind in kinds]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def cbam(channels: int) -> nn.Module:
    """CBAM of this project."""
    from attn_export.models.attention.cbam import CBAM

    return CBAM(channels)


OURS: dict[str, tuple[Any, ...]] = {
    "linear_se": (Squeeze,),
    "coordinate": (Coordinate,),
    "two_blocks": (Squeeze, cbam),
    "two_coordinates": (Coordinate, Squeeze),
}


def module_of(network: str) -> nn.Module | None:
    """The network with random weights; None if it isn't there."""
    torch.manual_seed(0)
    if network in OURS:
        return blocks(*OURS[network]).eval()
    if find_spec("timm") is None:
        return None
    timm: Any = importlib.import_module("timm")

    name, _, block = network.partition("+")
    made: nn.Module = timm.create_model(name, **({"block_args": {"attn_layer": block}} if block else {}))
    return made.eval()


def files(folder: Path, only: list[str]) -> Iterator[tuple[str, str, Path]]:
    """Networks, their exporters, and the files."""
    from attn_export.exporter.system.quiet import quiet

    for network in (*OURS, *TIMM):
        module = module_of(network) if not only or network in only else None
        for form in ("dynamo", "legacy") if module is not None else ():
            say(f"exporting {network}, {form}")
            with quiet():
                path = exported(module, form, folder / f"{network}.{form}.onnx", SHAPE)
            yield network, form, path
    spec = find_spec(WHEEL)
    for path in sorted((Path(spec.origin).parent / "models").glob("*.onnx")) if spec and spec.origin else ():
        if not only or path.stem in only:
            yield path.stem, "paddle", path


def measure(corpus: Corpus, options: argparse.Namespace) -> Iterator[Row]:
    """A row for each file."""
    for network, form, path in files(corpus.folder, options.only):
        row: Row = {"network": network, "form": form, "exported": node_count(path)}
        row |= {tool: entry(corpus.report(path, tool), "nodes") for tool in (*TOOLS, "ours")}
        if network in options.kernels:
            for name, file in {"exported": path, "ours": corpus.out(path, "ours")}.items():
                row[f"kernels_{name}"] = entry(in_worker(sys.executable, "kernels", file, file), "kernels")
        yield row


def shown(row: Row) -> str:
    """A row of the table in docs/cleanup.md."""
    columns = ("network", "form", "exported", *TOOLS, "ours", "kernels_exported", "kernels_ours")
    return "| " + " | ".join(str(row.get(column, "")) for column in columns) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", type=words_of, default=[])
    parser.add_argument("--kernels", type=words_of, default=list(KERNELS))
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        corpus = Corpus(Path(folder), options.peers_python)
        for row in measure(corpus, options):
            print(shown(row), flush=True)
            rows.append(row)
            if options.save:
                RESULT.write_text(
                    json.dumps({"versions": corpus.versions(), "rows": rows}, indent=1) + "\n", encoding="utf-8"
                )


if __name__ == "__main__":
    main()
