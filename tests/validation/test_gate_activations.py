"""Gates to be looked at: what is shown is what the network computes, for every artifact in PyTorch's own shape."""

import base64
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from attn_export.exporter.artifacts import Graph, LoadedModel, Normalization, OnnxFile, Precision, Target, only_input
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import batches
from attn_export.exporter.network.images import noise
from attn_export.exporter.precision.typed_file import typed_file
from attn_export.exporter.records.document import plain, schema
from attn_export.exporter.records.gates import ENGINE_UNAVAILABLE, GateActivations
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.validation.gate_activations import (
    MAX_GATES,
    MAX_MAP,
    MAX_PICTURE,
    CapturedActivations,
    Sample,
    capture_gates,
    picture,
    sample_image,
)
from tests.shared import capture

ONE = Settings(threads=1)


def written(model: LoadedModel, path: Path, **options: Any) -> OnnxFile:
    """The network as a cleaned file."""
    target = options.pop("target", Target.ANY)
    return onnx_file.write(clean_graph(capture(model, **options), target)[0], path)


def squashed(module: nn.Module, image: np.ndarray, kind: type[nn.Module] = nn.Sigmoid) -> list[np.ndarray]:
    """What the module's gates give, noted by hooks on them."""
    found: list[np.ndarray] = []
    hooks = [
        m.register_forward_hook(lambda _, __, result: found.append(result[0].numpy().copy()))
        for m in module.modules()
        if isinstance(m, kind)
    ]
    with torch.no_grad():
        module(torch.from_numpy(image[None]))
    for hook in hooks:
        hook.remove()
    return found


# What is seen.


@pytest.mark.parametrize("name", ["se_resnet8", "cbam_resnet8", "toy"])
def test_every_gate_is_seen_beside_pytorch_s(
    name: str, loaded: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile]
) -> None:
    model, file = loaded(name), artifact(name)
    seen = capture_gates(model, [file], sample_image(model.inputs), ONE)
    expected = squashed(model.module, sample_image(model.inputs).image)
    assert len(seen.gates) == len(expected) > 0
    assert (seen.unavailable, seen.omitted, seen.left_out) == ({}, (), 0)
    for gate, values in zip(seen.gates, expected, strict=True):
        assert list(gate.values) == ["PyTorch", f"{name}.onnx"]
        assert gate.kind == ("spatial" if values.shape[0] == 1 and values.ndim == 3 else "channel")
        for shown in gate.values.values():
            np.testing.assert_allclose(shown.reshape(-1), values.reshape(-1), atol=1e-5)
        assert shown.shape == ((values.shape[1:]) if gate.kind == "spatial" else (values.shape[0],))
        assert 0 <= gate.differences[f"{name}.onnx"] < 1e-5
    if name == "cbam_resnet8":
        assert [gate.module_path for gate in seen.gates[:2]] == [
            "layer1.0.attention.ChannelGate.sigmoid",
            "layer1.0.attention.SpatialGate.sigmoid",
        ]


@pytest.mark.parametrize("target", [Target.TENSORRT, Target.ONNXRUNTIME])
def test_a_graph_shaped_for_a_runtime_is_seen_in_pytorch_s_shape(
    target: Target, loaded: Callable[[str], LoadedModel], captured: Callable[[str], Graph], tmp_path: Path
) -> None:
    """There maps are repeated or transposed."""
    model = loaded("cbam_resnet8")
    file = onnx_file.write(clean_graph(captured("cbam_resnet8"), target)[0], tmp_path / "model.onnx")
    seen = capture_gates(model, [file], sample_image(model.inputs), ONE)
    assert [gate.kind for gate in seen.gates] == ["channel", "spatial"] * 3
    assert all(gate.differences["model.onnx"] < 1e-5 for gate in seen.gates)


def test_a_hard_sigmoid_is_squashed_as_one(tmp_path: Path) -> None:
    class Hard(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc, self.gate = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1), nn.Hardsigmoid()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            return x * self.gate(8 * self.fc(x.mean((2, 3), keepdim=True)) + 2)

    torch.manual_seed(0)
    model = from_module(Hard().eval(), (3, 8, 8))
    sample = Sample("noise", {"input": noise((1, 3, 8, 8), np.random.default_rng(0))})
    seen = capture_gates(model, [written(model, tmp_path / "model.onnx")], sample, ONE)
    (expected,) = squashed(model.module, sample.image, nn.Hardsigmoid)
    assert expected.min() == 0 or expected.max() == 1, "one is clipped"
    for values in seen.gates[0].values.values():
        np.testing.assert_allclose(values, expected.reshape(-1), atol=1e-5)


