"""Input that is wrong, as the user meets it: the exit code, the words, and a folder that is as it was.

What every refusal has in common is checked by the fixture `refused`.
"""

import builtins
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attn_export.models.registry import create

Finished = subprocess.CompletedProcess[str]
Command = Callable[..., Finished]
Contents = Callable[[], dict[str, bytes | None]]

QUICK = ["--onnx", "--no-bench"]


# 3: the input.


def test_a_missing_file_is_named(refused: Command) -> None:
    refused(3, "weights/nothing.pt", *QUICK, says=["weights/nothing.pt", "does not exist"])


@pytest.mark.parametrize("path", ["x" * 5000, "loop"], ids=["5,000 letters", "a loop"])
@pytest.mark.parametrize(
    "command",
    ["{}.pt --onnx", "bench {}.onnx", "build {}.bundle.zip --gpu sm86", "compare {}.json {}.json", "clean {}.onnx"],
)
def test_a_path_that_no_file_can_have_is_named(refused: Command, folder: Path, command: str, path: str) -> None:
    words = [word.format(path) for word in command.split()]
    for word in words:
        if word.startswith("loop"):
            (folder / word).unlink(missing_ok=True)
            (folder / word).symlink_to(word)
    refused(3, *words, *(["-o", "out.onnx"] if words[0] == "clean" else []), says=[path[:50]])


@pytest.mark.parametrize("command", ["create resnet8 -o {}.pt", "compare a.json b.json --report {}.md"])
def test_a_path_that_no_result_can_have_is_an_error_of_the_output(refused: Command, command: str) -> None:
    refused(6, *command.format("x" * 5000).split(), says=["can't be written: File name too long"])


def test_a_directory_is_no_checkpoint(refused: Command, folder: Path) -> None:
    (folder / "run").mkdir()
    refused(3, "run", *QUICK, says=["run", "directory"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"# a text file\nwith several lines\n", "is not a PyTorch checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 335506\n", "is not a PyTorch checkpoint"),
        (b"\x08\x0a\x12\x07pytorch" + bytes(99), "is not a PyTorch checkpoint"),
    ],
    ids=["empty", "text", "git lfs pointer", "onnx"],
)
def test_what_is_no_checkpoint_is_refused(refused: Command, folder: Path, content: bytes, words: str) -> None:
    (folder / "broken.pt").write_bytes(content)
    refused(3, "broken.pt", *QUICK, says=["broken.pt", words])


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_truncated_file_is_damaged(refused: Command, folder: Path, share: float) -> None:
    whole = (folder / "model.pt").read_bytes()
    (folder / "cut.pt").write_bytes(whole[: int(len(whole) * share)])
    refused(3, "cut.pt", *QUICK, says=["cut.pt", "truncated or damaged"], hint="Copy it again")


class Attack:
    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("place", ["alone", "beside the weights"])
def test_a_hostile_file_runs_nothing(refused: Command, folder: Path, network: torch.nn.Module, place: str) -> None:
    content: Any = Attack() if place == "alone" else {"state_dict": network.state_dict(), "extra": Attack()}
    torch.save(content, folder / "hostile.pt")
    refused(3, "hostile.pt", *QUICK, "--arch", "cbam_resnet8", says=["hostile.pt", "system", "Nothing was run"])
    assert not (folder / "pwned").exists()


def test_a_hostile_plain_pickle_runs_nothing(refused: Command, folder: Path) -> None:
    (folder / "hostile.pt").write_bytes(pickle.dumps(Attack()))
    refused(3, "hostile.pt", *QUICK, says=["hostile.pt", "system", "Nothing was run"])
    assert not (folder / "pwned").exists()


def test_weights_of_another_architecture_are_named_and_the_right_one_suggested(refused: Command, folder: Path) -> None:
    torch.save(create("se_resnet8").state_dict(), folder / "other.pt")
    done = refused(
        3,
        "other.pt",
        *QUICK,
        "--arch",
        "cbam_resnet8",
        says=["don't fit cbam_resnet8", "missing", "unexpected"],
        hint="fit se_resnet8: leave --arch out",
    )
    assert "attention" in done.stderr, "tensors are named"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_named(
    refused: Command, folder: Path, network: torch.nn.Module, value: float
) -> None:
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    weights["layer2.0.conv1.weight"][0, 0, 0, 0] = value
    torch.save(weights, folder / "diverged.pt")
    done = refused(3, "diverged.pt", *QUICK, "--arch", "cbam_resnet8", says=["diverged.pt", "layer2.0.conv1.weight"])
    assert "layer1" not in done.stderr, "only what is wrong"


