"""Gates are found on both sides, however they are written."""

import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attn_export.exporter.artifacts import Gate, OnnxFile, only_input
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import batches
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.validation.artifact import read_artifact
from attn_export.exporter.validation.matching import Returned, match
from attn_export.exporter.validation.validate import paired, validate
from tests.shared import compute_reference
from tests.validation.exporting import assert_good, exported


class Functional(nn.Module):
    """A convolution, and a gate that is no module of its own."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return x * self.function(x.mean((2, 3), keepdim=True))


FUNCTIONS = [
    pytest.param(torch.sigmoid, id="torch.sigmoid"),
    pytest.param(F.sigmoid, id="F.sigmoid"),
    pytest.param(lambda x: x.sigmoid(), id="x.sigmoid"),
    pytest.param(lambda x: x.sigmoid_(), id="x.sigmoid_"),
    pytest.param(torch.special.expit, id="torch.special.expit"),
    pytest.param(F.hardsigmoid, id="F.hardsigmoid"),
    pytest.param(lambda x: F.hardsigmoid(x, inplace=True), id="F.hardsigmoid in place"),
    pytest.param(lambda x: F.relu6(x + 3) / 6, id="relu6(x + 3) / 6"),
    pytest.param(lambda x: F.relu6(3 + x, inplace=True) * (1 / 6), id="relu6(3 + x) * (1 / 6)"),
    pytest.param(lambda x: F.hardtanh(x + 3, 0, 6) / 6, id="hardtanh(x + 3, 0, 6) / 6"),
    pytest.param(lambda x: torch.clamp(x + 3, 0, 6).div(6), id="clamp(x + 3, 0, 6) / 6"),
    pytest.param(lambda x: torch.clamp(F.relu(x + 3), max=6) / 6, id="clamp(relu(x + 3), max=6) / 6"),
    pytest.param(lambda x: torch.clamp(x / 6 + 0.5, 0, 1), id="clamp(x / 6 + 0.5, 0, 1)"),
    pytest.param(lambda x: torch.clamp(0.2 * x + 0.5, min=0, max=1), id="clamp(0.2 * x + 0.5, 0, 1)"),
    pytest.param(lambda x: torch.clamp((x + 3) / 6, 0, 1), id="clamp((x + 3) / 6, 0, 1)"),
    pytest.param(lambda x: torch.clamp(x - (-3), 0, 6) / 6, id="clamp(x - -3, 0, 6) / 6"),
    pytest.param(lambda x: 1 / (1 + torch.exp(-x)), id="1 / (1 + exp(-x))"),
    pytest.param(lambda x: 0.5 * torch.tanh(x / 2) + 0.5, id="0.5 * tanh(x / 2) + 0.5"),
    pytest.param(lambda x: (1 + torch.tanh(0.5 * x)) / 2, id="(1 + tanh(0.5 * x)) / 2"),
    pytest.param(lambda x: x.add_(3.0).clamp_(0.0, 6.0).div_(6.0), id="in place"),
]


@pytest.mark.parametrize(
    "function",
    [
        *FUNCTIONS[::3],
        *(pytest.param(*p.values, id=p.id, marks=pytest.mark.full) for i, p in enumerate(FUNCTIONS) if i % 3),
    ],
)
def test_a_gate_written_as_a_function_is_compared_too(
    function: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    verdict = exported(from_module(nn.Sequential(Functional(function)).eval(), (3, 16, 16)), tmp_path)
    assert_good(verdict, gates=1)
    assert verdict.comparisons[0].tensor == "0", "the path of the module in whose forward it stands"


class Operator(torch.autograd.Function):
    """Swish as an operator with its own gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)


