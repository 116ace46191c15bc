"""What the network computes, in double precision and in its own."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attn_export.exporter.artifacts import LoadedModel, Precision
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.errors import CaptureError, InputError
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import Batch, batches
from attn_export.exporter.network.images import POOL
from attn_export.exporter.validation.baseline import PERTURBED_RUNS
from attn_export.exporter.validation.compute_reference import compute_reference
from attn_export.exporter.validation.reference import Reference, constant_outputs
from attn_export.exporter.validation.verdict import compare
from tests.validation.exporting import ALL_AXES, assert_good, exported


@pytest.mark.parametrize("name", ["cbam_resnet8", "se_mobilenet_v3_small"])
def test_the_reference_is_the_module_in_double_precision(
    name: str, loaded: Callable[[str], LoadedModel], reference: Callable[[str], Reference]
) -> None:
    double = copy.deepcopy(loaded(name).module).double()
    for batch, exact in zip(reference(name).batches, reference(name).exact, strict=True):
        with torch.no_grad():
            expected = torch.cat([double(torch.from_numpy(image)[None].double()) for image in batch.arrays["input"]])
        assert exact.outputs[0].dtype == np.float64
        np.testing.assert_allclose(exact.outputs[0], expected.numpy(), rtol=1e-12, atol=1e-13)


def test_the_baseline_is_the_module_as_it_is(
    loaded: Callable[[str], LoadedModel], reference: Callable[[str], Reference]
) -> None:
    for batch, single in zip(reference("toy").batches, reference("toy").baselines[Precision.FP32], strict=True):
        with torch.no_grad():
            expected = loaded("toy").module(torch.from_numpy(batch.arrays["input"]))
        assert single.outputs[0].dtype == np.float32
        as_it_is = single.outputs[0][: len(batch)]
        np.testing.assert_allclose(as_it_is, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_the_baseline_is_drawn_several_times_a_rounding_apart(reference: Callable[[str], Reference]) -> None:
    whole = reference("cbam_resnet8")
    for batch, own, exact in zip(whole.batches, whole.baselines[Precision.FP32], whole.exact, strict=True):
        draws = own.outputs[0].reshape(PERTURBED_RUNS, *exact.outputs[0].shape)
        assert all(not np.array_equal(a, b) for i, a in enumerate(draws) for b in draws[:i])
        assert all(np.linalg.norm(d - exact.outputs[0]) < 1e-4 * np.linalg.norm(exact.outputs[0]) for d in draws)
        assert [len(gate) for gate in own.gates] == [PERTURBED_RUNS * len(batch)] * len(exact.gates)


def test_an_image_is_moved_alike_in_whatever_batches_it_is(fresh: Callable[[str], LoadedModel]) -> None:
    model = fresh("toy")
    made = batches(opened(model.inputs))
    whole, last = compute_reference(model, made), compute_reference(model, made[2:])
    for name in {*made[0].names, *made[1].names}:
        rows = [
            own.outputs[0].reshape(PERTURBED_RUNS, len(batch.names), -1)[1:, batch.names.index(name)]
            for batch, own in zip(whole.batches, whole.baselines[Precision.FP32], strict=True)
            if name in batch.names
        ]
        assert len(rows) > 1
        assert all(np.array_equal(rows[0], other) for other in rows[1:])
    assert last.exact[0].outputs[0].shape == whole.exact[2].outputs[0].shape


def test_the_module_is_not_changed(fresh: Callable[[str], LoadedModel]) -> None:
    model = fresh("cbam_resnet8")
    model.module.train()
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    compute_reference(model, batches(opened(model.inputs)))
    after = model.module.state_dict()
    assert all(after[name].dtype == before[name].dtype and torch.equal(after[name], before[name]) for name in before)
    assert all(module.training for module in model.module.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())


def test_gates_are_seen_in_the_order_of_computation(reference: Callable[[str], Reference]) -> None:
    result = reference("cbam_resnet8").exact[0]
    assert list(result.gate_paths) == [
        f"layer{i}.0.attention.{gate}.sigmoid" for i in (1, 2, 3) for gate in ("ChannelGate", "SpatialGate")
    ]
    assert [gate.shape[1] for gate in result.gates] == [16, 32 * 32, 32, 16 * 16, 64, 8 * 8]


def test_a_layer_that_fixes_the_size_is_named_as_the_reason(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(1024, 5)).eval()
    with pytest.raises(CaptureError, match="the network can't run on a batch of shape") as caught:
        exported(from_module(module, (3, 16, 16)), tmp_path, dynamic=ALL_AXES)
    assert "Linear after flatten" in caught.value.hint
    assert_good(exported(from_module(module, (3, 16, 16)), tmp_path), gates=0)


class Function(nn.Module):
    """A convolution, then a function."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.function = function
        self.eval()

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self.conv(x))


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: torch.log(-x.abs()), id="NaN"),
        pytest.param(lambda x: torch.exp(x * 1e9), id="infinity"),
        pytest.param(lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True) / 0), id="infinity in a gate only"),
    ],
)
def test_a_network_that_computes_no_numbers_is_refused(function: Callable[[torch.Tensor], Any]) -> None:
    model = from_module(Function(function), (3, 16, 16))
    with pytest.raises(InputError, match="computes NaN or infinity for nominal images"):
        compute_reference(model, batches(opened(model.inputs)))


