"""Float16 files of others that overflow wherever kernels are float16, and not in ONNX Runtime on a CPU."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import nn

from attn_export.exporter.artifacts import Normalization, only_input
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.errors import DisagreementError
from attn_export.exporter.network.batches import batches
from attn_export.exporter.records.results import Validated
from attn_export.exporter.workflows.onnx_files import untried_range
from attn_export.exporter.workflows.validate import validate_artifacts

SHAPE = (3, 32, 32)


class Scaled(nn.Module):
    """The second convolution undoes the scale of the first."""

    def __init__(self, scale: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1, bias=False), nn.Linear(8, 4)
        self.first.weight.data *= scale
        self.second.weight.data /= scale
        self.shift = shift

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        return self.head((self.second(x) + self.shift).mean((2, 3)))


class Masked(Scaled):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = super().forward(x)
        masked = torch.where(torch.tensor([True, True, True, False]), scores, torch.tensor(float("-inf")))
        return torch.softmax(masked, 1)


def judged(module: nn.Module, folder: Path) -> Validated:
    module.eval()
    source, path = folder / "float32.onnx", folder / "float16.onnx"
    axes = {"input": {0: "n"}, "output": {0: "n"}}
    named: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"], "dynamic_axes": axes}
    torch.onnx.export(module, (torch.zeros(2, *SHAPE),), str(source), dynamo=False, opset_version=17, **named)
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True, max_finite_val=65000.0), path)
    model = ir.load(path)
    model.graph.sort()  # the converter doesn't
    ir.save(model, path)
    (found,) = validate_artifacts(from_module(module, only_input(SHAPE)), [path], threads=1)
    return found


def test_values_beyond_the_range_between_two_layers_are_a_fault(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = judged(Scaled(2e5), tmp_path)
    assert isinstance(found.error, DisagreementError)
    assert "overflows float16: /first/Conv_output_0 (of first) reaches" in found.error.message


@pytest.mark.parametrize("module", [Scaled(), Scaled(100.0), Masked()], ids=["plain", "scaled", "masked"])
def test_values_within_the_range_are_none(module: nn.Module, tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = judged(module, tmp_path)
    assert found.error is None
    assert not [note for note in found.notes if "overflow" in note]


def test_a_mean_whose_sum_is_beyond_the_range_is_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = judged(Scaled(shift=100.0), tmp_path)
    assert found.error is None
    assert [note for note in found.notes if "/ReduceMean overflow float16 where a kernel adds in float16" in note]


# What an export has tried.


def test_an_export_says_which_images_float16_was_tried_on() -> None:
    model = from_module(Scaled(), only_input(SHAPE))
    tried = batches(model.inputs)
    assert "tried on images with values up to" in untried_range(model, tried)
    normalized = replace(model, normalization=Normalization((0.5,) * 3, (0.25,) * 3))
    assert untried_range(normalized, tried) == ""
    pixels = tuple(replace(taken, range=(0.0, 255.0)) for taken in model.inputs)
    assert untried_range(replace(model, inputs=pixels), batches(pixels)) == ""
    real = {"input": np.full((2, *SHAPE), 255, np.float32)}
    assert untried_range(model, batches(model.inputs, real=real)) == ""