class Written(nn.Module):
    """An activation that is written as a function."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


SWISHES = {
    "x * sigmoid(x)": lambda x: x * torch.sigmoid(x),
    "x.sigmoid() * x": lambda x: x.sigmoid() * x,
    "in place": lambda x: x.mul_(x.sigmoid()),
    "x * sigmoid(1.702 * x)": lambda x: x * torch.sigmoid(1.702 * x),
    "with its own gradient": Operator.apply,
    "x / (1 + exp(-x))": lambda x: x * (1 / (1 + torch.exp(-x))),
    "x * relu6(x + 3) / 6": lambda x: x * F.relu6(x + 3) / 6,
    "x * (relu6(x + 3) / 6)": lambda x: x * (F.relu6(x + 3) / 6),
    "x * clamp(x / 6 + 0.5, 0, 1)": lambda x: x * torch.clamp(x / 6 + 0.5, 0, 1),
    "x * hardsigmoid(x)": lambda x: x * F.hardsigmoid(x),
}
ACTIVATIONS = [
    nn.SiLU(),
    nn.Hardswish(),
    nn.Softmax(1),
    nn.GELU(),
    nn.GELU("tanh"),
    nn.Tanh(),
    nn.Mish(),
    nn.ReLU6(),
    nn.Hardtanh(0, 1),
]


@pytest.mark.parametrize(
    "activation", [*ACTIVATIONS, *(pytest.param(Written(f), id=name) for name, f in SWISHES.items())], ids=str
)
def test_an_activation_is_no_gate(activation: nn.Module, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), activation).eval()
    assert_good(exported(from_module(module, (3, 16, 16)), tmp_path), gates=0)


def test_the_gate_of_a_gated_linear_unit_is_compared(tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert_good(
        exported(from_module(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GLU(1)).eval(), (3, 8, 8)), tmp_path), gates=1
    )


class Attention(nn.Module):
    """Squeeze-and-excitation behind an activation, with gates as nearly closed as those of new networks."""

    def __init__(
        self, function: Callable[[torch.Tensor], torch.Tensor], activation: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        super().__init__()
        self.stem, self.fc1, self.fc2 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.gate, self.act, self.head = Written(function), Written(activation), nn.Linear(8, 5)
        with torch.no_grad():
            self.fc2.weight.mul_(0.02)
            nn.init.zeros_(self.fc2.get_parameter("bias"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.stem(x))
        return self.head((x * self.gate(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))).mean((2, 3)))


@pytest.mark.parametrize(
    ("activation", "legacy"),
    [
        pytest.param("x * sigmoid(x)", False, id="torch.export"),
        pytest.param("x * relu6(x + 3) / 6", True, id="TorchScript"),
    ],
)
@pytest.mark.parametrize(
    "function",
    [
        pytest.param(torch.sigmoid, id="sigmoid"),
        pytest.param(F.hardsigmoid, id="hardsigmoid"),
        pytest.param(lambda x: F.relu6(x + 3) / 6, id="relu6(x + 3) / 6"),
        pytest.param(lambda x: torch.clamp(0.2 * x + 0.5, 0, 1), id="clamp(0.2 * x + 0.5, 0, 1)"),
    ],
)
def test_a_wrong_weight_of_a_gate_is_found_in_foreign_files_too(
    function: Callable[[torch.Tensor], torch.Tensor], activation: str, legacy: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module = Attention(function, SWISHES[activation]).eval()
    reference = compute_reference(from_module(module, (3, 16, 16)), batches(opened(only_input((3, 16, 16)))))
    for factor in (1.0, 1.001):
        faulty = deepcopy(module)
        with torch.no_grad():
            faulty.fc2.weight.mul_(factor)
        verdict = validate(foreign(faulty, tmp_path / "model.onnx", legacy=legacy), reference, Settings(threads=1))
        assert (verdict.agrees, verdict.gates_missed) == (factor == 1.0, "")
        assert [c.tensor for c in verdict.comparisons if c.role == "gate"] == ["gate"]
    assert verdict.first_disagreement is not None
    assert verdict.first_disagreement.tensor == "gate"


def foreign(module: nn.Module, path: Path, *, legacy: bool) -> OnnxFile:
    """The network's file as PyTorch's exporters write it, uncleaned."""
    image = torch.zeros(2, 3, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if legacy:
            axes = {"input": {0: "batch"}, "output": {0: "batch"}}
            names = list(axes)
            torch.onnx.export(
                module, (image,), path, dynamo=False, input_names=names[:1], output_names=names[1:], dynamic_axes=axes
            )
        else:
            batch = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(module, (image,), path, dynamo=True, dynamic_shapes=batch, verbose=False)
    artifact = read_artifact(path)
    return artifact.as_file(match(artifact, only_input((3, 16, 16)), (Returned("output", (5,), False),)).signature)


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
    assert {place: gate.tensor for place, gate in gates.items()} == dict(enumerate(order))
    assert missed == ""


NONE_FOUND = (
    "PyTorch's gates of a.first, a.second aren't found in the file; the file's gates t (of a), u (of b) aren't found "
    "in PyTorch"
)


@pytest.mark.parametrize(
    ("paths", "found", "pairs", "missed"),
    [
        (["a"], [], {}, "PyTorch's gates of a aren't found in the file"),
        ([], [("a", "t")], {}, "the file's gates t (of a) aren't found in PyTorch"),
        (["a"], [("a", "t"), ("b", "u")], {0: "t"}, "the file's gates u (of b) aren't found in PyTorch"),
        (["a", "b"], [("b", "u")], {1: "u"}, "PyTorch's gates of a aren't found in the file"),
        (
            ["a", "b"],
            [("a", "t"), ("c", "u")],
            {0: "t"},
            "PyTorch's gates of b aren't found in the file; the file's gates u (of c) aren't found in PyTorch",
        ),
        (["a", "b"], [("a", "t"), ("", "u")], {0: "t", 1: "u"}, ""),
        (["a.sigmoid", "b"], [("a", "t"), ("b.gate", "u")], {0: "t", 1: "u"}, ""),
        (
            ["a.first", "a.second"],
            [("a", "t"), ("b", "u")],
            {},
            NONE_FOUND,
        ),
        (
            ["a", "a", "b"],
            [("a", "t"), ("b", "u")],
            {2: "u"},
            "PyTorch's gates of a, a aren't found in the file; the file's gates t (of a) aren't found in PyTorch",
        ),
        (list("abcdef"), [], {}, "PyTorch's gates of a, b, c, d and 2 more aren't found in the file"),
        ([""], [], {}, "PyTorch's gates of the network aren't found in the file"),
    ],
)
def test_gates_without_a_counterpart_are_named_and_the_others_compared(
    paths: list[str], found: list[tuple[str, str]], pairs: dict[int, str], missed: str
) -> None:
    gates, reason = paired(paths, [Gate(*gate) for gate in found])
    assert {place: gate.tensor for place, gate in gates.items()} == pairs
    assert reason == missed
