"""What float16 is judged by: every operator's result rounded, computed in float32."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.network.arithmetic import Perturbation, rounded_to
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import batches
from attn_export.exporter.records.policies import POLICIES
from attn_export.exporter.validation.compute_reference import compute_reference
from attn_export.exporter.validation.metrics import PooledError
from attn_export.exporter.validation.verdict import compare

X = torch.linspace(-3, 3, 24).reshape(2, 3, 4)


def is_half(tensor: torch.Tensor) -> bool:
    return tensor.dtype == torch.float32 and torch.equal(tensor, tensor.half().float())


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: x * 1.1, id="operator"),
        pytest.param(lambda x: x.clone().mul_(1.1), id="in place"),
        pytest.param(lambda x: nn.functional.relu(x / 3, inplace=True), id="relu in place"),
        pytest.param(lambda x: torch.sin(x).transpose(0, 1).reshape(3, -1), id="views"),
        pytest.param(lambda x: (x / 3).chunk(2, dim=2)[1].exp(), id="several results"),
        pytest.param(lambda x: torch.full_like(x, 1 / 3) + torch.tensor(0.1), id="made inside"),
    ],
)
def test_every_result_is_rounded_and_near(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    exact = function(X.double()).float()
    with rounded_to(torch.float16):
        got = function(X)
    assert is_half(got)
    assert not torch.equal(got, exact)
    torch.testing.assert_close(got, exact, rtol=4e-3, atol=4e-3)


def test_what_is_written_to_a_view_reaches_the_tensor_behind_it() -> None:
    with rounded_to(torch.float16):
        whole = X.clone()
        whole[:, 1:] = X[:, :-1] * 2
        whole[:, 0].zero_()
    assert torch.equal(whole[:, 1:], (X.half().float()[:, :-1] * 2).half().float())
    assert not whole[:, 0].any()


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_what_float16_cannot_hold_stays_as_it_is(number: float) -> None:
    with rounded_to(torch.float16):
        got = (torch.tensor([number]) * 1).item()
    assert np.isfinite(got)
    assert got == number if abs(number) >= 65520 else got == torch.tensor(number).half().item()


def test_whole_numbers_and_conditions_are_left_alone() -> None:
    with rounded_to(torch.float16):
        assert (torch.arange(5000) + 1)[-1] == 5000
        assert (X > 0).dtype == torch.bool


def test_the_module_is_as_it_was_and_its_weights_are_rounded() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    before = layer.weight.clone()
    with torch.no_grad(), rounded_to(torch.float16):
        got = layer(torch.ones(1, 3))
    assert torch.equal(layer.weight, before)
    with torch.no_grad():
        expected = layer.weight.half().float().sum(1) + layer.bias.half().float()
    torch.testing.assert_close(got[0], expected, rtol=2e-3, atol=1e-3)


def test_only_the_baselines_that_were_asked_for_are_computed() -> None:
    torch.manual_seed(0)
    model = from_module(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid()).eval(), (3, 8, 8))
    images = batches(opened(model.inputs))
    both = compute_reference(model, images, precisions=(Precision.FP32, Precision.FP16))
    assert set(compute_reference(model, images).baselines) == {Precision.FP32}
    assert set(both.baselines) == {Precision.FP32, Precision.FP16}
    for exact, single, half in zip(
        both.exact, both.baselines[Precision.FP32], both.baselines[Precision.FP16], strict=True
    ):
        assert half.outputs[0].dtype == np.float32
        assert half.gate_paths == exact.gate_paths == ("1",)
        errors = [np.linalg.norm(r.gates[0][: len(exact.gates[0])] - exact.gates[0]) for r in (single, half)]
        assert errors[1] > 100 * errors[0]
        assert is_half(torch.from_numpy(half.gates[0]))


# ---- limits ------------------------------------------------------------------------------------------------------


def test_small_logits_are_judged_by_what_they_move() -> None:
    error = PooledError()
    error.add(np.full((1, 4), 2e-3), np.full((1, 4), 1e-3), ("noise",))
    assert error.relative() == {"noise": pytest.approx(1.0)}
    assert error.relative(1.0) == {"noise": pytest.approx(1e-3)}
    large = PooledError()
    large.add(np.full((1, 4), 11.0), np.full((1, 4), 10.0), ("noise",))
    assert large.relative(1.0) == large.relative() == {"noise": pytest.approx(0.1)}


def test_float16_has_limits_of_its_own() -> None:
    limits = POLICIES[Precision.FP16]
    found = compare("output", "output", {"noise": 2 * limits.floor}, {"noise": 0.0}, limits)
    assert (found.ratio, found.baseline, found.limit) == (2.0, limits.floor, limits.limit)
    assert found.agrees
    assert not compare("output", "output", {"noise": 2 * limits.floor}, {"noise": 0.0}).agrees


# ---- moved weights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_weights_move_by_a_rounding_at_most_and_many_of_them_do(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(64, 32, 3, 3))
    weight.data[0, 0] = 0
    mask = nn.Parameter(torch.tensor([0.0, -torch.inf]))
    module = nn.ParameterList([weight, mask])
    moved = [Perturbation(module, dtype, draw).of(weight).detach() for draw in (1, 2)]
    assert not torch.equal(moved[0], moved[1])
    assert Perturbation(module, dtype, 1).of(mask) is mask
    for tensor in moved:
        assert not tensor[0, 0].any(), "zeros stay what they are"
        off = ((tensor - weight) / weight)[1:].abs() / torch.finfo(dtype).eps
        assert off.max() <= 1.0
        assert 0.25 < (off > 0.2).float().mean() < 0.75
        assert (tensor - weight)[1:].mean().abs() < 0.1 * (tensor - weight)[1:].abs().mean(), "up as often as down"


def test_only_weights_move_and_they_move_where_they_are_used() -> None:
    torch.manual_seed(0)
    layer, other = nn.Linear(300, 20), torch.randn(20, 300)
    images = torch.randn(4, 300)
    perturbation = Perturbation(layer, torch.float32, 1)
    with torch.no_grad():
        before = layer(images), images @ other.T
        with rounded_to(torch.float32, perturbation):
            after = layer(images), images @ other.T
    assert torch.equal(before[1], after[1])
    apart = (before[0] - after[0]).norm() / before[0].norm()
    assert 1e-8 < apart < 1e-6


def test_what_is_written_to_a_buffer_is_kept_while_weights_move() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))
            self.seen: torch.Tensor
            self.register_buffer("seen", torch.zeros(2, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen[0].copy_(x[0] * self.scale)
            return self.seen[0] * 2

    module = Counts()
    with torch.no_grad(), rounded_to(torch.float16, Perturbation(module, torch.float16, 1)):
        got = module(torch.full((1, 3), 3.0))
    torch.testing.assert_close(got, torch.full((3,), 6.0), rtol=2e-3, atol=0)


def test_pixels_move_each_for_itself() -> None:
    perturbation = Perturbation(nn.Identity(), torch.float32, 1)
    images = np.full((2, 3, 8, 8), 1.5, np.float32)
    moved = perturbation.inputs({"input": images})["input"]
    assert moved.dtype == np.float32
    assert set(np.unique(moved - 1.5)) == {-(2.0**-23), 0.0, 2.0**-23}
    assert not np.array_equal(moved[0], moved[1])