def test_files_of_several_precisions_stand_side_by_side(
    loaded: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile], tmp_path: Path
) -> None:
    model, file = loaded("cbam_resnet8"), artifact("cbam_resnet8")
    images = batches(opened(model.inputs))
    half = typed_file(file, Precision.FP16, images, tmp_path / "cbam_resnet8.fp16.onnx", 1)
    seen = capture_gates(model, [file, half], sample_image(model.inputs), ONE)
    names = ["cbam_resnet8.onnx", "cbam_resnet8.fp16.onnx"]
    assert all(list(gate.values) == ["PyTorch", *names] for gate in seen.gates)
    single, rounded = (max(gate.differences[name] for gate in seen.gates) for name in names)
    assert single < 1e-5 < rounded < 1e-2


def test_a_file_of_other_weights_shows_where_it_differs(
    loaded: Callable[[str], LoadedModel], fresh: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile]
) -> None:
    model = fresh("cbam_resnet8")
    with torch.no_grad():
        model.module.get_parameter("layer2.0.attention.SpatialGate.conv1.weight").neg_()
    seen = capture_gates(model, [artifact("cbam_resnet8")], sample_image(model.inputs), ONE)
    off = [gate.differences["cbam_resnet8.onnx"] for gate in seen.gates]
    assert max(off[:3]) < 1e-5 < 1e-2 < off[3]


def test_a_fixed_batch_is_filled(loaded: Callable[[str], LoadedModel], tmp_path: Path) -> None:
    model = loaded("toy")
    file = written(model, tmp_path / "model.onnx", dynamic=(), batch=3)
    seen = capture_gates(model, [file], sample_image(model.inputs), ONE)
    assert seen.unavailable == {}
    assert seen.gates[0].differences["model.onnx"] < 1e-5


def test_looking_changes_no_module(fresh: Callable[[str], LoadedModel]) -> None:
    model = fresh("cbam_resnet8")
    model.module.train()
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    capture_gates(model, [], sample_image(model.inputs), ONE)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
    assert all(m.training and not m._forward_hooks and not m._forward_pre_hooks for m in model.module.modules())


# Forms of gates.


