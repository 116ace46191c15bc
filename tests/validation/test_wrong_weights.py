"""Files of other weights or another forward pass than the checkpoint's, as real mistakes make them.

Each is exported by torch's older exporter, as it is, in float16, and with one quantized pair.
"""

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import nn

from attn_export.exporter.errors import DisagreementError
from attn_export.exporter.records.results import Validated
from attn_export.exporter.workflows.validate import validate_artifacts
from tests.faults.planting import Subject
from tests.validation.test_float_part import pair_before_everything

Change = Callable[[nn.Module], nn.Module]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return cache(lambda name: Subject(name, tmp_path_factory.mktemp(name)))("cbam_digits")


def by_parameter(change: Callable[[torch.Tensor], torch.Tensor], only: type = nn.Module) -> Change:
    def made(module: nn.Module) -> nn.Module:
        for submodule in module.modules():
            for parameter in submodule.parameters(recurse=False) if isinstance(submodule, only) else ():
                parameter.data = change(parameter.data)
        return module

    return made


def one_step_later(size: float) -> Change:
    draw = torch.Generator().manual_seed(0)
    return by_parameter(lambda p: p + size * torch.randn(p.shape, generator=draw))


def as_tf32(parameter: torch.Tensor) -> torch.Tensor:
    bits = parameter.numpy().view(np.uint32)
    return torch.tensor(((bits + 0x1000) & 0xFFFFE000).astype(np.uint32).view(np.float32))


def other_statistics(module: nn.Module) -> nn.Module:
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        assert norm.running_var is not None
        norm.running_var *= 1.01
    return module


def normalized_inside(module: nn.Module) -> nn.Module:
    class Normalized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner((x - 0.3) / 0.3)

    return Normalized()


def no_bias(module: nn.Module) -> nn.Module:
    module.get_submodule("fc").bias.data.zero_()  # type: ignore[operator]
    return module


# Relative errors of the outputs from 2e-6 to 5.
SMALL: dict[str, Change] = {
    "one small step of training later": one_step_later(1e-6),
    "decayed by 1e-5": by_parameter(lambda p: p * (1 - 1e-5)),
    "through float16": by_parameter(lambda p: p.half().float()),
    "convolutions in TF32": by_parameter(as_tf32, nn.Conv2d),
    "small weights flushed": by_parameter(lambda p: torch.where(p.abs() < 1e-3, 0.0, p)),
}
LARGE: dict[str, Change] = {
    "some training later": one_step_later(1e-2),
    "clipped": by_parameter(lambda p: p.clamp(-0.3, 0.3)),
    "other statistics": other_statistics,
    "normalized inside": normalized_inside,
    "without its last bias": no_bias,
}


def exported(subject: Subject, change: Change | None, path: Path) -> Path:
    module = copy.deepcopy(subject.model.module).eval()
    example, axes = torch.zeros(2, *subject.model.inputs[0].shape[1:]), {"input": {0: "n"}, "output": {0: "n"}}
    named: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"], "dynamic_axes": axes}
    with torch.no_grad():
        module = change(module).eval() if change else module
        torch.onnx.export(module, (example,), str(path), dynamo=False, opset_version=17, **named)
    return path


def in_float16(path: Path) -> None:
    onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), path)
    model = ir.load(path)
    model.graph.sort()  # the converter doesn't
    ir.save(model, path)


def with_one_pair(path: Path) -> None:
    model = onnx.load(path)
    pair_before_everything(model)
    onnx.save(model, path)


def judged(subject: Subject, path: Path) -> Validated:
    (found,) = validate_artifacts(subject.model, [path], threads=1)
    return found


USUAL = (None, "one small step of training later", "without its last bias")  # the others in `make test-all` alone


@pytest.mark.parametrize(
    "name", [*USUAL, *(pytest.param(n, marks=pytest.mark.full) for n in (*SMALL, *LARGE) if n not in USUAL)]
)
def test_a_float32_file(name: str | None, subject: Subject, tmp_path: Path) -> None:
    change = {**SMALL, **LARGE}[name] if name else None
    found = judged(subject, exported(subject, change, tmp_path / "a.onnx"))
    assert isinstance(found.error, DisagreementError) is (name is not None)


@pytest.mark.full
@pytest.mark.parametrize("name", [None, *SMALL, *LARGE])
def test_a_file_with_one_quantized_pair(name: str | None, subject: Subject, tmp_path: Path) -> None:
    change = {**SMALL, **LARGE}[name] if name else None
    path = exported(subject, change, tmp_path / "a.onnx")
    with_one_pair(path)
    assert isinstance(judged(subject, path).error, DisagreementError) is (name is not None)


@pytest.mark.full
@pytest.mark.parametrize("name", [None, *LARGE])
def test_a_float16_file(name: str | None, subject: Subject, tmp_path: Path) -> None:
    """Small ones are below float16's own error."""
    path = exported(subject, LARGE[name] if name else None, tmp_path / "a.onnx")
    in_float16(path)
    assert isinstance(judged(subject, path).error, DisagreementError) is (name is not None)
