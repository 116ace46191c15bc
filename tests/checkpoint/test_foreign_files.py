"""What training scripts write: wrappers, prefixes, old formats, other dtypes, whole modules."""

import argparse
import collections
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.checkpoint.state_dict import PREFIXES, WRAPPERS
from attn_export.exporter.errors import (
    InputError,
    NonFiniteWeightsError,
    StateDictMismatchError,
    UnknownArchitectureError,
    UnreadableCheckpointError,
    UsageError,
)
from attn_export.models.registry import architecture, build

NAME = "cbam_resnet8"
ALL_BUT_WEIGHTS = {"epoch": 7, "best": 0.93, "optimizer": {"lr": 0.1, "steps": [1, 2]}, "name": "run 7", "flag": None}


def same_weights(model, weights) -> bool:
    ours = model.module.state_dict()
    return all(torch.equal(ours[n], weights[n]) for n in ours)


def halved(weights, dtype):
    return {n: t.to(dtype) if t.is_floating_point() else t for n, t in weights.items()}


@pytest.mark.parametrize("legacy", [False, True])
def test_a_bare_state_dict_is_read(write, weights, legacy):
    assert same_weights(load(write(weights, legacy=legacy), arch=NAME), weights)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_usual_wrappers_are_opened_and_said(write, weights, wrapper):
    model = load(write({**ALL_BUT_WEIGHTS, wrapper: weights}), arch=NAME)
    assert same_weights(model, weights)
    assert f"the weights are those under {wrapper!r}" in model.notes


@pytest.mark.parametrize("wrap", [lambda content: content, lambda content: {"state_dict": content}])
def test_what_stands_among_the_weights_is_left_out_and_said(write, weights, wrap):
    model = load(write(wrap({**weights, "epoch": 3, "args": argparse.Namespace(lr=0.1)})), arch=NAME)
    assert same_weights(model, weights)
    assert "left out, being no tensors: epoch, args" in model.notes


def test_a_tensor_among_the_weights_that_is_no_weight_is_a_mismatch(write, weights):
    with pytest.raises(StateDictMismatchError) as caught:
        load(write({**weights, "loss": torch.tensor(0.3)}), arch=NAME)
    assert caught.value.unexpected == ("loss",)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_usual_prefixes_are_taken_off(write, weights, prefix):
    assert same_weights(load(write({prefix + n: t for n, t in weights.items()}), arch=NAME), weights)


def test_wrappers_and_prefixes_may_stand_one_in_the_other(write, weights):
    compiled = {f"module._orig_mod.{n}": t for n, t in weights.items()}
    assert same_weights(load(write({"model": {"state_dict": compiled}}), arch=NAME), weights)


def test_a_prefix_that_only_some_names_have_is_left(write, weights):
    mixed = {(f"module.{n}" if n.startswith("fc") else n): t for n, t in weights.items()}
    with pytest.raises(StateDictMismatchError) as caught:
        load(write(mixed), arch=NAME)
    assert caught.value.unexpected == ("module.fc.weight", "module.fc.bias")
    assert caught.value.missing == ("fc.weight", "fc.bias")


def test_a_parallel_modules_state_dict_is_read(write, network, weights):
    assert same_weights(load(write(torch.nn.DataParallel(network).state_dict()), arch=NAME), weights)


def test_the_state_dict_of_torchs_own_averaging_is_read(write, network, weights):
    averaged = torch.optim.swa_utils.AveragedModel(network)
    assert same_weights(load(write({"model_ema": averaged.state_dict()}), arch=NAME), weights)


@pytest.mark.parametrize("ema", ["state_dict_ema", "model_ema", "ema_state_dict", "ema"])
@pytest.mark.parametrize("plain", ["state_dict", "model"])
def test_averaged_weights_are_preferred_and_said(write, weights, ema, plain):
    other = {n: t + 1 for n, t in weights.items()}
    model = load(write({plain: other, ema: weights}), arch=NAME)
    assert same_weights(model, weights)
    beside = f"not under {plain!r}: --checkpoint-key {plain} takes these"
    assert f"the weights are those under {ema!r}, {beside}" in model.notes
    assert same_weights(load(write({plain: other, ema: weights}), arch=NAME, key=plain), other)


