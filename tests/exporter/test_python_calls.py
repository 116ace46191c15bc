"""What callers from Python pass: it works, or an error says what it is and what to pass instead."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from attn_export.exporter import ExportSettings, bench, export, load, validate
from attn_export.exporter.checkpoint.live import from_module, shape_of
from attn_export.exporter.errors import AttnExportError, CaptureError, InputError
from attn_export.exporter.network.capture import capture
from attn_export.exporter.network.run import run
from attn_export.models.attention.squeeze_excite import SEBlock
from attn_export.models.registry import architecture, create

SETTINGS = ExportSettings(runtimes=(), threads=1)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), SEBlock(8, reduction=2), nn.Flatten(), nn.Linear(288, 3)).eval()


class Two(nn.Module):
    """Needs two inputs."""

    def forward(self, image: torch.Tensor, meta: torch.Tensor) -> torch.Tensor:
        return image * meta


class Any1(nn.Module):
    """Takes whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, *inputs: torch.Tensor, **_: Any) -> Any:
        return self.inner(*inputs)


NO_NETWORKS: dict[str, tuple[Callable[[], Any], str]] = {
    "tensor": (lambda: torch.zeros(2, 3), r"a tensor of \(2, 3\)"),
    "state dict": (lambda: net().state_dict(), "a state dict of 6 tensors"),
    "dictionary": (lambda: {"epoch": 3}, "a dictionary with 'epoch' in it"),
    "scripted": (lambda: torch.jit.trace(net(), torch.zeros(1, 3, 8, 8)), "a TorchScript module"),
    "exported": (lambda: torch.export.export(net(), (torch.zeros(1, 3, 8, 8),)), "an exported program"),
    "module of an exported": (
        lambda: torch.export.export(net(), (torch.zeros(1, 3, 8, 8),)).module(),
        "an exported program",
    ),
    "class": (lambda: Two, "the class Two"),
    "function": (lambda: torch.relu, "the function relu"),
    "onnx": (onnx.ModelProto, "an ONNX graph"),
    "nothing": (lambda: None, "a NoneType"),
    "array": (lambda: np.zeros(3), "a ndarray"),
    "two inputs": (Two, r"Two takes 2 inputs \(image, meta\)"),
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), "isn't initialized"),
    "scripted part": (lambda: nn.Sequential(net(), torch.jit.script(nn.ReLU())), "submodule 1 is a TorchScript module"),
}


@pytest.mark.parametrize("what", NO_NETWORKS)
def test_what_is_no_network_is_named(what: str, tmp_path: Path) -> None:
    make, named = NO_NETWORKS[what]
    with pytest.raises(InputError, match=named) as caught:
        export(make(), (1, 3, 8, 8), tmp_path, settings=SETTINGS)
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "what",
    [name for name in NO_NETWORKS if name not in ("two inputs", "lazy", "scripted part", "module of an exported")],
)
@pytest.mark.parametrize("call", [load, lambda given: validate(given, ["x.onnx"]), lambda given: bench(given, [])])
def test_no_call_takes_it_for_a_checkpoint(call: Callable[[Any], Any], what: str) -> None:
    given = NO_NETWORKS[what][0]()
    if given is None and call is not load:  # bench without a network times files alone
        return
    with pytest.raises(AttnExportError, match="was passed"):
        call(given)