def test_what_forward_writes_into_a_buffer_of_its_own_is_in_the_reference() -> None:
    def into_a_buffer(x: torch.Tensor) -> torch.Tensor:
        result = torch.zeros(x.shape)
        result[:] = x * 2
        return result

    model = from_module(Function(into_a_buffer), (3, 16, 16))
    reference = compute_reference(model, batches(opened(model.inputs)))
    assert np.abs(reference.exact[0].outputs[0]).max() > 0


def test_a_network_whose_own_float32_is_far_from_float64_does_not_agree_with_everything(tmp_path: Path) -> None:
    model = from_module(Function(lambda x: F.dropout(x, 0.5, training=True)), (3, 16, 16))
    with pytest.raises(InputError, match="nothing can be proven"):
        exported(model, tmp_path)


def test_a_baseline_that_is_no_number_agrees_with_nothing() -> None:
    assert not compare("output", "output", {"noise": 0.5}, {"noise": float("inf")}).agrees


def test_several_outputs_are_judged_each(tmp_path: Path) -> None:
    model = from_module(Function(lambda x: {"logits": x.mean((2, 3)), "map": torch.relu(x)}), (3, 16, 16))
    verdict = exported(model, tmp_path)
    assert [(c.tensor, c.role) for c in verdict.comparisons] == [("output_logits", "output"), ("output_map", "output")]
    assert_good(verdict, gates=0)


def runs(module: nn.Module) -> list[torch.dtype]:
    """Fills up with the type of what goes into the module, at every call."""
    seen: list[torch.dtype] = []
    module.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    return seen


def test_each_image_is_computed_once_in_double_precision(fresh: Callable[[str], LoadedModel]) -> None:
    model = fresh("toy")
    seen = runs(model.module)
    made = batches(opened(model.inputs))
    reference = compute_reference(model, made)
    assert seen.count(torch.float64) == len(POOL) < sum(len(batch) for batch in made)
    by_name: dict[str, Any] = {}
    for batch, exact in zip(made, reference.exact, strict=True):
        for name, row in zip(batch.names, exact.outputs[0], strict=True):
            assert np.array_equal(by_name.setdefault(name, row), row)


def test_images_without_names_are_all_computed(fresh: Callable[[str], LoadedModel]) -> None:
    model = fresh("toy")
    seen = runs(model.module)
    images = np.ones((3, *model.inputs[0].shape[1:]), np.float32) * np.arange(1, 4, dtype=np.float32).reshape(
        3, 1, 1, 1
    )
    compute_reference(model, [Batch({"input": images}, ("noise",) * 3)])
    assert seen.count(torch.float64) == 3


def test_batches_can_be_chosen_by_their_names(reference: Callable[[str], Reference]) -> None:
    whole = reference("toy")
    part = whole.for_batches([whole.batches[2], whole.batches[0]])
    assert part.batches == (whole.batches[2], whole.batches[0])
    assert np.array_equal(part.exact[0].outputs[0], whole.exact[2].outputs[0])


