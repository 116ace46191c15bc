"""The two commands around the zoo: what there is, and a checkpoint of one of them."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from attn_export.exporter import checkpoint as checkpoints
from attn_export.models.complexity import complexity
from attn_export.models.registry import architecture, create, names

Finished = subprocess.CompletedProcess[str]
Command = Callable[..., Finished]
Contents = Callable[[], dict[str, bytes | None]]


# models


def test_the_table_lists_every_network_once(attn_export: Command) -> None:
    done = attn_export("models")
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.splitlines() if re.match(r"\w+ +\d+×", line)]
    assert listed == names()


def test_the_table_gives_each_network_its_size_and_what_attention_adds(attn_export: Command) -> None:
    rows = {line.split()[0]: line for line in attn_export("models").stdout.splitlines() if line.strip()}
    assert re.search(r"3×224×224 +28\.07 M +\d+\.\d M +\+9\.85% +\+0\.16%", rows["cbam_resnet50"])
    assert "%" not in rows["resnet50"], "a network without attention adds nothing to itself"


@pytest.mark.parametrize("arguments", [["models", "--json"], ["--json", "models"]], ids=" ".join)
def test_the_numbers_for_machines_are_those_of_the_library(attn_export: Command, arguments: list[str]) -> None:
    done = attn_export(*arguments)
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert document["schema_version"] == 3
    rows = {row["name"]: row for row in document["models"]}
    assert list(rows) == names()
    for name, row in rows.items():
        arch = architecture(name)
        own = complexity(arch)
        assert (row["parameters"], row["macs"]) == (own.parameters, own.macs)
        assert row["input_shape"] == list(arch.input_shape)
        if arch.attention == "none":
            assert row["added_parameters"] is None
            assert row["added_macs"] is None
        else:
            plain = complexity(arch.plain)
            assert row["added_parameters"] == pytest.approx(own.parameters / plain.parameters - 1)
            assert row["added_macs"] == pytest.approx(own.macs / plain.macs - 1)


def test_listing_writes_nothing_and_takes_no_argument(attn_export: Command, contents: Contents) -> None:
    before = contents()
    assert attn_export("models", "--quiet").stderr == ""
    done = attn_export("models", "resnet50")
    assert done.returncode == 2
    assert "resnet50" in done.stderr
    assert contents() == before


# create


@pytest.mark.parametrize("name", ["resnet8", "se_resnet8", "cbam_resnet8"])
def test_what_is_created_is_what_python_creates(attn_export: Command, folder: Path, name: str) -> None:
    done = attn_export("create", name, "-o", "made.pt")
    assert done.returncode == 0, done.stderr
    assert "made.pt" in done.stdout
    assert name in done.stdout
    loaded = checkpoints.load(folder / "made.pt")
    expected = create(name)
    assert loaded.architecture == architecture(name)
    assert loaded.inputs[0].shape[1:] == (3, 32, 32)
    for tensor_name, tensor in expected.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[tensor_name], tensor), tensor_name


def test_every_argument_of_the_network_is_an_option(attn_export: Command, folder: Path) -> None:
    done = attn_export(
        *("create", "cbam_resnet8", "--output", "made.pt", "--num-classes", "4", "--in-channels", "1"),
        *("--reduction", "2", "--kernel-size", "3", "--seed", "11"),
    )
    assert done.returncode == 0, done.stderr
    loaded = checkpoints.load(folder / "made.pt")
    assert loaded.architecture == architecture("cbam_resnet8", num_classes=4, in_channels=1, reduction=2, kernel_size=3)
    expected = create("cbam_resnet8", num_classes=4, in_channels=1, reduction=2, kernel_size=3, seed=11)
    assert torch.equal(loaded.module.state_dict()["fc.weight"], expected.state_dict()["fc.weight"])


def test_the_seed_decides_the_weights_and_nothing_else_does(attn_export: Command, folder: Path) -> None:
    for name, seed in (("a.pt", "3"), ("b.pt", "3"), ("c.pt", "4")):
        torch.manual_seed(hash(name) % 2**32)
        assert attn_export("create", "se_resnet8", "-o", name, "--seed", seed).returncode == 0
    a, b, c = (checkpoints.load(folder / name).module.state_dict()["conv1.weight"] for name in ("a.pt", "b.pt", "c.pt"))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_what_is_created_can_be_exported(attn_export: Command, folder: Path) -> None:
    assert attn_export("create", "se_resnet8", "-o", "made.pt", "--num-classes", "5").returncode == 0
    done = attn_export("made.pt", "--onnx", "--no-bench", "--input", "1x3x16x16")
    assert done.returncode == 0, done.stderr
    assert (folder / "made.onnx").exists()


def test_the_next_command_that_is_shown_works(attn_export: Command, folder: Path) -> None:
    """Copied as it stands."""
    done = attn_export("create", "resnet8", "-o", "made.pt")
    (command,) = re.findall(r"attn-export (.+)", done.stdout)
    assert attn_export(*command.split(), "--no-bench", "--input", "1x3x16x16").returncode == 0


def test_json_describes_what_was_made(attn_export: Command, folder: Path) -> None:
    done = attn_export("create", "cbam_resnet8", "-o", "made.pt", "--json", "--quiet")
    assert done.returncode == 0
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document["schema_version"] == 3
    assert document["path"] == "made.pt"
    assert document["architecture"]["name"] == "cbam_resnet8"
    assert document["parameters"] == complexity(architecture("cbam_resnet8")).parameters
    assert document["notes"] == []


def test_the_folder_of_the_checkpoint_is_made(attn_export: Command, folder: Path, contents: Contents) -> None:
    assert attn_export("create", "resnet8", "-o", "a/new/made.pt").returncode == 0
    assert set(contents()) == {"model.pt", "a", "a/new", "a/new/made.pt"}


@pytest.mark.parametrize("name", ["made[best].pt", "a [/] b.pt", "größe 1.pt"])
def test_a_name_with_brackets_is_printed_as_it_is(attn_export: Command, folder: Path, name: str) -> None:
    done = attn_export("create", "resnet8", "-o", name)
    assert done.returncode == 0, done.stderr
    assert name in done.stdout
    assert (folder / name).exists()


# create --weights


@pytest.fixture
def backbone() -> dict[str, torch.Tensor]:
    """Weights that differ from those of every other seed."""
    return dict(create("resnet8", seed=21).state_dict())


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "in a training checkpoint"])
def test_a_plain_backbones_weights_go_into_a_network_with_attention(
    attn_export: Command, folder: Path, backbone: dict[str, torch.Tensor], wrapped: bool
) -> None:
    torch.save({"model": {f"module.{n}": t for n, t in backbone.items()}} if wrapped else backbone, "plain.pt")
    done = attn_export("create", "cbam_resnet8", "-o", "made.pt", "--weights", "plain.pt")
    assert done.returncode == 0, done.stderr
    made = checkpoints.load(folder / "made.pt").module.state_dict()
    for name, tensor in backbone.items():
        assert torch.equal(made[name], tensor), name
    fresh = set(made) - set(backbone)
    assert fresh
    assert all("attention" in name for name in fresh)
    assert f"note: {len(fresh)} tensors of the attention blocks are not in plain.pt: they are random" in done.stderr


def test_a_checkpoint_of_our_own_serves_as_weights_too(attn_export: Command, folder: Path) -> None:
    assert attn_export("create", "resnet8", "-o", "plain.pt", "--seed", "9").returncode == 0
    done = attn_export("create", "se_resnet8", "-o", "made.pt", "--weights", "plain.pt")
    assert done.returncode == 0, done.stderr
    made, plain = (checkpoints.load(folder / name).module.state_dict() for name in ("made.pt", "plain.pt"))
    assert all(torch.equal(made[name], tensor) for name, tensor in plain.items())


def test_a_classifier_for_other_classes_is_left_random_and_said(
    attn_export: Command, folder: Path, backbone: dict[str, torch.Tensor]
) -> None:
    torch.save(backbone, "plain.pt")
    done = attn_export("create", "resnet8", "-o", "made.pt", "--weights", "plain.pt", "--num-classes", "3", "--json")
    assert done.returncode == 0, done.stderr
    (note,) = json.loads(done.stdout)["notes"]
    assert "classifier" in note
    assert "random" in note
    made = checkpoints.load(folder / "made.pt").module.state_dict()
    assert made["fc.weight"].shape == (3, 64)
    assert torch.equal(made["conv1.weight"], backbone["conv1.weight"])


def test_a_networks_own_weights_leave_nothing_to_note(
    attn_export: Command, folder: Path, backbone: dict[str, torch.Tensor]
) -> None:
    torch.save(backbone, "plain.pt")
    done = attn_export("create", "resnet8", "-o", "made.pt", "--weights", "plain.pt", "--json")
    assert json.loads(done.stdout)["notes"] == []


# torchvision's names for a ResNet-18, as its documentation and every file of its weights have them.
TORCHVISION = {
    "conv1.weight",
    "bn1.running_var",
    "layer1.0.conv1.weight",
    "layer1.0.bn2.bias",
    "layer2.0.downsample.0.weight",
    "layer2.0.downsample.1.running_mean",
    "layer4.1.conv2.weight",
    "fc.weight",
    "fc.bias",
}


def test_torchvisions_names_are_the_names_here(attn_export: Command, folder: Path) -> None:
    weights = create("resnet18", seed=5).state_dict()
    assert set(weights) >= TORCHVISION
    torch.save({n: t for n, t in weights.items() if not n.endswith("num_batches_tracked")}, "resnet18-f37072fd.pth")
    done = attn_export("create", "cbam_resnet18", "-o", "made.pt", "--weights", "resnet18-f37072fd.pth")
    assert done.returncode == 0, done.stderr
    made = checkpoints.load(folder / "made.pt").module.state_dict()
    assert all(torch.equal(made[name], weights[name]) for name in TORCHVISION)


@pytest.mark.parametrize("name", ["cbam_resnet20", "se_mobilenet_v2"])
def test_weights_of_another_backbone_are_refused(
    refused: Command, folder: Path, backbone: dict[str, torch.Tensor], name: str
) -> None:
    torch.save(backbone, "plain.pt")
    arguments = ["create", name, "-o", "made.pt", "--weights", "plain.pt"]
    refused(3, *arguments, says=["plain.pt", name, "missing"], hint="resnet8")


def test_weights_that_are_not_there_are_named(refused: Command) -> None:
    refused(3, "create", "resnet8", "-o", "made.pt", "--weights", "nothing.pth", says=["nothing.pth", "does not exist"])


# What create refuses.


@pytest.mark.parametrize("name", ["cbam_resnet88", "rsenet8", "se-resnet8"])
def test_an_unknown_network_gets_the_nearest_suggested(refused: Command, name: str) -> None:
    refused(2, "create", name, "-o", "made.pt", says=[name, "did you mean", "resnet8"], hint="models")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--num-classes", "0"), ("--in-channels", "-1"), ("--reduction", "0"), ("--kernel-size", "5"), ("--seed", "x")],
)
def test_an_argument_that_no_network_has_is_refused(refused: Command, option: str, value: str) -> None:
    words = option.removeprefix("--").replace("-", "_") if option == "--kernel-size" else option
    refused(2, "create", "cbam_resnet8", "-o", "made.pt", f"{option}={value}", says=[words])


def test_a_file_that_is_there_is_kept(refused: Command, folder: Path) -> None:
    (folder / "made.pt").write_text("a week of training")
    refused(6, "create", "resnet8", "-o", "made.pt", says=["made.pt", "already there"], hint="--force")


def test_force_replaces_it(attn_export: Command, folder: Path) -> None:
    (folder / "made.pt").write_text("a week of training")
    assert attn_export("create", "resnet8", "-o", "made.pt", "--force").returncode == 0
    assert checkpoints.load(folder / "made.pt").name == "resnet8"


def test_force_does_not_lose_the_file_where_the_network_is_unknown(refused: Command, folder: Path) -> None:
    (folder / "made.pt").write_text("a week of training")
    refused(2, "create", "rsenet8", "-o", "made.pt", "--force", says=["rsenet8"])


@pytest.mark.parametrize("place", ["/proc/attn-export/made.pt", "taken/made.pt"])
def test_a_place_that_can_not_be_written_is_named(refused: Command, folder: Path, place: str) -> None:
    (folder / "taken").write_text("a file, where a folder should be")
    refused(6, "create", "resnet8", "-o", place, says=[place.removesuffix("/made.pt"), "can't be written"])


@pytest.mark.parametrize("place", ["/proc/attn-export/made.pt", "/proc/self/made.pt"])
def test_the_advice_names_an_option_that_create_has(attn_export: Command, folder: Path, place: str) -> None:
    hint = attn_export("create", "resnet8", "-o", place).stderr.partition("→")[2]
    assert "--out," not in hint
    assert "--out " not in hint


def test_create_without_a_place_says_which_option_is_missing(refused: Command) -> None:
    refused(2, "create", "resnet8", says=["-o"], hint="--help")


# create --attention


def test_attention_is_put_into_a_network_and_the_file_is_exported(attn_export: Command, folder: Path) -> None:
    done = attn_export(
        "create", "resnet8", "-o", "made.pt", "--attention", "eca", "--where", "layer1,layer3.0", "--json"
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["architecture"]["name"] == "resnet8+eca"
    assert document["attention"] == ["layer1", "layer3.0"]
    assert attn_export("made.pt", "--onnx", "--no-bench", "--input", "1x3x16x16").returncode == 0
    assert attn_export("inspect", "made.onnx").stdout.count("ECA ") == 2


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("resnet8", "--attention", "cbm"), 2, "did you mean cbam?"),
        (("resnet8", "--attention", "se", "--where", "layer9"), 2, "there is no submodule 'layer9'"),
        (("timm:hf-hub:a/b", "--attention", "se"), 2, "no network of torchvision or timm"),
        (("torchvision:resnet50",), 2, "is created with attention"),
    ],
)
def test_attention_that_can_not_be_put_in_is_refused(
    refused: Command, arguments: tuple[str, ...], code: int, says: str
) -> None:
    refused(code, "create", *arguments, "-o", "made.pt", says=[says])