def test_an_ema_entry_that_holds_no_weights_is_not_mistaken_for_them(write, weights):
    model = load(write({"ema": 0.999, "model_ema": {"decay": 0.999}, "model": weights}), arch=NAME)
    assert same_weights(model, weights)
    assert "the weights are those under 'model'" in model.notes


@pytest.mark.parametrize("legacy", [False, True])
def test_objects_beside_the_weights_are_neither_imported_nor_in_the_way(write, weights, legacy):
    content = {
        "state_dict": weights,
        "args": argparse.Namespace(lr=0.1, data=Path("images")),
        "best": np.float64(0.93),
        "history": np.arange(3),
        "counts": collections.Counter("aab"),
    }
    model = load(write(content, legacy=legacy), arch=NAME)
    assert same_weights(model, weights)
    note = model.notes[0]
    assert note.startswith("the file names ")
    assert note.endswith("not imported, not run")
    assert "argparse.Namespace" in note


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"model": m, "epoch": 3}, torch.nn.DataParallel])
def test_the_weights_of_a_whole_pickled_module_are_read_without_its_code(write, network, weights, wrap):
    model = load(write(wrap(network)), arch=NAME)
    assert same_weights(model, weights)
    assert "the weights were taken out of a pickled module" in model.notes


def test_parameters_that_require_gradients_are_read(write, weights):
    parameters = {n: torch.nn.Parameter(t) if t.is_floating_point() else t for n, t in weights.items()}
    model = load(write(parameters), arch=NAME)
    assert same_weights(model, weights)
    assert not any(p.requires_grad for p in model.module.parameters())


def test_tensors_that_share_memory_or_lie_transposed_are_read(write, weights):
    weights["fc.weight"] = weights["fc.weight"].T.contiguous().T
    weights["bn1.bias"] = weights["bn1.weight"]
    assert same_weights(load(write(weights), arch=NAME), weights)


