"""Kinds of networks that others bring: recurrent heads, outputs that aren't floats, normalization of constant maps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.errors import CaptureError, DisagreementError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.network.arithmetic import in_double
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import batches
from attn_export.exporter.network.capture import capture
from attn_export.exporter.network.observation import evaluating
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.validation.compute_reference import compute_reference
from attn_export.exporter.validation.metrics import PooledError
from attn_export.exporter.validation.prove import omitted_kinds
from attn_export.exporter.validation.validate import validate
from attn_export.exporter.workflows.export import export
from attn_export.exporter.workflows.settings import ExportSettings
from attn_export.exporter.workflows.validate import validate_artifacts
from attn_export.models.attention.squeeze_excite import SEBlock
from tests.validation.exporting import assert_good, exported


class Reader(nn.Module):
    """Convolution, SE, height averaged away, a recurrent layer over the width, as for reading text."""

    def __init__(self, recurrent: Callable[..., nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.se = nn.Conv2d(1, 8, 3, padding=1), SEBlock(8, reduction=2)
        self.recurrent = recurrent(8, 6, bidirectional=True, batch_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        columns = self.se(torch.relu(self.conv(x))).mean(2).permute(0, 2, 1)
        return self.head(self.recurrent(columns)[0])


@pytest.mark.parametrize("recurrent", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_run_in_double_with_their_own_weights(recurrent: Callable[..., nn.Module]) -> None:
    module = Reader(recurrent).eval()
    image = torch.randn(1, 1, 8, 12, dtype=torch.float64)
    with evaluating(module), in_double():
        ours = module(image)
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    with torch.no_grad():
        torch.testing.assert_close(ours, module.double()(image), rtol=1e-13, atol=1e-14)


def test_a_recurrent_head_is_exported(tmp_path: Path) -> None:
    assert_good(exported(from_module(Reader(nn.LSTM).eval(), (1, 8, 12)), tmp_path), gates=1)


class Compares(nn.Module):
    """Converts to the type of its weight, to float32 or back, and compares types, as code for mixed precision does."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.linear, self.how = nn.Linear(4, 4), how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.linear.weight
        if self.how == "checks" and x.dtype != weight.dtype:
            raise ValueError(f"{x.dtype} isn't {weight.dtype}")
        converted = {
            "checks": lambda: x,
            "to the weight's type": lambda: x.to(weight.dtype),
            "type_as": lambda: x.type_as(weight),
            "float()": lambda: x.float(),
            "to(float32)": lambda: x.to(torch.float32),
            "to(dtype=float32)": lambda: x.to(dtype=torch.float32),
            "zeros": lambda: x + torch.ones(4, dtype=torch.float32) / 3,
        }[self.how]()
        return self.linear(converted.softmax(-1, dtype=torch.float32) + converted)


@pytest.mark.parametrize(
    "how", ["checks", "to the weight's type", "type_as", "float()", "to(float32)", "to(dtype=float32)", "zeros"]
)
def test_no_conversion_to_float32_rounds_the_reference(how: str) -> None:
    torch.manual_seed(0)
    module, x = Compares(how).eval(), torch.randn(2, 4, dtype=torch.float64)
    with torch.no_grad():
        weight, bias = module.linear.weight.double(), module.linear.bias.double()
        inner = x + 1 / torch.tensor(3.0, dtype=torch.float64) if how == "zeros" else x
        expected = (inner.softmax(-1) + inner) @ weight.T + bias
    with evaluating(module), in_double():
        torch.testing.assert_close(module(x), expected, rtol=1e-14, atol=1e-15)


