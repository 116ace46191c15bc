"""Gates are found on both sides, however they are written."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attn_export.exporter.artifacts import Gate
from attn_export.exporter.checkpoint.load import from_module
from attn_export.exporter.validation.validate import paired
from tests.validation.exporting import assert_good, exported


class Functional(nn.Module):
    """A convolution, and a gate that is no module of its own."""

    def __init__(self, squash: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.squash = squash

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return x * self.squash(x.mean((2, 3), keepdim=True))


@pytest.mark.parametrize(
    "squash",
    [
        pytest.param(torch.sigmoid, id="torch.sigmoid"),
        pytest.param(F.sigmoid, id="F.sigmoid"),
        pytest.param(lambda x: x.sigmoid(), id="x.sigmoid"),
        pytest.param(lambda x: x.sigmoid_(), id="x.sigmoid_"),
        pytest.param(torch.special.expit, id="torch.special.expit"),
        pytest.param(F.hardsigmoid, id="F.hardsigmoid"),
        pytest.param(lambda x: F.hardsigmoid(x, inplace=True), id="F.hardsigmoid in place"),
    ],
)
def test_a_gate_written_as_a_function_is_compared_too(
    squash: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    verdict = exported(from_module(nn.Sequential(Functional(squash)).eval(), (3, 16, 16)), tmp_path)
    assert_good(verdict, gates=1)
    assert verdict.comparisons[0].tensor == "0", "the path of the module in whose forward it stands"


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.Hardswish(), nn.Softmax(1), nn.GELU()], ids=str)
def test_an_activation_is_no_gate(activation: nn.Module, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), activation).eval()
    assert_good(exported(from_module(module, (3, 16, 16)), tmp_path), gates=0)


def test_one_gate_module_that_is_used_again_and_again_is_compared_every_time(tmp_path: Path) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc, self.gate = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Sigmoid()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            for _ in range(3):
                x = x * self.gate(self.fc(x.mean((2, 3), keepdim=True)))
            return x

    torch.manual_seed(0)
    assert_good(exported(from_module(Recurrent().eval(), (3, 16, 16)), tmp_path), gates=3)


@pytest.mark.parametrize(
    ("paths", "found", "order"),
    [
        ([], [("a", "t")], []),
        (["a", "b"], [("a", "t"), ("b", "u")], ["t", "u"]),
        (["b", "a"], [("a", "t"), ("b", "u")], ["u", "t"]),
        (["a", "a"], [("a", "t"), ("a", "u")], ["t", "u"]),
        (["a", "b", "a"], [("a", "t"), ("a", "u"), ("b", "v")], ["t", "v", "u"]),
        (["a", "b"], [("", "t"), ("", "u")], ["t", "u"]),
        ([""], [("", "t")], ["t"]),
    ],
)
def test_gates_are_paired_by_path_then_by_order(
    paths: list[str], found: list[tuple[str, str]], order: list[str]
) -> None:
    gates, missed = paired(paths, [Gate(*gate) for gate in found])
    assert [gate.tensor for gate in gates] == order
    assert missed == ""


@pytest.mark.parametrize(
    ("paths", "found", "reason"),
    [
        (["a"], [], "PyTorch computes 1 gates, the file 0"),
        (["a"], [("a", "t"), ("b", "u")], "PyTorch computes 1 gates, the file 2"),
        (["a", "b"], [("a", "t"), ("c", "u")], "the file's gates belong to other modules than PyTorch's"),
        (["a", "b"], [("a", "t"), ("", "u")], "the file's gates belong to other modules than PyTorch's"),
        (["a", "a"], [("a", "t"), ("b", "u")], "the file's gates belong to other modules than PyTorch's"),
    ],
)
def test_gates_that_do_not_match_are_not_compared_and_the_reason_is_told(
    paths: list[str], found: list[tuple[str, str]], reason: str
) -> None:
    assert paired(paths, [Gate(*gate) for gate in found]) == ([], reason)