def test_weights_of_a_time_before_the_batch_counters_are_read(write, weights):
    old = {n: t for n, t in weights.items() if not n.endswith("num_batches_tracked")}
    model = load(write(old), arch=NAME)
    assert all(torch.equal(model.module.state_dict()[n], t) for n, t in old.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_run_as_float32_and_are_said(write, weights, dtype):
    model = load(write(halved(weights, dtype)), arch=NAME)
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert f"the weights are {str(dtype)[6:]} in the file; they run as float32" in model.notes
    assert torch.equal(model.module.fc.weight, weights["fc.weight"].to(dtype).float())


def test_float32_weights_are_not_worth_a_note(write, weights):
    assert not any("float32" in note for note in load(write(weights), arch=NAME).notes)


def test_what_the_shapes_say_is_said(write, weights):
    model = load(write(weights), arch=NAME)
    assert "read from the weights' shapes: 3 classes, 1 input channels, reduction 4, spatial kernel 3" in model.notes
    assert model.architecture == architecture(NAME, num_classes=3, in_channels=1, reduction=4, kernel_size=3)
    assert model.inputs[0].shape[1:] == (1, 32, 32)


@pytest.mark.parametrize("name", ["resnet18", "se_mobilenet_v2", "se_mobilenet_v3_small", "cbam_mobilenet_v3_small"])
@pytest.mark.parametrize("reduction", [2, 8, 16, 24])
def test_arguments_are_inferred_in_every_family(write, name, reduction):
    arch = architecture(name, num_classes=5, in_channels=4, reduction=reduction)
    found = load(write(build(arch).state_dict()), arch=name).architecture
    assert (found.num_classes, found.in_channels) == (5, 4)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_are_refused_by_the_tensors_name(write, weights, poison):
    weights["layer2.0.bn1.running_var"] = weights["layer2.0.bn1.running_var"].clone().fill_(poison)
    with pytest.raises(NonFiniteWeightsError, match=r"NaN or infinity in layer2\.0\.bn1\.running_var") as caught:
        load(write(weights), arch=NAME)
    assert caught.value.tensors == ("layer2.0.bn1.running_var",)
    assert caught.value.exit_code == 3


def test_many_tensors_with_nan_are_counted(write, weights):
    with pytest.raises(NonFiniteWeightsError, match=r"in conv1.weight, .* and \d+ more"):
        load(write({n: t * float("nan") if t.is_floating_point() else t for n, t in weights.items()}), arch=NAME)


@pytest.mark.parametrize(
    ("wrong", "missing", "unexpected"),
    [
        ("resnet8", (), "layer1.0.attention.ChannelGate.fc1.weight"),
        ("se_resnet8", "layer1.0.attention.fc.0.weight", "layer1.0.attention.ChannelGate.fc1.weight"),
        ("cbam_resnet20", "layer1.1.conv1.weight", ()),
    ],
)
def test_the_wrong_architecture_is_answered_with_the_differences_and_the_right_one(
    write, weights, wrong, missing, unexpected
):
    with pytest.raises(StateDictMismatchError, match=f"the weights don't fit {wrong}") as caught:
        load(write(weights), arch=wrong)
    error = caught.value
    assert error.nearest == NAME
    assert error.hint == f"All names and shapes fit {NAME}: leave --arch out."
    assert error.exit_code == 3
    assert error.missing == () if missing == () else missing in error.missing
    assert error.unexpected == () if unexpected == () else unexpected in error.unexpected


def test_tensors_of_another_shape_are_named_with_both_shapes(write, weights):
    weights["layer1.0.conv2.weight"] = torch.zeros(16, 16, 5, 5)
    with pytest.raises(StateDictMismatchError, match="1 of another shape") as caught:
        load(write(weights), arch=NAME)
    assert caught.value.misshapen == ("layer1.0.conv2.weight is (16, 16, 5, 5), expected (16, 16, 3, 3)",)


@pytest.mark.parametrize(
    "name", ["cbam_resnet8", "se_resnet20", "resnet18", "se_resnet50", "mobilenet_v2", "cbam_mobilenet_v3_small"]
)
def test_a_state_dict_that_one_network_fits_needs_no_name(write, name):
    arch = architecture(name, num_classes=7, in_channels=1)
    model = load(write(build(arch).state_dict()))
    assert model.architecture == arch
    assert any(note.startswith(f"the names and shapes are those of {name} with 7 classes") for note in model.notes)


def test_attention_without_parameters_is_pointed_at_where_none_is_seen(write):
    weights = build(architecture("simam_resnet8")).state_dict()
    model = load(write(weights))
    assert model.name == "resnet8"
    (note,) = [note for note in model.notes if "without parameters" in note]
    assert note.endswith("--arch simam_resnet8 if there is some")
    assert load(write(weights), arch="simam_resnet8").name == "simam_resnet8"
    assert not any("without parameters" in note for note in load(write(weights), arch="resnet8").notes)


@pytest.mark.parametrize("arch", [None, "se_resnet8"])
def test_weights_of_no_network_of_ours_are_not_likened_to_one(write, arch):
    stranger = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)).state_dict()
    with pytest.raises((UnknownArchitectureError, StateDictMismatchError)) as caught:
        load(write(stranger), arch=arch)
    assert caught.value.nearest is None
    assert "--factory" in caught.value.hint


@pytest.mark.parametrize("arch", ["cbam_resnet9", "", "CBAM_RESNET8"])
def test_an_unknown_architecture_is_a_mistake_in_the_command(write, weights, arch):
    with pytest.raises(UsageError, match="there is no network called") as caught:
        load(write(weights), arch=arch)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 8, 8)])
def test_an_input_of_other_channels_is_a_mistake_in_the_command(write, weights, shape):
    with pytest.raises(UsageError, match=f"the input has {shape[0]} channels, {NAME} takes 1") as caught:
        load(write(weights), arch=NAME, input_shape=shape)
    assert "--input 1x1x32x32" in caught.value.hint


