"""safetensors, programs of torch.export, TorchScript: read as the same network, or refused in words."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from attn_export.exporter.artifacts import MODULE_KEY
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.errors import InputError, UnreadableCheckpointError, UntrustedCheckpointError
from attn_export.exporter.network.capture import capture
from attn_export.models.registry import create

IMAGE = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return create("se_resnet8")


def same(path: Path, network: nn.Module, *, trust: bool = False) -> None:
    with torch.no_grad():
        assert torch.equal(load(path, trust=trust).module(IMAGE), network(IMAGE))


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "weights"])
def test_safetensors_need_no_option(name: str, network: nn.Module, tmp_path: Path) -> None:
    save_file(network.state_dict(), tmp_path / name)
    same(tmp_path / name, network)


def test_half_precision_safetensors_run_as_float32(network: nn.Module, tmp_path: Path) -> None:
    weights = {name: t.half() if t.is_floating_point() else t for name, t in network.state_dict().items()}
    save_file(weights, tmp_path / "a.safetensors")
    loaded = load(tmp_path / "a.safetensors")
    assert "the weights are float16 in the file; they run as float32" in loaded.notes
    assert all(p.dtype == torch.float32 for p in loaded.module.parameters())


def header(text: str, data: bytes = bytes(8), length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text.encode() + data


ONE = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


@pytest.mark.parametrize(
    "content",
    [
        header(ONE + "}", length=2**63),
        header(ONE + "}", length=2**40),
        header(ONE + "}", data=bytes(4)),
        header(ONE + ',"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'),
        header(ONE.replace("[2]", "[2000000000000]") + "}"),
        header(ONE.replace("[2]", "[-2]") + "}"),
        header(ONE.replace("F32", "F99") + "}"),
        header(ONE),
        header("[1, 2]"),
        b"",
        b"\x00",
    ],
    ids=["2^63", "2^40", "short", "overlapping", "lying", "negative", "type", "cut", "no object", "empty", "a byte"],
)
def test_hostile_and_damaged_safetensors_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(UnreadableCheckpointError):
        load(tmp_path / "a.safetensors")


def program(network: nn.Module, path: Path) -> None:
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(network, (IMAGE,), dynamic_shapes=dynamic), path)


def script(network: nn.Module, path: Path) -> None:
    torch.jit.save(torch.jit.trace(network, IMAGE), path)


SAVED = pytest.mark.parametrize(("name", "save"), [("a.pt2", program), ("a.pt", script)])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@SAVED
def test_programs_need_trust_and_say_so(
    name: str, save: Callable[[nn.Module, Path], None], network: nn.Module, tmp_path: Path
) -> None:
    save(network, tmp_path / name)
    with pytest.raises(UntrustedCheckpointError, match="Nothing was run") as caught:
        load(tmp_path / name)
    assert caught.value.hint.startswith("--trust loads it")
    same(tmp_path / name, network, trust=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@SAVED
def test_a_cut_program_is_refused(
    name: str, save: Callable[[nn.Module, Path], None], network: nn.Module, tmp_path: Path
) -> None:
    save(network, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    for trust in (False, True):
        with pytest.raises(InputError):
            load(tmp_path / name, trust=trust)


def test_a_program_tells_its_inputs(network: nn.Module, tmp_path: Path) -> None:
    program(network, tmp_path / "a.pt2")
    (taken,) = load(tmp_path / "a.pt2", trust=True).inputs
    assert (taken.name, taken.shape, taken.dtype) == ("input", (1, 3, 32, 32), "float32")


def test_a_program_keeps_the_modules_by_whose_paths_gates_are_matched(network: nn.Module, tmp_path: Path) -> None:
    program(network, tmp_path / "a.pt2")
    captured = capture(load(tmp_path / "a.pt2", trust=True))
    paths = {node.metadata_props.get(MODULE_KEY, "") for node in captured.model.graph}
    assert {f"layer{i}.0.attention.fc.3" for i in (1, 2, 3)} <= paths


def test_a_program_with_keyword_arguments_is_refused_in_words(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def forward(self, image: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            return image * scale

    exported = torch.export.export(Scaled(), (IMAGE,), {"scale": torch.ones(2, 1, 1, 1)})
    torch.export.save(exported, tmp_path / "a.pt2")
    with pytest.raises(InputError, match="takes scale by keyword") as caught:
        load(tmp_path / "a.pt2", trust=True)
    assert "positional" in caught.value.hint