class Form(nn.Module):
    """A gate whose logits have this shape, whatever it gates."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = int(np.prod(self.shape))
        gate = torch.sigmoid(x.flatten(1)[:, :count].reshape(self.shape))
        return x * (1 + gate.mean())


@pytest.mark.parametrize(
    ("shape", "kind", "shown"),
    [
        ((1, 8, 1, 1), "channel", (8,)),
        ((1, 8), "channel", (8,)),
        ((1, 1, 8), "channel", (8,)),
        ((1, 8, 1), "channel", (8,)),
        ((1, 1, 1, 1), "channel", (1,)),
        ((1, 1, 4, 6), "spatial", (4, 6)),
        ((1, 1, 1, 6), "spatial", (1, 6)),
    ],
)
def test_a_gates_shape_tells_what_it_is(shape: tuple[int, ...], kind: str, shown: tuple[int, ...]) -> None:
    model = from_module(Form(*shape), (3, 8, 8))
    (gate,) = capture_gates(model, [], sample_image(model.inputs), ONE).gates
    assert (gate.kind, gate.values["PyTorch"].shape) == (kind, shown)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((1, 4, 6, 1), "4x6x1"),  # coordinate attention's halves
        ((1, 4, 1, 6), "4x1x6"),
        ((1, 2, 4, 6), "2x4x6"),  # one value for each channel and place
        ((1, 4, 6), "4x6"),
        ((2, 1, 4, 6), "isn't that of one image"),  # groups in the place of the batch
    ],
)
def test_what_is_neither_channels_nor_a_map_is_not_drawn_and_the_reason_reported(
    shape: tuple[int, ...], reason: str
) -> None:
    seen = capture_gates(
        from_module(nn.Sequential(Form(*shape)), (3, 8, 8)), [], sample_image(only_input((3, 8, 8))), ONE
    )
    assert seen.gates == ()
    assert [entry.module_path for entry in seen.omitted] == ["0"]
    assert reason in seen.omitted[0].reason


def test_scores_that_are_squashed_are_no_gate(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = from_module(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Sigmoid()).eval(), (3, 8, 8))
    seen = capture_gates(model, [written(model, tmp_path / "model.onnx")], sample_image(only_input((3, 8, 8))), ONE)
    assert (seen.gates, seen.unavailable) == ((), {})
    assert [entry.reason for entry in seen.omitted] == ["it is what the network returns"]


def test_of_many_gates_some_are_shown_the_first_and_the_last_among_them() -> None:
    class Gate(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.sigmoid(x.mean((2, 3), keepdim=True))

    count = MAX_GATES + 20
    model = from_module(nn.Sequential(*(Gate() for _ in range(count))), (3, 8, 8))
    seen = capture_gates(model, [], sample_image(only_input((3, 8, 8))), ONE)
    numbers = [int(gate.module_path) for gate in seen.gates]
    assert len(numbers) == MAX_GATES
    assert (numbers[0], numbers[-1], seen.left_out) == (0, count - 1, 20)
    assert {b - a for a, b in pairwise(numbers)} == {1, 2}


def test_a_large_map_is_shown_in_means_and_compared_as_it_is(tmp_path: Path) -> None:
    class Map(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.sigmoid(x.mean(1, keepdim=True))

    shape = (3, 2 * MAX_MAP + 5, MAX_MAP - 1)
    model = from_module(Map(), shape)
    sample = sample_image(only_input(shape))
    (gate,) = capture_gates(model, [], sample, ONE).gates
    whole = 1 / (1 + np.exp(-sample.image.mean(0, dtype=np.float64)))
    assert (gate.window, gate.values["PyTorch"].shape) == (3, (77, 37))
    assert gate.values["PyTorch"][0, 0] == pytest.approx(whole[:3, :3].mean(), abs=1e-6)
    assert gate.values["PyTorch"][-1, -1] == pytest.approx(whole[228:, 108:].mean(), abs=1e-6)


# What can't be seen.


def test_a_file_that_does_not_pair_is_unseen_and_the_others_are_seen(
    loaded: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile]
) -> None:
    model = loaded("cbam_resnet8")
    seen = capture_gates(model, [artifact("toy"), artifact("cbam_resnet8")], sample_image(model.inputs), ONE)
    assert list(seen.unavailable) == ["toy.onnx"]
    assert seen.unavailable["toy.onnx"].startswith(
        "PyTorch's gates of layer1.0.attention.ChannelGate.sigmoid, layer1.0."
    )
    assert all(list(gate.values) == ["PyTorch", "cbam_resnet8.onnx"] for gate in seen.gates)


def test_a_file_without_one_of_the_gates_shows_the_others(
    loaded: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile]
) -> None:
    model, file = loaded("cbam_resnet8"), artifact("cbam_resnet8")
    seen = capture_gates(model, [replace(file, gates=file.gates[1:])], sample_image(model.inputs), ONE)
    assert "layer1.0.attention.ChannelGate.sigmoid aren't found in the file" in seen.unavailable[file.name]
    first, *others = seen.gates
    assert list(first.values) == ["PyTorch"]
    assert others
    assert all(gate.differences[file.name] < 1e-4 for gate in others)


def test_an_artifact_that_cannot_be_looked_into_keeps_its_reason(loaded: Callable[[str], LoadedModel]) -> None:
    model = loaded("toy")
    seen = capture_gates(model, [], sample_image(model.inputs), ONE, {"toy.engine": ENGINE_UNAVAILABLE})
    assert seen.unavailable == {"toy.engine": ENGINE_UNAVAILABLE}
    assert list(seen.gates[0].values) == ["PyTorch"]


def test_a_file_that_does_not_run_is_unseen(
    loaded: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile], tmp_path: Path
) -> None:
    model, file = loaded("toy"), artifact("toy")
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    other = file.signature.with_shapes(((1, 3, 20, 20),))
    files = [replace(file, path=tmp_path / "broken.onnx"), replace(file, signature=other)]
    seen = capture_gates(model, files, sample_image(model.inputs), ONE)
    assert set(seen.unavailable) == {"broken.onnx", "toy.onnx"}
    assert list(seen.gates[0].values) == ["PyTorch"]


def test_a_gate_of_another_size_is_unseen(
    loaded: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile]
) -> None:
    file = artifact("toy")
    model = from_module(nn.Sequential(nn.Identity(), nn.Identity(), nn.Identity(), Squeeze()), (3, 16, 16))
    seen = capture_gates(
        model,
        [replace(file, gates=(replace(file.gates[0], module_path="3"),))],
        sample_image(only_input((3, 16, 16))),
        ONE,
    )
    assert seen.unavailable == {"toy.onnx": "the gate of 3 has 8 values, PyTorch's 3"}


class Squeeze(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(F.adaptive_avg_pool2d(x, 1))


def test_nan_is_reported_and_not_drawn() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.sigmoid(float("nan") * x.mean((2, 3), keepdim=True))

    seen = capture_gates(from_module(nn.Sequential(Broken()), (3, 8, 8)), [], sample_image(only_input((3, 8, 8))), ONE)
    assert [entry.reason for entry in seen.omitted] == ["it holds NaN"]


# The image.


def test_the_image_is_the_first_of_the_users_or_a_drawing() -> None:
    real = noise((2, 3, 16, 16), np.random.default_rng(3))
    assert np.array_equal(sample_image(only_input((3, 16, 16)), {"input": real}).image, real[0])
    assert sample_image(only_input((3, 16, 16)), {"input": real}).kind == "real"
    for shape in ((3, 16, 16), (1, 8, 24), (4, 1, 1)):
        drawn = sample_image(only_input(shape))
        assert (drawn.kind, drawn.image.shape, str(drawn.image.dtype)) == ("drawing", shape, "float32")
        assert abs(drawn.image.mean()) < 1e-5
    assert sample_image(only_input((3, 8, 8)), {"input": real}).kind == "drawing", "they are of another size"
    assert sample_image(only_input((7,))).kind == "noise"


def test_a_normalization_is_inverted() -> None:
    pixels = np.arange(48, dtype=np.float32).reshape(3, 4, 4) / 47
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.3, 0.1])
    image = ((pixels - mean[:, None, None]) / std[:, None, None]).astype(np.float32)
    shown = picture(image, Normalization(tuple(mean), tuple(std)))
    assert shown is not None
    np.testing.assert_array_equal(shown, np.round(pixels.transpose(1, 2, 0) * 255))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    channels=st.sampled_from([1, 2, 3, 4]),
    height=st.integers(1, 3 * MAX_PICTURE),
    width=st.integers(1, 300),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 1e6]),
)
def test_any_image_becomes_a_small_picture(channels: int, height: int, width: int, spread: float) -> None:
    image = noise((channels, height, width), np.random.default_rng(0)) * np.float32(spread)
    shown = picture(image, None)
    assert shown is not None
    assert shown.dtype == np.uint8
    assert max(shown.shape[:2]) <= MAX_PICTURE
    assert shown.shape[2] == (3 if channels == 3 else 1)
    assert min(shown.shape) >= 1


# The record.


def recorded(seen: CapturedActivations) -> Any:
    """As it is read from a report."""
    record = plain(seen.to_record())
    if record is not None:
        jsonschema.validate(record, schema(GateActivations))
    return record


def test_a_record_holds_the_values_as_bytes(
    loaded: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile]
) -> None:
    model = loaded("cbam_resnet8")
    seen = capture_gates(
        model, [artifact("cbam_resnet8")], sample_image(model.inputs), ONE, {"m.engine": ENGINE_UNAVAILABLE}
    )
    record = recorded(seen)
    image = record["image"]
    assert (image["kind"], image["shape"], image["channels"]) == ("drawing", [3, 32, 32], 3)
    assert base64.b64decode(image["pixels"]) == seen.picture.tobytes()  # type: ignore[union-attr]
    assert record["unavailable"] == {"m.engine": ENGINE_UNAVAILABLE}
    assert len(record["gates"]) == 6
    for entry, gate in zip(record["gates"], seen.gates, strict=True):
        assert (entry["module_path"], entry["kind"]) == (gate.module_path, gate.kind)
        for name, text in entry["values"].items():
            values = np.frombuffer(base64.b64decode(text), np.uint8).reshape(entry["shape"])
            np.testing.assert_allclose(values / 255, gate.values[name], atol=0.5 / 255 + 1e-9)
        assert entry["differences"] == gate.differences


def test_what_is_not_drawn_is_recorded_and_so_is_an_input_that_is_no_image() -> None:
    seen = capture_gates(from_module(nn.Sequential(Form(1, 2, 3)), (6,)), [], sample_image(only_input((6,))), ONE)
    record = recorded(seen)
    assert (record["image"], record["gates"], record["left_out"]) == (None, [], 0)
    assert [entry["module_path"] for entry in record["omitted"]] == ["0"]
    assert "2x3" in record["omitted"][0]["reason"]


def test_a_network_without_gates_has_no_record(
    loaded: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile]
) -> None:
    model = loaded("resnet8")
    seen = capture_gates(model, [artifact("resnet8")], sample_image(model.inputs), ONE)
    assert (seen.gates, seen.unavailable) == ((), {})
    assert recorded(seen) is None