@pytest.mark.parametrize("content", [{}, [], None, 3, "weights", {"epoch": 3}, {"state_dict": {}}, {"model": {"a": 1}}])
def test_a_file_without_weights_is_refused(write, content):
    with pytest.raises(UnreadableCheckpointError, match=r"model\.pt holds no weights"):
        load(write(content), arch=NAME)


@pytest.mark.parametrize("key", ["weights_", "my_model", "STATE_DICT"])
@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"trainer": {"nets": w}}], ids=["outside", "inside"])
def test_the_only_weights_in_a_file_are_taken_under_any_name(write, weights, key, wrap):
    averages = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    model = load(write({**wrap({key: weights}), "optimizer": {"exp_avg": averages}, "loss": {"last": torch.ones(3)}}))
    assert same_weights(model, weights)
    assert f"the weights are those under {key!r}, the only ones in the file" in model.notes


@pytest.mark.parametrize("wrap", [lambda w: [w, {"lr": 0.1}], lambda w: (w, 3), lambda w: [3, w]])
def test_weights_in_a_list_are_taken(write, weights, wrap):
    model = load(write(wrap(weights)))
    assert same_weights(model, weights)
    assert "the weights are those of the first item in the file" in model.notes


@pytest.mark.parametrize("prefix", ["backbone.", "encoder.", "my_net.", "model.backbone."])
def test_one_name_before_all_others_is_taken_off(write, weights, prefix):
    assert same_weights(load(write({prefix + n: t for n, t in weights.items()})), weights)


def test_a_dictionary_that_holds_itself_under_many_names_is_looked_through_once(write):
    content = {}
    content.update({f"name{i}": content for i in range(2000)}, inner={f"name{i}": content for i in range(2000)})
    with pytest.raises(UnreadableCheckpointError, match="holds no weights"):
        load(write(content))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("save", [lambda m: m, lambda m: m.state_dict(), lambda m: {"model": m}])
@pytest.mark.parametrize("trust", [False, True])
def test_int8_layers_of_torch_are_refused_in_words(write, save, trust):
    float_one = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Flatten(), torch.nn.Linear(4, 2))
    int8 = torch.ao.quantization.quantize_dynamic(float_one, {torch.nn.Linear}, dtype=torch.qint8)
    with pytest.raises(InputError, match=r"a network that torch\.ao quantized; expected are float weights"):
        load(write(save(int8)), trust=trust)


def test_a_module_that_pickle_itself_wrote_is_read_with_trust(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())))
    assert load(path, trust=True, input_shape=(3, 8, 8)).name == "Sequential"


def test_trust_unpickles_a_module_that_the_zoo_does_not_know(write):
    stranger = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).double().train()
    model = load(write(stranger), trust=True, input_shape=(3, 8, 8))
    assert model.architecture is None
    assert model.name == "Sequential"
    assert not model.module.training
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert "Sequential was unpickled with the code that it names, as requested by --trust" in model.notes
    assert model.module(torch.zeros(1, 3, 8, 8)).shape == (1, 4, 6, 6)


def test_a_trusted_module_with_nan_is_refused(write):
    module = torch.nn.Conv2d(3, 4, 3)
    torch.nn.init.constant_(module.bias, float("nan"))
    with pytest.raises(NonFiniteWeightsError):
        load(write(module), trust=True, input_shape=(3, 8, 8))


def test_trust_changes_nothing_for_a_file_that_needs_none(write, weights):
    assert same_weights(load(write(weights), arch=NAME, trust=True), weights)


def test_the_weights_of_a_module_fit_its_architecture_with_trust_too(write, network, weights):
    assert same_weights(load(write(network), arch=NAME, trust=True), weights)


def test_two_networks_with_the_same_names_are_reported_apart_by_their_shapes(write):
    """The blocks of resnet50 and of resnext50 have the same names."""
    weights = build(architecture("se_resnext50_32x4d", num_classes=2)).state_dict()
    with pytest.raises(StateDictMismatchError) as caught:
        load(write(weights), arch="se_resnet50")
    assert caught.value.nearest == "se_resnext50_32x4d"


