"""Programs of torch.export need no option: their graphs are read as data, and compute what the network computes."""

import io
import json
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from attn_export.cli import run
from attn_export.exporter.artifacts import MODULE_KEY, Input
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.errors import InputError, UntrustedCheckpointError
from attn_export.exporter.network.capture import capture
from attn_export.exporter.network.observation import evaluating
from attn_export.models.registry import create

IMAGE = (2, 3, 16, 16)
DYNAMIC = torch.export.Dim.DYNAMIC


class Gated(nn.Module):
    """Its gate is called twice; sizes are read off the input, and a part runs without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.gate = nn.Sequential(OrderedDict([("linear-1", nn.Linear(4, 4)), ("1", nn.Sigmoid())]))
        self.ones: torch.Tensor
        self.register_buffer("ones", torch.ones(1).expand(4), persistent=False)
        self.scale = torch.tensor([1.0, 2.0, 3.0, 4.0])

    def forward(self, image: torch.Tensor, factor: float = 0.5) -> torch.Tensor:
        x = self.stem(image)
        gates = self.gate(self.gate(x.mean((2, 3))))
        with torch.no_grad():
            scale = self.ones * self.scale
        x = x * gates[:, :, None, None] * scale[:, None, None] * factor
        return x.reshape(x.shape[0], x.shape[1] // 2, -1).amax(2)


class Several(nn.Module):
    """Two inputs, one by keyword; outputs in containers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, image: torch.Tensor, *, meta: torch.Tensor) -> dict[str, Any]:
        low, high = self.conv(image).split(2, dim=1)
        top = torch.topk(high.flatten(1), 3).values
        return {"logits": low.sum((2, 3)) * meta, "deep": [top, (high,)]}


def saved(network: nn.Module, folder: Path, *, dynamic: bool = True, **keywords: torch.Tensor) -> Path:
    image = torch.zeros(IMAGE)
    shapes = {"image" if "resnet" not in type(network).__name__.lower() else "x": {0: DYNAMIC}}
    shapes |= {name: {0: DYNAMIC} for name in keywords}
    program = torch.export.export(network, (image,), keywords, dynamic_shapes=shapes if dynamic else None)
    torch.export.save(program, folder / "a.pt2")
    return folder / "a.pt2"


def same(loaded: Any, network: nn.Module, inputs: Sequence[torch.Tensor], **keywords: torch.Tensor) -> None:
    with torch.no_grad():
        for own, other in ((network, loaded), (network.double(), loaded.double())):
            kind = next(own.parameters()).dtype
            args = [value.to(kind) for value in inputs]
            named = {name: value.to(kind) for name, value in keywords.items()}
            wanted, structure = pytree.tree_flatten(own(*args, **named))
            got, found = pytree.tree_flatten(other(*args, *named.values()))
            assert structure == found
            assert all(torch.equal(a, b) for a, b in zip(wanted, got, strict=True))


def draw(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "dynamic"), [("se_resnet8", True), ("cbam_resnet8", False)])
def test_a_program_needs_no_option_and_computes_the_same(name: str, dynamic: bool, tmp_path: Path) -> None:
    network = create(name).eval()
    loaded = load(saved(network, tmp_path, dynamic=dynamic))
    (taken,) = loaded.inputs
    assert (taken.name, taken.shape, taken.dtype) == ("input", (1, 3, 16, 16), "float32")
    assert ("--static --input 2x3x16x16" in loaded.notes[0]) is not dynamic
    assert list(loaded.module.state_dict()) == list(network.state_dict())
    same(loaded.module, network, [draw(3 if dynamic else 2, 3, 16, 16)])


def test_a_module_that_is_called_twice_and_a_part_without_gradients(tmp_path: Path) -> None:
    network = Gated().eval()
    loaded = load(saved(network, tmp_path))
    captured = capture(loaded)
    gates = [node.metadata_props[MODULE_KEY] for node in captured.model.graph if node.op_type == "Sigmoid"]
    assert gates == ["gate.1", "gate.1@1"]
    with evaluating(loaded.module):
        same(loaded.module, network, [draw(5, 3, 16, 16)])


def test_a_network_that_was_read_can_be_exported_and_read_again(tmp_path: Path) -> None:
    network = Gated().eval()
    first = load(saved(network, tmp_path)).module
    program = torch.export.export(first, (torch.zeros(IMAGE),))
    torch.export.save(program, tmp_path / "b.pt2")
    again = load(tmp_path / "b.pt2").module
    with evaluating(again):
        same(again, network, [draw(2, 3, 16, 16)])


def test_inputs_by_keyword_become_inputs_in_their_order_and_containers_are_kept(tmp_path: Path) -> None:
    network = Several().eval()
    path = saved(network, tmp_path, meta=torch.ones(2, 2))
    loaded = load(path)
    assert [(taken.name, taken.shape) for taken in loaded.inputs] == [("image", (1, 3, 16, 16)), ("meta", (1, 2))]
    same(loaded.module, network, [draw(3, 3, 16, 16)], meta=draw(3, 2))
    swapped = load(path, inputs=[Input("meta", (1, 2)), Input("image", (1, 3, 16, 16))])
    assert [taken.name for taken in swapped.inputs] == ["image", "meta"]
    with pytest.raises(InputError, match="takes image, meta, and --input names image, mask"):
        load(path, inputs=[Input("image", (1, 3, 16, 16)), Input("mask", (1, 2))])


