"""The inventory's kind of every spelling, from both exporters, before and after a cleanup."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup.inspect import inspect_file
from attn_export.exporter.graph.attention.ablation import without_attention
from attn_export.exporter.graph.read import named, read
from attn_export.exporter.graph.session import PlainSession
from attn_export.exporter.workflows.clean import clean_file
from tests.cleanup.dialects import DIALECTS, Dialect
from tests.cleanup.spellings import Way, difference, export, noise, run

LEGACY = Way("legacy", 17)
Exported = Callable[[Dialect, Way], Path]
WAYS = (LEGACY, pytest.param(Way("dynamo", 18), marks=pytest.mark.full))


class Around(nn.Module):
    """A convolution, the block, and a convolution behind it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 16, 3, padding=1), block, nn.Conv2d(16, 4, 1)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.block(torch.relu(self.stem(x))))
        return out


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A dialect's file, made once."""
    folder = tmp_path_factory.mktemp("dialects")

    @cache
    def of(dialect: Dialect, way: Way) -> Path:
        path = folder / f"{len(list(folder.iterdir()))}.onnx"
        return export(Around(dialect.make()), path, way, noise(2, 3, 12, 12))

    return of


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: f"{dialect.kinds}-{dialect}")
def test_every_dialect_has_its_kind(exported: Exported, dialect: Dialect, way: Way, tmp_path: Path) -> None:
    source = exported(dialect, way)
    blocks = inspect_file(source)
    assert tuple(block.kind for block in blocks) == dialect.kinds
    result = clean_file(source, tmp_path / "b.onnx", target=Target.ANY, threads=1)
    assert result.cleaned.reverted == ()
    assert tuple(block.kind for block in result.cleaned.blocks) == dialect.kinds
    images = noise(3, 3, 12, 12)
    assert difference(run(result.path, input=images)[0], run(source, input=images)[0]) < 1e-5
    assert result.nodes_after <= result.nodes_before
    assert np.isfinite([block.nodes_before for block in blocks]).all()


@pytest.mark.parametrize("dialect", [d for d in DIALECTS if d.kinds], ids=lambda d: f"{d.kinds}-{d}")
def test_every_dialect_can_be_taken_out(exported: Exported, dialect: Dialect) -> None:
    """What attention costs is measured against the same graph without it."""
    source = exported(dialect, LEGACY)
    ablated = without_attention(named(read(source)), inspect_file(source))
    assert ablated is not None
    left = {node.op_type for node in ablated.graph} - {"Constant"}
    assert left == {"Conv", "Relu"}
    PlainSession(ablated, 1, source.parent).run({"input": noise(2, 3, 12, 12)})


class Padded(nn.Conv2d):
    """A convolution behind a pad of its own, as TensorFlow's "same" is written."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride)


class Partial(nn.Module):
    """Adds a map to the first channels of a wider one in place, as ReXNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(16, 20, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.wide(x))
        y[:, :16] += x
        return y[:, 2:18]


class Split(nn.Module):
    """Splits rows from columns by sizes that are computed in the graph, as coordinate attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.size(2), x.size(3)
        y = F.relu(self.both(torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], 2)))
        rows, columns = torch.split(y, [height, width], dim=2)
        return x + rows + columns.transpose(2, 3)


LEFT = [
    (Padded(16, 16, 3), "legacy", "Conv Relu Conv Conv"),
    (Partial(), "dynamo", "Conv Relu Conv Relu Slice Add Slice Concat Slice Conv"),
    (Split(), "legacy", "Conv Relu ReduceMean ReduceMean Reshape Concat Conv Relu Slice Slice Add Reshape Add Conv"),
]


@pytest.mark.parametrize(("block", "exporter", "left"), LEFT, ids=["pads", "parts", "splits"])
def test_computed_sizes_and_indices_leave_nothing(block: nn.Module, exporter: str, left: str, tmp_path: Path) -> None:
    source = export(Around(block), tmp_path / "a.onnx", Way(exporter, 18), noise(2, 3, 12, 12))
    result = clean_file(source, tmp_path / "b.onnx", threads=1)
    assert result.cleaned.reverted == ()
    assert sorted(node.op_type for node in onnx.load(result.path).graph.node) == sorted(left.split())
    images = noise(3, 3, 12, 12)
    assert difference(run(result.path, input=images)[0], run(source, input=images)[0]) < 1e-5
