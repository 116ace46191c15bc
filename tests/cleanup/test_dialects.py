"""The inventory's kind of every spelling, from both exporters, before and after a cleanup."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup.inspect import inspect_file
from attn_export.exporter.workflows.clean import clean_file
from tests.cleanup.dialects import DIALECTS, Dialect
from tests.cleanup.spellings import Way, difference, export, noise, run

WAYS = (Way("legacy", 17), pytest.param(Way("dynamo", 18), marks=pytest.mark.full))


class Around(nn.Module):
    """A convolution, the block, and a convolution behind it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 16, 3, padding=1), block, nn.Conv2d(16, 4, 1)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.block(torch.relu(self.stem(x))))
        return out


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: f"{dialect.kinds}-{dialect}")
def test_every_dialect_has_its_kind(dialect: Dialect, way: Way, tmp_path: Path) -> None:
    source = export(Around(dialect.make()), tmp_path / "a.onnx", way, noise(2, 3, 12, 12))
    blocks = inspect_file(source)
    assert tuple(block.kind for block in blocks) == dialect.kinds
    result = clean_file(source, tmp_path / "b.onnx", target=Target.ANY, threads=1)
    assert result.cleaned.reverted == ()
    assert tuple(block.kind for block in result.cleaned.blocks) == dialect.kinds
    images = noise(3, 3, 12, 12)
    assert difference(run(result.path, input=images)[0], run(source, input=images)[0]) < 1e-5
    assert result.nodes_after <= result.nodes_before
    assert np.isfinite([block.nodes_before for block in blocks]).all()