def test_bare_weights_that_nearly_fit_get_the_nearest_named_and_no_useless_option(
    refused: Command, folder: Path, network: torch.nn.Module
) -> None:
    weights = dict(network.state_dict())
    del weights["fc.weight"]
    torch.save(weights, folder / "bare.pt")
    done = refused(3, "bare.pt", *QUICK, says=["bare.pt", "of which network"], hint="cbam_resnet8")
    assert "--arch" not in done.stderr


def test_bare_weights_of_somebody_elses_network_get_no_wrong_suggestion(refused: Command, folder: Path) -> None:
    torch.save({"encoder.weight": torch.ones(3, 3), "decoder.bias": torch.ones(3)}, folder / "bare.pt")
    done = refused(3, "bare.pt", *QUICK, says=["bare.pt", "of which network"])
    assert "--arch" not in done.stderr


def test_an_empty_dictionary_holds_no_weights(refused: Command, folder: Path) -> None:
    torch.save({}, folder / "bare.pt")
    refused(3, "bare.pt", *QUICK, says=["bare.pt"])


# 2: the command line.


@pytest.mark.parametrize(
    "text",
    [
        "16",
        "0x3x16x16",
        "1x3x0x16",
        "-1x3x16x16",
        "1,3,16,16",
        "1x3x16xW",
        "1x3x16.5x16",
        "1 x 3 x 16 x 16",
        "",
        "batchx3x16x16",
        "1x3x16x99999999999",
    ],
)
def test_an_input_that_is_no_shape_is_refused_with_an_example(refused: Command, text: str) -> None:
    refused(2, "model.pt", *QUICK, f"--input={text}", says=["--input", text], hint="1x3x224x224")


@pytest.mark.parametrize("text", ["3x16x16", "1x3x16x16x1", "1x3"])
def test_an_input_of_another_rank_than_an_image_is_refused(refused: Command, text: str) -> None:
    refused(2, "model.pt", *QUICK, f"--input={text}", says=["--input", "takes (C, H, W)"], hint="1x3x")


@pytest.mark.parametrize("channels", [1, 4])
def test_an_input_with_the_wrong_channels_is_refused(refused: Command, channels: int) -> None:
    refused(
        2, "model.pt", *QUICK, "--input", f"1x{channels}x16x16", says=[f"{channels} channel", "takes 3"], hint="1x3x"
    )


@pytest.mark.parametrize("name", ["cbam_resnet9", "cbam-resnet8"])
def test_an_unknown_architecture_gets_the_nearest_suggested(
    refused: Command, folder: Path, network: torch.nn.Module, name: str
) -> None:
    torch.save(network.state_dict(), folder / "bare.pt")
    refused(2, "bare.pt", *QUICK, "--arch", name, says=[name, "cbam_resnet8"], hint="models")


def test_an_architecture_that_contradicts_the_file_is_refused(refused: Command) -> None:
    refused(2, "model.pt", *QUICK, "--arch", "se_resnet8", says=["model.pt", "cbam_resnet8", "se_resnet8"])


def test_a_name_too_long_for_results_is_an_error_of_the_output(refused: Command, folder: Path) -> None:
    (folder / "model.pt").rename(folder / f"{'n' * 247}.pt")
    refused(6, f"{'n' * 247}.pt", *QUICK, says=["n.report.json can't be written: File name too long"])


def test_a_checkpoint_is_not_replaced_by_its_export(refused: Command, folder: Path) -> None:
    before = (folder / "model.pt").rename(folder / "model.onnx").read_bytes()
    refused(2, "model.onnx", *QUICK, says=["model.onnx could be replaced by its export"], hint="model.pt")
    assert (folder / "model.onnx").read_bytes() == before


