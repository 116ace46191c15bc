"""Training checkpoints with several weights: the averaged ones by default, any by ``--checkpoint-key``."""

from pathlib import Path
from typing import Any

import pytest
import torch

from attn_export.cli import run
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.errors import InputError, UnknownArchitectureError, UsageError
from attn_export.models.registry import create
from tests.checkpoint.blog_senet import SENet

Weights = dict[str, torch.Tensor]
BLOG = Path(__file__).with_name("blog_senet.py")


def weights_of(seed: int) -> Weights:
    return create("se_resnet8", seed=seed).state_dict()


MODEL, AVERAGED = weights_of(1), weights_of(2)


def named(prefix: str, weights: Weights) -> Weights:
    return {f"{prefix}.{name}": tensor for name, tensor in weights.items()}


def write(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "training.ckpt")
    return folder / "training.ckpt"


def is_of(model: Any, weights: Weights) -> bool:
    return torch.equal(model.module.state_dict()["conv1.weight"], weights["conv1.weight"])


LAYOUTS = {
    "entries": {"model": MODEL, "ema": AVERAGED, "epoch": 3},
    "entries of a wrapper": {"state_dict": {"model": MODEL, "ema": AVERAGED}},
    "prefixes": {**named("model", MODEL), **named("ema", AVERAGED)},
    "prefixes in Lightning": {
        "state_dict": {**named("model", MODEL), **named("ema", AVERAGED), "loss.w": torch.ones(3)}
    },
}


@pytest.mark.parametrize("content", LAYOUTS.values(), ids=LAYOUTS)
def test_averaged_weights_are_the_default_and_each_can_be_named(tmp_path: Path, content: Any) -> None:
    path = write(tmp_path, content)
    assert is_of(load(path), AVERAGED)
    assert any("--checkpoint-key model takes th" in note for note in load(path).notes)
    for key, weights in (("model", MODEL), ("ema", AVERAGED)):
        model = load(path, key=key)
        assert is_of(model, weights)
        assert f"the weights are those under {key!r}, as --checkpoint-key says" in model.notes
        assert not any("not under" in note for note in model.notes)


@pytest.mark.parametrize("content", LAYOUTS.values(), ids=LAYOUTS)
def test_a_name_that_the_file_lacks_is_answered_with_those_that_it_has(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UsageError, match=r"--checkpoint-key emma: .* holds no weights of this name") as caught:
        load(write(tmp_path, content), key="emma")
    assert caught.value.hint.startswith("Did you mean ema? It has ")
    assert "model" in caught.value.hint


def test_an_entry_without_weights_is_none(tmp_path: Path) -> None:
    content = {"model": MODEL, "optimizer": {"lr": 0.1}, "args": {"a": 3}}
    with pytest.raises(UsageError) as caught:
        load(write(tmp_path, content), key="optimizer")
    assert caught.value.hint == "It has model."


def test_a_file_with_one_network_has_nothing_to_choose(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(write(tmp_path, [MODEL]), key="model")
    assert "leave the option out" in caught.value.hint


def test_several_weights_under_unusual_names_are_said_with_the_option_that_takes_them(tmp_path: Path) -> None:
    path = write(tmp_path, {"first": MODEL, "second": AVERAGED, "epoch": 3})
    with pytest.raises(InputError, match="under first, second") as caught:
        load(path)
    assert "--code FILE.py:CLASS" in caught.value.hint
    assert "--checkpoint-key first takes the first" in caught.value.hint
    assert is_of(load(path, key="second"), AVERAGED)


def test_of_two_networks_that_fit_the_error_names_the_option(tmp_path: Path) -> None:
    path = write(tmp_path, {**named("online", MODEL), **named("target", AVERAGED)})
    with pytest.raises(UnknownArchitectureError, match="online and target") as caught:
        load(path)
    assert caught.value.hint == "--checkpoint-key online takes the first."
    assert is_of(load(path, key="target"), AVERAGED)


def test_whole_modules_are_entries_too(tmp_path: Path) -> None:
    first, second = SENet(width=8), SENet(width=16)
    path = write(tmp_path, {"model": first, "ema": second})
    assert load(path, code=BLOG).module.state_dict()["stem.weight"].shape[0] == 16
    assert load(path, code=BLOG, key="model").module.state_dict()["stem.weight"].shape[0] == 8


def test_a_network_of_the_users_is_found_beside_a_loss(tmp_path: Path) -> None:
    network = SENet(width=8)
    path = write(tmp_path, {"state_dict": {**named("model", network.state_dict()), "criterion.weight": torch.ones(5)}})
    model = load(path, factory="blog_senet:SENet", code=BLOG)
    assert torch.equal(model.module.get_parameter("stem.weight"), network.stem.weight)
    assert "the network is that under 'model'; 1 other tensors of the file are left out" in model.notes


def test_the_command_takes_the_key(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, LAYOUTS["entries"])
    assert run([str(path), "--onnx", "--checkpoint-key", "teacher"]) == 2
    assert "It has model, ema." in capfd.readouterr().err


def test_averages_of_parameters_take_the_statistics_of_the_network_beside_them(tmp_path: Path) -> None:
    """As the usual class for an exponential moving average keeps them: ``shadow``, of named_parameters()."""
    network = create("se_resnet8", seed=1)
    network.state_dict()["bn1.running_mean"].fill_(0.25)
    shadow = {name: tensor.detach() + 0.1 for name, tensor in network.named_parameters()}
    model = load(write(tmp_path, {"model": network.state_dict(), "ema": {"decay": 0.99, "shadow": shadow}}))
    found = model.module.state_dict()
    assert torch.equal(found["conv1.weight"], shadow["conv1.weight"])
    assert torch.equal(found["bn1.running_mean"], torch.full((16,), 0.25))
    assert "BatchNorm's statistics, which it lacks, are those under 'model'" in model.notes