class Returns(nn.Module):
    """Scores, and what a function makes of them."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.se, self.head = nn.Conv2d(3, 8, 3, padding=1), SEBlock(8, reduction=2), nn.Conv2d(8, 2, 1)
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        scores = self.head(self.se(torch.relu(self.conv(x))))
        return scores, self.function(scores)


DISCRETE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "bool": lambda s: s > 0,
    "int64": lambda s: s.argmax(1),
    "int32": lambda s: s.argmax(1).to(torch.int32),
    "uint8": lambda s: s.argmax(1).to(torch.uint8),
    "int8": lambda s: (s > 0).to(torch.int8),
}


@pytest.mark.parametrize("kind", DISCRETE)
def test_outputs_that_are_no_floats_are_compared_element_by_element(kind: str, tmp_path: Path) -> None:
    assert_good(exported(from_module(Returns(DISCRETE[kind]).eval(), (3, 16, 16)), tmp_path), gates=1)


@pytest.mark.parametrize("kind", ["complex64", "bfloat16"])
def test_an_output_that_no_runtime_returns_is_refused_in_words(kind: str) -> None:
    model = from_module(Returns(lambda s: s.to(getattr(torch, kind))).eval(), (3, 16, 16))
    with pytest.raises(CaptureError, match=f"returns {kind}") as caught:
        compute_reference(model, batches(opened(model.inputs)))
    assert caught.value.hint


@pytest.mark.parametrize("dtype", [bool, np.int64, np.uint8, np.int8])
def test_the_error_of_whole_numbers_is_how_many_differ_not_by_how_much(dtype: type) -> None:
    exact: Any = np.arange(8).reshape(1, 8).astype(dtype)
    computed = exact.copy()
    computed[0, 0] = 1
    error = PooledError()
    error.add(computed, exact, ("noise",))
    assert error.relative()["noise"] == pytest.approx((1 / 8) ** 0.5)


class Style(nn.Module):
    """InstanceNorm behind a convolution: of zeros it gets constant maps, and divides rounding errors."""

    def __init__(self, seed: int, fault: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        norm = lambda: nn.InstanceNorm2d(8, affine=True)  # noqa: E731
        self.first = nn.Sequential(nn.ReflectionPad2d(2), nn.Conv2d(3, 8, 5), norm(), nn.ReLU())
        self.second = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(8, 8, 3), norm(), nn.ReLU())
        self.se, self.last = SEBlock(8, reduction=2), nn.Conv2d(8, 3, 3)
        nn.init.constant_(self.first[1].bias, 3.0)  # type: ignore[arg-type]
        self.fault = fault

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.last(x + self.se(self.second(x) * self.fault))


@pytest.mark.parametrize("seed", range(4))
def test_rounding_errors_of_constant_maps_that_a_normalization_divides_are_no_disagreement(
    seed: int, tmp_path: Path
) -> None:
    verdict = exported(from_module(Style(seed).eval(), (3, 24, 24)), tmp_path)
    assert verdict.agrees, verdict.first_disagreement
    assert "noise" in verdict.worst_of("output").ratios  # type: ignore[union-attr]


class ByHand(nn.Module):
    """What InstanceNorm computes, spelled out."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        apart = x - x.mean((2, 3), keepdim=True)
        return apart / (apart.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()


NORMALIZATIONS: dict[str, Callable[[], nn.Module]] = {
    "group of one": lambda: nn.GroupNorm(8, 8),
    "group of four": lambda: nn.GroupNorm(2, 8),
    "all channels": lambda: nn.GroupNorm(1, 8),
    "by hand": ByHand,
}


@pytest.mark.parametrize("bias", [0.3, 5.0])
@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_no_normalization_of_constant_maps_gives_a_false_alarm(kind: str, bias: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    norm = NORMALIZATIONS[kind]
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), norm(), nn.ReLU(), nn.Conv2d(8, 8, 3), norm(), nn.ReLU(), SEBlock(8, reduction=2)
    )
    nn.init.constant_(module[0].bias, bias)  # type: ignore[arg-type]
    verdict = exported(from_module(module.eval(), (3, 20, 20)), tmp_path)
    assert verdict.agrees, verdict.first_disagreement


def test_a_fault_behind_a_normalization_of_constant_maps_is_still_found(tmp_path: Path) -> None:
    model, faulty = (from_module(Style(0, fault).eval(), (3, 24, 24)) for fault in (1.0, 1.001))
    reference = compute_reference(model, batches(opened(model.inputs)))
    graph, _ = clean_graph(capture(faulty))
    verdict = validate(onnx_file.write(graph, tmp_path / "faulty.onnx"), reference, Settings(threads=1))
    assert not verdict.agrees


def test_kinds_of_images_that_rounding_decides_are_named(tmp_path: Path) -> None:
    model = from_module(Style(0).eval(), (3, 24, 24))
    reference = compute_reference(model, batches(opened(model.inputs)))
    notes = omitted_kinds(exported(model, tmp_path), reference)
    assert any("zeros" in note and "output" in note for note in notes)
    plain = from_module(Returns(DISCRETE["bool"]).eval(), (3, 16, 16))
    reference = compute_reference(plain, batches(opened(plain.inputs)))
    assert omitted_kinds(exported(plain, tmp_path), reference) == []


class Dropped(nn.Module):
    """A pool whose divisor PyTorch's exporter drops, between a convolution and SE."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.se = nn.Conv2d(3, 8, 3, padding=1), SEBlock(8, reduction=2)
        self.pool = nn.AvgPool2d(2, divisor_override=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.se(self.pool(torch.relu(self.conv(x))))


def test_what_pytorchs_exporter_computes_otherwise_is_an_error_that_names_the_module(tmp_path: Path) -> None:
    settings = ExportSettings(runtimes=(), threads=1)
    with pytest.raises(DisagreementError, match="the error starts in pool: ") as caught:
        export(Dropped().eval(), (1, 3, 16, 16), tmp_path, settings=settings)
    assert caught.value.exit_code == 1
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize("kind", DISCRETE)
def test_an_exported_file_with_outputs_that_are_no_floats_is_validated(kind: str, tmp_path: Path) -> None:
    module = Returns(DISCRETE[kind]).eval()
    made = export(module, (1, 3, 16, 16), tmp_path, settings=ExportSettings(runtimes=(), threads=1))
    (found,) = validate_artifacts(from_module(module, (3, 16, 16)), made.onnx, threads=1)
    assert found.error is None


class WithMeta(Returns):
    """Takes more than an image, as detectors do."""

    def forward(self, x: torch.Tensor, meta: Any = None, *, scale: float = 1.0) -> Any:
        return super().forward(x)[0] * scale


def test_an_argument_that_is_left_out_is_named() -> None:
    notes = from_module(WithMeta(torch.relu).eval(), (3, 16, 16)).notes
    assert ["'meta'" in note for note in notes] == [True, False]
    assert ["'scale'" in note for note in notes] == [False, True]
    assert from_module(Returns(torch.relu).eval(), (3, 16, 16)).notes == ()