@pytest.mark.parametrize("value", ["tensorflow", "eager,onnx", "eager,Onnxruntime"])
def test_an_unknown_runtime_gets_the_known_ones_listed(refused: Command, value: str) -> None:
    unknown = value.split(",")[-1]
    refused(2, "model.pt", "--onnx", "--runtimes", value, says=[repr(unknown)], hint="eager, compile, onnxruntime")


def test_an_unknown_runtime_is_refused_even_where_nothing_is_timed(refused: Command) -> None:
    refused(2, "model.pt", *QUICK, "--runtimes", "tensorflow", says=["tensorflow"])


@pytest.mark.parametrize("value", ["depth", "batch,depth", "N", "Batch"])
def test_an_unknown_axis_gets_the_known_ones_listed(refused: Command, value: str) -> None:
    refused(2, "model.pt", *QUICK, "--dynamic", value, says=[value.split(",")[-1]], hint="batch, height, width")


def test_static_and_dynamic_contradict_each_other(refused: Command) -> None:
    refused(2, "model.pt", *QUICK, "--static", "--dynamic", "batch", says=["--static", "--dynamic"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--onxx"], ["--onxx"]),
        (["--onnx", "--threads", "0"], ["--threads"]),
        (["--onnx", "--threads", "two"], ["--threads"]),
        (["--onnx", "--threads"], ["--threads"]),
        (["--onnx", "--opset", "latest"], ["--opset"]),
        (["--onnx", "another.pt"], ["another.pt"]),
        (["--onnx=yes"], ["--onnx"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_an_option_that_makes_no_sense_is_named(refused: Command, arguments: list[str], words: list[str]) -> None:
    refused(2, "model.pt", *arguments, says=words, hint="--help")


def test_a_misspelt_option_gets_the_right_one_suggested(refused: Command) -> None:
    refused(2, "model.pt", "--onxx", says=["--onxx", "--onnx"])


@pytest.mark.parametrize("arguments", [["model.pt"], ["export", "model.pt"], ["model.pt", "--no-bench"]], ids=" ".join)
def test_asking_for_nothing_says_what_can_be_asked(refused: Command, arguments: list[str]) -> None:
    refused(2, *arguments, says=["neither --onnx nor --engine"], hint="attn-export model.pt --onnx")


@pytest.mark.parametrize("arguments", [["--onnx"], ["export", "--onnx"]], ids=" ".join)
def test_no_checkpoint_at_all_is_said(refused: Command, arguments: list[str]) -> None:
    refused(2, *arguments, says=["MODEL"])


@pytest.mark.parametrize("arguments", [["modles"], ["modles", "--json"], ["modles", "--onnx"]], ids=" ".join)
def test_a_misspelt_command_gets_the_right_one_suggested(attn_export: Command, arguments: list[str]) -> None:
    done = attn_export(*arguments)
    assert done.returncode == 2
    assert "modles" in done.stderr
    assert "attn-export models" in done.stderr


@pytest.mark.parametrize("arguments", [["creat", "resnet8", "-o", "x.pt"], ["craete", "resnet8"]], ids=" ".join)
def test_a_misspelt_command_with_its_own_arguments_gets_the_right_one_suggested(
    attn_export: Command, arguments: list[str]
) -> None:
    done = attn_export(*arguments)
    assert done.returncode == 2
    assert "attn-export create" in done.stderr


@pytest.mark.parametrize("word", ["modle.pt", "model.pth", "Model.pt"])
@pytest.mark.parametrize("arguments", [[], ["--onnx"]], ids=["nothing asked", "--onnx"])
def test_a_misspelt_file_gets_the_one_beside_it_suggested(refused: Command, word: str, arguments: list[str]) -> None:
    refused(2, word, *arguments, says=[word], hint="model.pt")


def test_a_misspelt_file_in_another_folder_gets_the_one_there_suggested(refused: Command, folder: Path) -> None:
    (folder / "runs").mkdir()
    (folder / "model.pt").rename(folder / "runs" / "weights.pt")
    refused(2, "runs/wieghts.pt", "--onnx", says=["runs/wieghts.pt"], hint="runs/weights.pt")


def test_a_whole_module_without_its_input_shape_is_refused(refused: Command, folder: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.BatchNorm2d(3)), folder / "whole.pt")
    refused(2, "whole.pt", *QUICK, says=["whole.pt", "input shape"], hint="--input")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--factory", "net"], "--factory net is no MODULE:FUNCTION"),
        (["--factory", "net:build", "--arch", "cbam_resnet8"], "contradict each other"),
        (["--factory", "net:build", "--kwargs", "{depth: 3}"], "is not JSON"),
        (["--factory", "net:build", "--kwargs", "[3]"], "is no JSON object"),
        (["--kwargs", "{}"], "none was named"),
        (["--code", "absent"], "--code absent isn't there"),
        (["--code", "absent.py:Net"], "--code absent.py isn't there"),
        (["--code", "model.pt"], "neither a folder nor a Python file"),
    ],
)
def test_options_about_ones_own_network_have_a_form(refused: Command, options: list[str], says: str) -> None:
    refused(2, "model.pt", *QUICK, *options, says=[says])


# 4: capture.


@pytest.mark.parametrize(
    "opset", [pytest.param(1, marks=pytest.mark.full), 17, pytest.param(99, marks=pytest.mark.full)]
)
def test_an_opset_that_the_exporter_does_not_write_is_refused(refused: Command, opset: int) -> None:
    refused(4, "model.pt", *QUICK, "--opset", str(opset), says=[f"opset {opset}"], hint="18 to 23")


class Branches(torch.nn.Module):
    """Which way it goes depends on the values, and a graph has one way only."""

    def __init__(self) -> None:
        super().__init__()
        # Far from where it turns: otherwise rounding decides which way it goes, and that is refused before.
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.conv.bias = torch.nn.Parameter(torch.full((4,), 10.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return x * 2 if x.sum() > 0 else x


class FullPool(torch.nn.Module):
    """Squeezes with a pool of its input's size, which another input hasn't."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.squeeze = torch.nn.AvgPool2d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return (x * torch.sigmoid(self.squeeze(x))).flatten(1)


class HasInner(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.inner(x)
        return result


def pickled(module: torch.nn.Module, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save the whole module; its classes are importable under a name that pickles find."""
    monkeypatch.setitem(sys.modules, "users_training_code", sys.modules[__name__])
    for part in module.modules():
        if type(part).__module__ == __name__:
            monkeypatch.setattr(type(part), "__module__", "users_training_code")
    torch.save(module, path)


def test_a_module_that_can_not_be_captured_is_named(
    refused: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled(HasInner(Branches()), folder / "whole.pt", monkeypatch)
    refused(4, "whole.pt", *QUICK, "--trust", "--input", "1x3x16x16", says=["inner"])


def test_a_pool_of_the_inputs_size_forbids_open_sizes_and_is_named(
    refused: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled(HasInner(FullPool()), folder / "whole.pt", monkeypatch)
    refused(
        4,
        "whole.pt",
        *QUICK,
        "--trust",
        "--input",
        "1x3x16x16",
        "--dynamic",
        "batch,height,width",
        says=["inner.squeeze", "pool"],
        hint="--dynamic batch",
    )


def test_the_same_pool_does_no_harm_at_a_fixed_size(
    attn_export: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled(HasInner(FullPool()), folder / "whole.pt", monkeypatch)
    done = attn_export("whole.pt", *QUICK, "--trust", "--input", "1x3x16x16")
    assert done.returncode == 0, done.stderr


# 5: a runtime.


def absent(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Let the import of a module fail as if it weren't installed."""
    for name in [n for n in sys.modules if n == missing or n.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name: str, *others: Any) -> Any:
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return real(name, *others)

    monkeypatch.setattr(builtins, "__import__", without)


@pytest.mark.parametrize("arguments", [["--no-bench"], ["--threads", "1"]], ids=" ".join)
def test_a_runtime_that_is_not_there_is_named(
    refused: Command, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    absent(monkeypatch, "onnxruntime")
    refused(5, "model.pt", "--onnx", *arguments, says=["onnxruntime"], hint="install")


def test_a_runtime_that_can_not_run_the_file_is_named(refused: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : no kernel for Conv(22)\nand much more")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    done = refused(5, "model.pt", *QUICK, says=["onnxruntime", "no kernel for Conv(22)"])
    assert "and much more" not in done.stderr