class Mixing(nn.Module):
    """Centres a batch around its mean, as BatchNorm in training mode does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean(0, keepdim=True)).mean((2, 3)) + x.mean((2, 3))


class Cancelling(nn.Module):
    """Takes the difference of almost equal numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x + 1e6) - 1e6).mean((2, 3))


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (Function(lambda x: F.dropout(x, 0.5, training=True)), "results differ from run to run"),
        (Mixing(), "depends on the others of its batch"),
        (Cancelling(), "rounding decides"),
    ],
    ids=["random", "mixing", "cancelling"],
)
def test_a_network_that_is_no_baseline_is_refused_and_the_reason_reported(module: nn.Module, why: str) -> None:
    model = from_module(module.eval(), (3, 8, 8))
    with pytest.raises(InputError, match="With such a baseline nothing can be proven") as caught:
        compute_reference(model, batches(opened(model.inputs)))
    assert why in caught.value.hint


def test_a_network_that_returns_the_same_for_all_images_is_refused() -> None:
    model = from_module(Function(lambda x: x.mean((2, 3)) * 0 + 3), (3, 8, 8))
    with pytest.raises(InputError, match="returns the same for all images"):
        compute_reference(model, batches(opened(model.inputs)))


def test_one_constant_output_of_several_is_known() -> None:
    model = from_module(Function(lambda x: (x.mean((2, 3)) * 0 + 3, x.mean((2, 3)))), (3, 8, 8))
    assert constant_outputs(compute_reference(model, batches(opened(model.inputs)))) == [0]


class Standardizing(nn.Module):
    """Divides each image by its own spread, which zeros don't have."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x / x.std((1, 2, 3), keepdim=True, unbiased=False), 4)


def test_a_network_that_has_no_answer_for_zeros_is_judged_on_the_others(tmp_path: Path) -> None:
    model = from_module(Standardizing().eval(), (3, 8, 8))
    verdict = exported(model, tmp_path)
    assert verdict.agrees
    assert "zeros" not in verdict.comparisons[0].ratios
    assert "tiny" in verdict.comparisons[0].ratios


class Overflowing(nn.Module):
    """Beyond float32 for large images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(x * 8).mean((2, 3))


def test_images_that_overflow_float32_are_not_judged_in_it(tmp_path: Path) -> None:
    verdict = exported(from_module(Overflowing().eval(), (3, 8, 8)), tmp_path)
    assert verdict.agrees
    assert "large" not in verdict.comparisons[0].ratios


class Gated(nn.Module):
    """A convolution whose map is multiplied with what a function gives."""

    def __init__(self, gate: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.alpha, self.gate = nn.Conv2d(3, 8, 3, padding=1), nn.Parameter(torch.randn(8, 1, 1)), gate
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return x * self.gate(self, x)


def in_groups(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """One gate for each of four groups of channels, which stand on the first axis meanwhile."""
    n, c, h, w = x.shape
    groups = x.reshape(n * 4, c // 4, h, w)
    return torch.sigmoid(groups.mean(1, keepdim=True)).expand(-1, c // 4, -1, -1).reshape(n, c, h, w)


def test_a_gate_whose_first_axis_is_more_than_the_batch_is_compared(tmp_path: Path) -> None:
    assert_good(exported(from_module(Gated(in_groups), (3, 16, 16)), tmp_path), gates=1)


def test_a_gate_that_no_image_reaches_is_left_out(tmp_path: Path) -> None:
    model = from_module(Gated(lambda module, _: torch.sigmoid(torch.as_tensor(module.alpha))), (3, 16, 16))
    assert compute_reference(model, batches(opened(model.inputs))).exact[0].gates == ()
    assert_good(exported(model, tmp_path), gates=0)


def test_a_network_that_decides_by_values_how_much_it_computes_is_refused_in_words() -> None:
    def decides(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x.mean(1, keepdim=True)) if float(x.mean()) > 0 else torch.ones_like(x)

    model = from_module(Gated(decides), (3, 16, 16))
    with pytest.raises(InputError, match="depend on the values of the images"):
        compute_reference(model, batches(opened(model.inputs)))
