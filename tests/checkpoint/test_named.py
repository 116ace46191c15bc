"""Networks of timm and torchvision by their names, where the libraries' places are taken by small ones of our own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from attn_export.cli import run
from attn_export.exporter.artifacts import Normalization
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.errors import InputError, RuntimeUnavailableError, StateDictMismatchError, UsageError
from tests.checkpoint import libraries
from tests.checkpoint.libraries import MEAN, STD, Small

ANOTHER = "or another that has the same names and shapes and computes something else"


@pytest.fixture(autouse=True)
def small_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries.use(monkeypatch)


def write(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.parametrize(("name", "size"), [("timm:seresnet8", 32), ("torchvision:small", 48)])
def test_a_name_is_a_network_with_random_weights_that_are_the_same_each_time(name: str, size: int) -> None:
    model, again = load(name), load(name)
    assert model.name == name
    assert model.sha256 == again.sha256
    assert model.path is None
    assert model.inputs[0].shape == (1, 3, size, size)
    assert model.normalization == Normalization(MEAN, STD)
    assert any(note.startswith(f"the weights of {name} are random (seed 0)") for note in model.notes)
    assert not any(parameter.requires_grad for parameter in model.module.parameters())


def test_gates_of_random_networks_make_a_difference() -> None:
    module = load("timm:seresnet8").module
    x = torch.randn(2, 3, 32, 32)
    before = module(x)
    module.get_submodule("block.se.fc.2").weight.mul_(2)  # type: ignore[operator]
    assert not torch.equal(module(x), before)
    assert module.get_submodule("block.bn2").running_var.ne(1).all()  # type: ignore[operator]


@pytest.mark.parametrize("as_weights", [True, False], ids=["name and --weights", "file and --arch"])
@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"state_dict": w, "epoch": 3}], ids=["bare", "wrapped"])
def test_weights_of_a_named_network_say_classes_and_channels(tmp_path: Path, as_weights: bool, wrap: Any) -> None:
    trained = Small(num_classes=4, in_chans=1).eval()
    path = write(tmp_path, wrap(trained.state_dict()))
    name = "timm:seresnet8"
    model = load(name, weights=path) if as_weights else load(path, arch=name)
    assert (model.name, model.path) == (name, path)
    assert model.inputs[0].shape == (1, 1, 32, 32)
    assert model.normalization is None, "the library's is for three channels"
    assert not any("random" in note for note in model.notes)
    x = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.module(x), trained(x))


def test_an_input_that_is_said_replaces_the_librarys() -> None:
    assert load("timm:seresnet8", input_shape=(3, 64, 40)).inputs[0].shape == (1, 3, 64, 40)


def test_a_network_whose_images_the_library_does_not_describe_gets_a_usual_input() -> None:
    model = load("torchvision:plain")
    assert model.inputs[0].shape == (1, 3, 224, 224)
    assert model.normalization is None
    assert any("usual input" in note for note in model.notes)


def test_arguments_reach_the_librarys_function(tmp_path: Path) -> None:
    path = write(tmp_path, Small(width=16).state_dict())
    assert load(path, arch="timm:seresnet8", kwargs={"width": 16}).name == "timm:seresnet8"
    with pytest.raises(UsageError, match=r"can't be built: .*unexpected keyword argument 'depth'"):
        load("timm:seresnet8", kwargs={"depth": 3})


@pytest.mark.parametrize(
    ("width", "hint"),
    [
        (4, "All names and shapes fit timm:vit: --arch timm:vit."),
        (16, f"--arch timm:seresnet20, {ANOTHER}: timm:tf_seresnet20."),
        (10, "Was it built with other arguments? --kwargs '{\"name\": value}' passes them."),
    ],
)
def test_weights_of_a_relative_are_answered_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, hint: str
) -> None:
    monkeypatch.setattr("timm.list_models", lambda module="": list(libraries.WIDTHS))
    path = write(tmp_path, Small(num_classes=3, in_chans=1, width=width).state_dict())
    with pytest.raises(StateDictMismatchError, match="don't fit what timm:seresnet8 builds") as caught:
        load(path, arch="timm:seresnet8")
    assert caught.value.hint == hint


def test_a_relative_that_nearly_fits_is_named_with_its_distance(tmp_path: Path) -> None:
    weights = Small().state_dict()
    del weights["block.bn1.bias"]
    with pytest.raises(StateDictMismatchError) as caught:
        load(write(tmp_path, weights), arch="timm:seresnet20")
    nearest = "Nearest is timm:seresnet50, 1 of 17 tensors differ, then timm:seresnet8, 1 of 17 tensors differ."
    assert caught.value.hint == nearest


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("timm:seresnet9", "did you mean timm:seresnet8 or timm:seresnet50"),
        ("torchvision:smal", "did you mean torchvision:small"),
        ("timm:hf-hub:me/net", "is no network of torchvision or timm"),
        ("timm:", "is no network of torchvision or timm"),
    ],
)
def test_unknown_names_are_mistakes_in_the_command(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load(name)


def test_a_library_that_is_not_installed_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RuntimeUnavailableError, match="timm is not installed") as caught:
        load("timm:seresnet8")
    assert caught.value.exit_code == 5
    assert caught.value.hint == "pip install 'attn-export[timm]'"


@pytest.mark.parametrize("options", [{"arch": "se_resnet8"}, {"factory": "nets:build"}])
def test_a_name_and_another_network_contradict_each_other(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="name another"):
        load("timm:seresnet8", arch=options.get("arch"), factory=options.get("factory"))


def test_weights_beside_a_file_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, Small().state_dict())
    with pytest.raises(UsageError, match="is for a network that is named"):
        load(path, weights=path)


def test_weights_that_are_not_there_are_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load("timm:seresnet8", weights=tmp_path / "absent.pth")


def test_the_command_exports_and_validates_a_network_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["timm:seresnet8", "--onnx", "--no-bench"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"seresnet8.onnx", "seresnet8.report.json"}
    assert "the weights of timm:seresnet8 are random" in capfd.readouterr().err
    assert "the weights of timm:seresnet8 are random" in (tmp_path / "seresnet8.report.json").read_text()
    assert run(["validate", "timm:seresnet8", "seresnet8.onnx", "--no-cache"]) == 0
    path = write(tmp_path, Small(width=16).state_dict())
    assert run(["timm:seresnet8", "--onnx", "--weights", str(path)]) == 3
    assert run(["bench", "timm:seresnet8", "torchvision:small"]) == 2
    assert "are both checkpoints" in capfd.readouterr().err


def test_a_library_that_is_not_installed_is_said_before_torch_is_imported() -> None:
    code = (
        "import sys; sys.modules['timm'] = None; from attn_export.cli import run; "
        "code = run(['timm:resnet18', '--onnx']); sys.exit(99 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "pip install 'attn-export[timm]'" in done.stderr


def test_commands_that_take_onnx_files_say_how_a_name_becomes_one(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "timm:resnet18"]) == 3
    assert "attn-export timm:resnet18 --onnx" in capfd.readouterr().err