@pytest.mark.parametrize("call", [load, lambda given: validate(given, ["x.onnx"]), lambda given: bench(given, [])])
def test_a_live_module_instead_of_a_checkpoint_is_reported_from_one(call: Callable[[Any], Any]) -> None:
    with pytest.raises(InputError, match="a Sequential was passed") as caught:
        call(net())
    assert "export(module" in caught.value.hint


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (((1, 3, 8, 8), (1, 4)), "holds 2 shapes"),
        ([(1, 3, 8, 8)], "holds 1 shapes"),
        ("1x3x8x8", "'1x3x8x8'"),
        (224, "224"),
        ((1, 3, 8.5, 8), "8.5"),
        ((1, 3, 0, 8), "smaller than 1"),
        ((3,), r"\(3,\)"),
        ({"x": (1, 3)}, "x"),
    ],
)
def test_what_is_no_input_shape_is_refused_in_words(given: Any, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        shape_of(given)
    assert "(1, 3, 224, 224)" in caught.value.hint


@pytest.mark.parametrize(
    "given", [torch.zeros(2, 3, 8, 8), torch.Size((2, 3, 8, 8)), np.array([2, 3, 8, 8]), [2, 3, 8, 8]]
)
def test_an_example_or_any_sequence_is_an_input_shape(given: Any) -> None:
    assert shape_of(given) == (2, 3, 8, 8)


WRAPPED: dict[str, Callable[[nn.Module], Any]] = {
    "DataParallel": nn.DataParallel,
    "OptimizedModule": torch.compile,
    "AveragedModel": lambda module: AveragedModel(module).eval(),
    "both": lambda module: nn.DataParallel(torch.compile(module)),
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_wrappers_are_taken_off_with_a_note(wrapper: str) -> None:
    model = from_module(WRAPPED[wrapper](net()), (3, 8, 8))
    assert type(model.module) is nn.Sequential
    assert all("was taken off" in note for note in model.notes)
    assert len(model.notes) == (2 if wrapper == "both" else 1)


def test_a_module_that_takes_any_number_of_inputs_is_captured() -> None:
    graph = capture(from_module(Any1().eval(), (3, 8, 8)))
    assert [axis.name for axis in graph.signature.inputs[0].axes] == ["batch"]


@pytest.mark.parametrize("error", [ValueError, AssertionError, KeyError, IndexError, TypeError, RuntimeError])
def test_what_the_code_of_a_network_raises_is_no_defect_of_this_program(error: type[Exception]) -> None:
    class Raises(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise error("it wants 224 pixels")

    with pytest.raises(CaptureError, match="it wants 224 pixels"):
        run(Raises().eval(), {"input": np.zeros((1, 3, 8, 8), np.float32)})


def of_rank(dimensions: int) -> nn.Module:
    """A network of this many dimensions behind the channels."""
    torch.manual_seed(0)
    if dimensions == 0:
        return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    conv, pool = getattr(nn, f"Conv{dimensions}d"), getattr(nn, f"AdaptiveAvgPool{dimensions}d")
    return nn.Sequential(conv(2, 4, 3), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 3)).eval()


@pytest.mark.parametrize(
    ("dimensions", "shape"), [(0, (1, 12)), (1, (1, 2, 40)), (2, (1, 2, 8, 8)), (3, (1, 2, 6, 6, 6))]
)
def test_networks_of_any_rank_are_exported_and_validated(
    dimensions: int, shape: tuple[int, ...], tmp_path: Path
) -> None:
    module = of_rank(dimensions)
    made = export(module, shape, tmp_path, settings=SETTINGS)
    assert made.verdict.agrees
    (found,) = validate(from_module(module, shape[1:]), made.onnx, threads=1)
    assert found.error is None


class OnlyFour(nn.Module):
    """Written for a batch of four; smaller ones fail."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.se, self.linear = nn.Conv2d(3, 8, 3), SEBlock(8, reduction=2), nn.Linear(288, 3)
        self.batches: set[int] = set()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.add(int(x.shape[0]))
        return self.linear(self.se(torch.relu(self.conv(x))).view(4, 288))


def test_a_network_for_one_batch_runs_at_no_other(tmp_path: Path) -> None:
    module = OnlyFour().eval()
    settings = ExportSettings(dynamic=(), runtimes=(), threads=1, show=True)
    made = export(module, (4, 3, 8, 8), tmp_path, settings=settings)
    assert made.verdict.agrees
    assert made.verdict.worst_of("gate") is not None
    (found,) = validate(from_module(module, (3, 8, 8)), made.onnx, threads=1)
    assert found.error is None
    assert module.batches == {4}


def test_an_image_is_judged_alone_also_where_the_batch_is_fixed(tmp_path: Path) -> None:
    class Mixes(OnlyFour):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x - x.mean(0, keepdim=True) + x.mean((2, 3), keepdim=True))

    with pytest.raises(InputError, match="nothing can be proven") as caught:
        export(Mixes().eval(), (4, 3, 8, 8), tmp_path, settings=ExportSettings(dynamic=(), runtimes=(), threads=1))
    assert "depends on the others of its batch" in caught.value.hint


def test_a_network_may_change_its_input_in_place(tmp_path: Path) -> None:
    class Normalizes(OnlyFour):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x.sub_(0.5).div_(0.25)
            return self.linear(self.se(torch.relu(self.conv(x))).flatten(1))

    made = export(Normalizes().eval(), (1, 3, 8, 8), tmp_path, settings=SETTINGS)
    assert made.verdict.agrees


def test_a_path_is_exported(tmp_path: Path) -> None:
    from attn_export.exporter.checkpoint.format import save

    arch = architecture("se_resnet8", num_classes=3)
    save(tmp_path / "model.pt", create("se_resnet8", num_classes=3), arch)
    for given in (tmp_path / "model.pt", str(tmp_path / "model.pt"), load(str(tmp_path / "model.pt"))):
        made = export(given, out=tmp_path / "out", settings=SETTINGS)
        assert made.verdict.agrees
    (found,) = validate(str(tmp_path / "model.pt"), str(made.onnx), threads=1)
    assert found.error is None


def test_the_signature_says_what_may_be_left_out() -> None:
    assert inspect.signature(export).parameters["input_shape"].default is None