def test_values_that_nobody_uses_any_more_are_freed(tmp_path: Path) -> None:
    loaded = load(saved(create("se_resnet8").eval(), tmp_path))
    held: list[Mapping[str, Any]] = []
    last = loaded.module.get_submodule("fc")
    last.register_forward_hook(lambda _, args, __: held.append(args[0]))
    loaded.module(draw(2, 3, 16, 16))
    computed = {name for name in held[0] if not name.startswith(("p_", "b_"))}
    assert len(computed) == 1


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(3), nn.Dropout()], ids=["BatchNorm", "Dropout"])
def test_a_program_exported_for_training_says_what_to_do(layer: nn.Module, tmp_path: Path) -> None:
    path = saved(Wrapped(layer), tmp_path)
    for trust in (False, True):
        with pytest.raises(InputError, match="as in training") as caught:
            load(path, trust=trust)
        assert "model.eval()" in caught.value.hint


class Calling(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function, self.conv = function, nn.Conv2d(3, 4, 1)

    def forward(self, image: torch.Tensor) -> Any:
        return self.function(self.conv, image)


def with_autocast(conv: nn.Module, image: torch.Tensor) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return conv(image)


def with_branches(conv: nn.Module, image: torch.Tensor) -> Any:
    return torch.cond(image.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (conv(image),))


@pytest.mark.parametrize(
    ("function", "says", "hint"),
    [(with_autocast, "wrap_with_autocast", "torch.autocast out"), (with_branches, "calls cond", "torch.where")],
)
def test_control_flow_and_autocast_say_what_to_change(function: Any, says: str, hint: str, tmp_path: Path) -> None:
    path = saved(Calling(function).eval(), tmp_path)
    for trust in (False, True):
        with pytest.raises(InputError, match=says) as caught:
            load(path, trust=trust)
        assert hint in caught.value.hint


@pytest.mark.parametrize("version", [{"major": 7, "minor": 3}, {"major": 9, "minor": 0}])
def test_a_program_that_pytorch_cannot_load_either_says_so(version: dict[str, int], tmp_path: Path) -> None:
    path, other = saved(Wrapped(nn.Conv2d(3, 4, 1)).eval(), tmp_path), tmp_path / "other.pt2"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(other, "w") as written:
        for name in archive.namelist():
            content = archive.read(name)
            if "/models/" in name:
                content = json.dumps({**json.loads(content), "schema_version": version}).encode()
            written.writestr(name, content)
    for trust in (False, True):
        with pytest.raises(InputError, match="of version") as caught:
            load(other, trust=trust)
        assert "Export it again" in caught.value.hint


def test_a_program_from_before_torch_2_8_is_loaded_by_pytorch_alone(tmp_path: Path) -> None:
    network, image = Wrapped(nn.Conv2d(3, 4, 1)).eval(), torch.zeros(IMAGE)
    path = saved(network, tmp_path, dynamic=False)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "old.pt2", "w") as written:
        written.writestr("version", "8.5")
        document = next(archive.read(name) for name in archive.namelist() if "/models/" in name)
        written.writestr("serialized_exported_program.json", document)
        parts: dict[str, Any] = {
            "state_dict": dict(network.named_parameters()),
            "constants": {},
            "example_inputs": ((image,), {}),
        }
        for name, value in parts.items():
            torch.save(value, stream := io.BytesIO())
            written.writestr(f"serialized_{name}.pt", stream.getvalue())
    with pytest.raises(UntrustedCheckpointError, match=r"before 2\.8 wrote it"):
        load(tmp_path / "old.pt2")
    same(load(tmp_path / "old.pt2", trust=True).module, network, [image])


def test_a_batchnorm_without_statistics_is_no_training(tmp_path: Path) -> None:
    network = Wrapped(nn.BatchNorm2d(3, track_running_stats=False)).eval()
    same(load(saved(network, tmp_path)).module, network, [draw(2, 3, 16, 16)])


def test_a_program_in_half_precision_says_what_to_do(tmp_path: Path) -> None:
    program = torch.export.export(nn.Conv2d(3, 2, 1).half(), (torch.zeros(IMAGE).half(),))
    torch.export.save(program, tmp_path / "a.pt2")
    with pytest.raises(InputError, match="computes in float16"):
        load(tmp_path / "a.pt2")


@pytest.mark.full
@pytest.mark.parametrize(
    "name",
    "seresnet18 ecaresnet26t ghostnet_050 mobilenetv3_small_050 efficientnet_b0 convnext_atto regnetx_002 repvgg_a0 "
    "poolformer_s12 vit_tiny_patch16_224 swin_tiny_patch4_window7_224 mobilevit_xxs".split(),
)
def test_networks_of_timm_are_read(name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model(name).eval()
    image = draw(2, 3, 224, 224)
    torch.export.save(torch.export.export(network, (image,)), tmp_path / "a.pt2")
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path / "a.pt2").module(image), network(image), rtol=1e-5, atol=1e-5)


class Wrapped(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.conv, self.layer = nn.Conv2d(3, 3, 1), layer

    def forward(self, image: torch.Tensor) -> Any:
        return self.layer(self.conv(image))


@pytest.mark.full
def test_the_command_exports_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(Gated().eval(), tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(["a.pt2", "--onnx", "--no-bench", "--quiet"]) == 0
    assert (tmp_path / "a.onnx").exists()


def test_a_program_for_one_batch_alone_says_the_options_that_export_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.gate = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            return x * self.gate(x.mean((2, 3)).view(x.size(0), 4)).sigmoid().view(x.size(0), 4, 1, 1)

    program = torch.export.export(Viewed().eval(), (torch.zeros(2, 3, 16, 16),))
    torch.export.save(program, tmp_path / "a.pt2")
    words = (str(tmp_path / "a.pt2"), "--onnx", "--no-bench")
    assert run(words) == 3
    assert "--static --input 2x3x16x16 exports it" in " ".join(capfd.readouterr().err.split())
    assert run((*words, "--static", "--input", "2x3x16x16")) == 0