def half_as_wide():
    """As a stranger's ResNet of half the width: names fit resnet18, shapes don't."""
    return {
        name: tensor[tuple(slice(0, max(1, size // 2)) for size in tensor.shape[:2])].clone()
        if tensor.dim()
        else tensor
        for name, tensor in build(architecture("resnet18", in_channels=6)).state_dict().items()
    }


def test_a_resnet_of_another_width_needs_no_name(write):
    model = load(write(half_as_wide()))
    assert model.architecture.form.widths == (32, 64, 128, 256)
    assert model.architecture.num_classes == 500
    assert any("resnet (basic blocks 2-2-2-2, widths 32-64-128-256, 7x7 stem)" in note for note in model.notes)


@pytest.mark.parametrize("arch", ["se_resnet18", "resnet18"])
def test_a_resnet_of_another_width_is_none_of_the_zoo(write, arch):
    with pytest.raises(StateDictMismatchError) as caught:
        load(write(half_as_wide()), arch=arch)
    assert caught.value.nearest == "resnet"
    assert caught.value.hint == "All names and shapes fit resnet: leave --arch out."


def test_an_architecture_that_nearly_fits_is_named_with_what_differs(write, weights):
    weights["layer1.0.conv2.weight"] = torch.zeros(16, 16, 5, 5)
    with pytest.raises(UnknownArchitectureError) as caught:
        load(write(weights))
    assert caught.value.nearest == NAME
    assert f"Nearest is {NAME}, 1 of {len(weights)} tensors differ: 1 of another shape" in caught.value.hint
    assert "layer1.0.conv2.weight is (16, 16, 5, 5), expected (16, 16, 3, 3)" in caught.value.hint
    assert "--arch" not in caught.value.hint


@pytest.mark.parametrize(
    ("wrap", "what"),
    [
        (lambda w: w, "is a state dict with"),
        (lambda w: {"state_dict": w, "epoch": 3}, "is a training checkpoint with"),
        (lambda w: {"state_dict": w, "pytorch-lightning_version": "2.2"}, "is a Lightning checkpoint with"),
        (lambda w: {"model": w, "optimizer": {}}, "is a training checkpoint with"),
    ],
)
def test_a_file_without_architecture_is_called_what_it_is(write, weights, wrap, what):
    del weights["fc.weight"]
    with pytest.raises(UnknownArchitectureError, match=what):
        load(write(wrap(weights)))


class Own(torch.nn.Sequential):
    """A class that isn't torch's."""


def test_a_whole_module_is_called_by_its_class(write):
    module = Own(torch.nn.Conv2d(3, 4, 3))
    with pytest.raises(UnknownArchitectureError, match="is a whole pickled module of class Own"):
        load(write(module))


def test_a_pickled_module_that_contains_itself_is_refused_in_words(tmp_path):
    module = torch.nn.Module()
    module._modules["self"] = module
    path = tmp_path / "circle.pt"
    torch.save({"model": module}, path)
    with pytest.raises(InputError):
        load(path, arch="cbam_resnet8")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_large_arrays_of_numpy_beside_the_weights_are_not_in_the_way(write, weights, legacy):
    history = {"images": np.zeros(3_000_000, dtype=np.uint8), "losses": [np.float64(0.5)] * 10}
    model = load(write({"state_dict": weights, "history": history}, legacy=legacy))
    assert any("numpy" in note for note in model.notes)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([torch.ones(2), torch.ones(3)], "a list of 2 tensors without names"),
        (torch.ones(2, 3), "one tensor of 2x3"),
        (torch.optim.SGD([torch.nn.Parameter(torch.ones(3))], 0.1).state_dict(), "an optimizer's state"),
    ],
)
def test_what_there_is_instead_of_weights_is_said(write, content, says):
    with pytest.raises(UnreadableCheckpointError, match=f"holds no weights, but {says}"):
        load(write(content))
