"""Good artifacts agree, and every planted fault is found, at the place where it was planted.

A fault is a change of the ONNX file as a bug of an exporter, a rewrite or a runtime would make it. `FAULTS` is a table:
one more line is one more test on every network that has such a place.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from attn_export.exporter import onnx_file
from attn_export.exporter.artifacts import Gate, LoadedModel, OnnxFile
from attn_export.exporter.capture import capture
from attn_export.exporter.checkpoint import from_module
from attn_export.exporter.cleanup import clean_graph
from attn_export.exporter.errors import CaptureError, InputError
from attn_export.exporter.precision.kinds import Precision
from attn_export.exporter.runtimes import Settings
from attn_export.exporter.validation.inputs import BATCHES, KINDS, Batch, batches
from attn_export.exporter.validation.metrics import PooledError
from attn_export.exporter.validation.oracle import Reference, reference
from attn_export.exporter.validation.validate import paired, validate
from attn_export.exporter.validation.verdict import FLOOR, LARGEST_RATIO, Comparison, Verdict, compare

ALL_AXES = ("batch", "height", "width")
FAMILIES = ("resnet18", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_small")
# Good float32 artifacts stand below this, the faintest fault far above: there is room on either side of the limit.
LARGEST_GOOD_RATIO = 4.5


def exported(
    model: LoadedModel, folder: Path, *, dynamic: tuple[str, ...] = ("batch",), opset: int = 20, batch: int = 1
) -> Verdict:
    """What an export does up to the verdict."""
    truth = reference(model, batches(model.input_shape, dynamic, batch))
    graph = clean_graph(capture(model, dynamic=dynamic, opset=opset, batch=batch))[0]
    return validate(onnx_file.write(graph, folder / "model.onnx"), truth, Settings(threads=1))


def assert_good(verdict: Verdict, gates: int) -> None:
    assert verdict.agrees
    assert verdict.gates_missed == ""
    assert len([c for c in verdict.comparisons if c.role == "gate"]) == gates
    assert verdict.worst.ratio < LARGEST_GOOD_RATIO < LARGEST_RATIO


# ---- good artifacts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gates"),
    [("toy", 1), ("resnet8", 0), ("se_resnet8", 3), ("cbam_resnet8", 6), ("se_mobilenet_v3_small", 9)],
)
def test_a_clean_file_agrees(
    name: str,
    gates: int,
    artifact: Callable[[str], OnnxFile],
    truth: Callable[[str], Reference],
    one_thread: Settings,
) -> None:
    verdict = validate(artifact(name), truth(name), one_thread)
    assert_good(verdict, gates)
    assert verdict.first_disagreement is None
    assert verdict.runtime == "onnxruntime"
    assert [shape[0] for shape in verdict.batches] == list(BATCHES)


@pytest.mark.parametrize("attention", ["se", "cbam"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_agrees(family: str, attention: str, fresh: Callable[[str], LoadedModel], tmp_path: Path) -> None:
    if (attention, family) == ("se", "mobilenet_v3_small"):
        pytest.skip("is among the clean files above")
    verdict = exported(fresh(f"{attention}_{family}"), tmp_path)
    gates = {"resnet18": 8, "resnext50_32x4d": 16, "mobilenet_v2": 17, "mobilenet_v3_small": 9}[family]
    assert_good(verdict, gates * (2 if attention == "cbam" else 1))


@pytest.mark.parametrize("opset", [18, 23])
def test_every_opset_agrees(opset: int, loaded: Callable[[str], LoadedModel], tmp_path: Path) -> None:
    assert_good(exported(loaded("cbam_resnet8"), tmp_path, opset=opset), gates=6)


def test_open_height_and_width_are_judged_at_other_sizes(loaded: Callable[[str], LoadedModel], tmp_path: Path) -> None:
    verdict = exported(loaded("cbam_resnet8"), tmp_path, dynamic=ALL_AXES)
    assert_good(verdict, gates=6)
    sizes = {shape[2:] for shape in verdict.batches}
    assert (32, 32) in sizes
    assert any(height > 32 for height, _ in sizes)
    assert any(width > 32 for _, width in sizes)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_fixed_batch_agrees(batch: int, loaded: Callable[[str], LoadedModel], tmp_path: Path) -> None:
    verdict = exported(loaded("toy"), tmp_path, dynamic=(), batch=batch)
    assert_good(verdict, gates=1)
    assert {shape[0] for shape in verdict.batches} == {batch}


def test_weights_outside_the_file_are_found_by_the_tapped_copy(
    captured: Callable[[str], Any], truth: Callable[[str], Reference], one_thread: Settings, tmp_path: Path
) -> None:
    file = onnx_file.write(clean_graph(captured("toy"))[0], tmp_path / "a.onnx", largest_inside=0)
    assert_good(validate(file, truth("toy"), one_thread), gates=1)


def test_nothing_stays_beside_the_file_and_every_batch_is_told(
    captured: Callable[[str], Any], truth: Callable[[str], Reference], one_thread: Settings, tmp_path: Path
) -> None:
    file = onnx_file.write(clean_graph(captured("toy"))[0], tmp_path / "a.onnx")
    before = file.path.read_bytes()
    heard: list[None] = []
    validate(file, truth("toy"), one_thread, lambda: heard.append(None))
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]
    assert file.path.read_bytes() == before
    assert len(heard) == 2 * len(BATCHES)


# ---- planted faults ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A block in the middle of a network.

    Attributes:
        weight: of the convolution before its gate.
        gate: path of the first gate after that convolution.
        after: path of the gate that comes next.
        block: prefix of the block's modules.
    """

    weight: str
    gate: str
    after: str
    block: str


PLACES = {
    "se_resnet8": Place("layer2.0.conv2.weight", "layer2.0.attention.fc.3", "layer3.0.attention.fc.3", "layer2.0"),
    "cbam_resnet8": Place(
        "layer2.0.conv2.weight",
        "layer2.0.attention.ChannelGate.sigmoid",
        "layer2.0.attention.SpatialGate.sigmoid",
        "layer2.0",
    ),
    "se_mobilenet_v3_small": Place(
        "features.5.block.1.0.weight",
        "features.5.block.2.scale_activation",
        "features.6.block.2.scale_activation",
        "features.5",
    ),
}
MODULE_KEY = "attn_export.module"


def module_of(node: onnx.NodeProto) -> str:
    return next((p.value for p in node.metadata_props if p.key == MODULE_KEY), "")


class Edited:
    """An ONNX model that is changed node by node."""

    def __init__(self, path: Path) -> None:
        self.model = onnx.load(path)
        self.graph = self.model.graph

    def tensor(self, name: str) -> np.ndarray[Any, Any]:
        return np.array(numpy_helper.to_array(self._initializer(name)))

    def replace_tensor(self, name: str, values: np.ndarray[Any, Any]) -> None:
        old = self._initializer(name)
        assert not np.array_equal(values, numpy_helper.to_array(old)), "a fault that changes nothing is none"
        old.CopyFrom(numpy_helper.from_array(values, name))

    def add_tensor(self, name: str, values: np.ndarray[Any, Any]) -> str:
        self.graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def node(self, operator: str, module: str) -> onnx.NodeProto:
        """The first node of this kind that came from this module."""
        return next(node for node in self.graph.node if node.op_type == operator and module_of(node).startswith(module))

    def gate(self, module: str) -> onnx.NodeProto:
        """What squashes in this module."""
        return next(
            node for node in self.graph.node if node.op_type in ("Sigmoid", "HardSigmoid") and module_of(node) == module
        )

    def become(self, node: onnx.NodeProto, operator: str, inputs: list[str], **attributes: Any) -> None:
        new = helper.make_node(operator, inputs, list(node.output), name=node.name, **attributes)
        new.metadata_props.extend(node.metadata_props)
        node.CopyFrom(new)

    def insert_after(self, node: onnx.NodeProto, operator: str, *inputs: str, **attributes: Any) -> None:
        """Send what ``node`` computes through one more operator."""
        name = node.output[0]
        node.output[0] = f"{name}_before"
        new = helper.make_node(operator, [node.output[0], *inputs], [name], name=f"{name}_fault", **attributes)
        self.graph.node.insert(list(self.graph.node).index(node) + 1, new)

    def _initializer(self, name: str) -> onnx.TensorProto:
        return next(tensor for tensor in self.graph.initializer if tensor.name == name)


def scale_weight(edited: Edited, place: Place) -> None:
    edited.replace_tensor(place.weight, edited.tensor(place.weight) * np.float32(1.0001))


def round_weight_to_bfloat16(edited: Edited, place: Place) -> None:
    rounded = torch.from_numpy(edited.tensor(place.weight)).bfloat16().float()
    edited.replace_tensor(place.weight, rounded.numpy())


def round_weight_to_float16(edited: Edited, place: Place) -> None:
    edited.replace_tensor(place.weight, edited.tensor(place.weight).astype(np.float16).astype(np.float32))


def flip_one_sign(edited: Edited, place: Place) -> None:
    weight = edited.tensor(place.weight)
    weight.reshape(-1)[weight.size // 2] *= -1
    edited.replace_tensor(place.weight, weight)


def zero_one_channel(edited: Edited, place: Place) -> None:
    weight = edited.tensor(place.weight)
    weight[3] = 0
    edited.replace_tensor(place.weight, weight)


def swap_two_channels(edited: Edited, place: Place) -> None:
    weight = edited.tensor(place.weight)
    weight[[0, 1]] = weight[[1, 0]]
    edited.replace_tensor(place.weight, weight)


def transpose_kernels(edited: Edited, place: Place) -> None:
    edited.replace_tensor(place.weight, np.ascontiguousarray(edited.tensor(place.weight).swapaxes(2, 3)))


def nan_in_a_weight(edited: Edited, place: Place) -> None:
    weight = edited.tensor(place.weight)
    weight.reshape(-1)[0] = np.nan
    edited.replace_tensor(place.weight, weight)


def bias_of(edited: Edited, place: Place) -> str:
    """Its name is the capture's or the cleanup's affair; it is what the convolution reads."""
    return next(node.input[2] for node in edited.graph.node if place.weight in node.input)


def infinity_in_a_bias(edited: Edited, place: Place) -> None:
    name = bias_of(edited, place)
    bias = edited.tensor(name)
    bias[0] = np.inf
    edited.replace_tensor(name, bias)


def shift_one_bias(edited: Edited, place: Place) -> None:
    name = bias_of(edited, place)
    bias = edited.tensor(name)
    bias[0] += 1e-3
    edited.replace_tensor(name, bias)


def another_epsilon_in_batch_norm(edited: Edited, place: Place) -> None:
    """1e-3 instead of 1e-5 changes every channel's scale by about half a thousandth of its variance."""
    weight = edited.tensor(place.weight)
    variance = np.square(weight).reshape(len(weight), -1).sum(1) + 0.1
    factor = np.sqrt((variance + 1e-5) / (variance + 1e-3)).astype(np.float32)
    edited.replace_tensor(place.weight, weight * factor.reshape(-1, 1, 1, 1))


def padding_on_one_side(edited: Edited, place: Place) -> None:
    convolution = next(node for node in edited.graph.node if place.weight in node.input)
    pads = next(a for a in convolution.attribute if a.name == "pads")
    top, left, bottom, right = pads.ints
    pads.ints[:] = [0, 0, top + bottom, left + right]


def relu_dropped(edited: Edited, place: Place) -> None:
    gate_module = place.gate.rpartition(".")[0]
    relu = edited.node("Relu", gate_module)
    edited.become(relu, "Identity", list(relu.input))


def pool_takes_the_maximum(edited: Edited, place: Place) -> None:
    pool = edited.node("ReduceMean", place.gate.rpartition(".")[0].removesuffix(".fc"))
    edited.become(pool, "ReduceMax", list(pool.input), keepdims=1)


def pool_averages_over_the_batch(edited: Edited, place: Place) -> None:
    pool = edited.node("ReduceMean", place.gate.rpartition(".")[0].removesuffix(".fc"))
    mean = f"{pool.output[0]}_of_one"
    axes, batch_axis = pool.input[1], edited.add_tensor("fault_axis", np.array([0], np.int64))
    inner = helper.make_node("ReduceMean", [pool.input[0], axes], [mean], keepdims=1, name="fault_inner")
    whole = helper.make_node("ReduceMean", [mean, batch_axis], ["fault_whole"], keepdims=1, name="fault_outer")
    zero = edited.add_tensor("fault_zero", np.array(0, np.float32))
    none = helper.make_node("Mul", [mean, zero], ["fault_none"], name="fault_none")
    at = list(edited.graph.node).index(pool)
    for extra in (none, whole, inner):
        edited.graph.node.insert(at, extra)
    edited.become(pool, "Add", ["fault_none", "fault_whole"])


def gate_dropped(edited: Edited, place: Place) -> None:
    """Its sigmoid stays, so that the count is right, and what it gives is not used."""
    edited.insert_after(edited.gate(place.gate), "Pow", edited.add_tensor("fault_zero", np.array(0, np.float32)))


def sigmoid_dropped(edited: Edited, place: Place) -> None:
    gate = edited.gate(place.gate)
    edited.become(gate, "Identity", list(gate.input))


def sigmoid_doubled(edited: Edited, place: Place) -> None:
    edited.insert_after(edited.gate(place.gate), "Sigmoid")


def tanh_before_the_gate(edited: Edited, place: Place) -> None:
    gate = edited.gate(place.gate)
    extra = helper.make_node("Tanh", [gate.input[0]], ["fault_tanh"], name="fault_tanh")
    edited.graph.node.insert(list(edited.graph.node).index(gate), extra)
    gate.input[0] = "fault_tanh"


def hard_sigmoid_for_sigmoid(edited: Edited, place: Place) -> None:
    gate = edited.gate(place.gate)
    edited.become(gate, "HardSigmoid", list(gate.input), alpha=1 / 6, beta=0.5)


def hard_sigmoid_of_another_slope(edited: Edited, place: Place) -> None:
    """0.2 is the default of ONNX and of Keras, 1/6 is MobileNetV3's."""
    gate = edited.gate(place.gate)
    edited.become(gate, "HardSigmoid", list(gate.input), alpha=0.2, beta=0.5)


def hard_sigmoid_slope_rounded(edited: Edited, place: Place) -> None:
    gate = edited.gate(place.gate)
    edited.become(gate, "HardSigmoid", list(gate.input), alpha=0.1667, beta=0.5)


def gate_transposed(edited: Edited, place: Place) -> None:
    """Height and width of the spatial gate swapped, which is a valid graph for square images."""
    edited.insert_after(edited.gate(place.after), "Transpose", perm=[0, 1, 3, 2])


def average_and_maximum_swapped(edited: Edited, place: Place) -> None:
    concat = edited.node("Concat", place.after.rpartition(".")[0])
    concat.input[:] = [concat.input[1], concat.input[0]]


def average_taken_twice(edited: Edited, place: Place) -> None:
    concat = edited.node("Concat", place.after.rpartition(".")[0])
    concat.input[:] = [concat.input[0], concat.input[0]]


def second_branch_dropped(edited: Edited, place: Place) -> None:
    add = edited.node("Add", place.gate.rpartition(".")[0])
    edited.become(add, "Identity", [add.input[0]])


def spatial_kernel_flipped(edited: Edited, place: Place) -> None:
    name = f"{place.after.rpartition('.')[0]}.conv1.weight"
    edited.replace_tensor(name, np.ascontiguousarray(edited.tensor(name)[:, :, ::-1, ::-1]))


def shortcut_not_added(edited: Edited, place: Place) -> None:
    add = next(node for node in edited.graph.node if node.op_type == "Add" and module_of(node) == place.block)
    edited.become(add, "Identity", [add.input[0]])


def outputs_permuted(edited: Edited, place: Place) -> None:
    last = next(node for node in edited.graph.node if "output" in node.output)
    for name in last.input[1:]:
        edited.replace_tensor(name, np.ascontiguousarray(edited.tensor(name)[::-1]))


def one_output_bias_off(edited: Edited, place: Place) -> None:
    last = next(node for node in edited.graph.node if "output" in node.output)
    bias = edited.tensor(last.input[2])
    bias[-1] += 1e-3
    edited.replace_tensor(last.input[2], bias)


def softmax_appended(edited: Edited, place: Place) -> None:
    last = next(node for node in edited.graph.node if "output" in node.output)
    edited.insert_after(last, "Softmax", axis=-1)


def batch_reversed(edited: Edited, place: Place) -> None:
    last = next(node for node in edited.graph.node if "output" in node.output)
    numbers = {"starts": -1, "ends": -(2**31), "axes": 0, "steps": -1}
    names = [edited.add_tensor(f"fault_{key}", np.array([value], np.int64)) for key, value in numbers.items()]
    edited.insert_after(last, "Slice", *names)


def first_image_for_all(edited: Edited, place: Place) -> None:
    """Every element of the batch becomes the first: 0 times its own, plus the first one's."""
    last = next(node for node in edited.graph.node if "output" in node.output)
    own, at = f"{last.output[0]}_own", list(edited.graph.node).index(last) + 1
    last.output[0] = own
    zero = edited.add_tensor("fault_zero", np.array(0, np.float32))
    first = edited.add_tensor("fault_first", np.array([0], np.int64))
    added = [
        helper.make_node("Mul", [own, zero], ["fault_none"], name="fault_none"),
        helper.make_node("Gather", [own, first], ["fault_image"], name="fault_image", axis=0),
        helper.make_node("Add", ["fault_none", "fault_image"], ["output"], name="fault_sum"),
    ]
    for offset, node in enumerate(added):
        edited.graph.node.insert(at + offset, node)


@dataclass(frozen=True)
class Fault:
    """A change, where it has to be seen first ("gate" and "after" of the place, or "output"), and in which networks."""

    plant: Callable[[Edited, Place], None]
    seen: str
    networks: tuple[str, ...] = tuple(PLACES)


SE, CBAM, MOBILE = (("se_resnet8",), ("cbam_resnet8",), ("se_mobilenet_v3_small",))
FAULTS = {
    "a weight scaled by 1.0001": Fault(scale_weight, "gate"),
    "a weight in bfloat16": Fault(round_weight_to_bfloat16, "gate"),
    "a weight in float16": Fault(round_weight_to_float16, "gate"),
    "one sign flipped": Fault(flip_one_sign, "gate"),
    "one channel zeroed": Fault(zero_one_channel, "gate"),
    "two channels swapped": Fault(swap_two_channels, "gate"),
    "kernels transposed": Fault(transpose_kernels, "gate"),
    "NaN in a weight": Fault(nan_in_a_weight, "gate"),
    "infinity in a bias": Fault(infinity_in_a_bias, "gate"),
    "one bias off by 0.001": Fault(shift_one_bias, "gate"),
    "another epsilon in BatchNorm": Fault(another_epsilon_in_batch_norm, "gate"),
    "padding on one side": Fault(padding_on_one_side, "gate"),
    "ReLU of the gate dropped": Fault(relu_dropped, "gate", CBAM + MOBILE),
    "pool takes the maximum": Fault(pool_takes_the_maximum, "gate"),
    "pool averages over the batch": Fault(pool_averages_over_the_batch, "gate"),
    "tanh before the sigmoid": Fault(tanh_before_the_gate, "gate"),
    "second branch dropped": Fault(second_branch_dropped, "gate", CBAM),
    "gate always open": Fault(gate_dropped, "after"),
    "hard sigmoid for sigmoid": Fault(hard_sigmoid_for_sigmoid, "after", SE + CBAM),
    "hard sigmoid of another slope": Fault(hard_sigmoid_of_another_slope, "after", MOBILE),
    "hard sigmoid's slope rounded": Fault(hard_sigmoid_slope_rounded, "after", MOBILE),
    "average and maximum swapped": Fault(average_and_maximum_swapped, "after", CBAM),
    "average taken twice": Fault(average_taken_twice, "after", CBAM),
    "spatial kernel flipped": Fault(spatial_kernel_flipped, "after", CBAM),
    "spatial gate transposed": Fault(gate_transposed, "layer3.0.attention.ChannelGate.sigmoid", CBAM),
    "shortcut not added": Fault(shortcut_not_added, "after", SE + MOBILE),
    "outputs permuted": Fault(outputs_permuted, "output"),
    "one output's bias off by 0.001": Fault(one_output_bias_off, "output"),
    "softmax appended": Fault(softmax_appended, "output"),
    "batch reversed": Fault(batch_reversed, "output"),
    "first image for all": Fault(first_image_for_all, "output"),
}


def judged(
    name: str,
    plant: Callable[[Edited], None],
    folder: Path,
    artifact: Callable[[str], OnnxFile],
    truth: Callable[[str], Reference],
) -> Verdict:
    """The verdict over a file with a fault. Its gates are read from the file, as after a real export."""
    import onnx_ir as ir

    from attn_export.exporter.gates import gates_of

    edited = Edited(artifact(name).path)
    plant(edited)
    path = folder / "faulty.onnx"
    onnx.save(edited.model, path)
    onnx.checker.check_model(str(path), full_check=True)
    file = replace(artifact(name), path=path, gates=gates_of(ir.load(path)))
    return validate(file, truth(name), Settings(threads=1))


@pytest.mark.parametrize(
    ("fault", "name"), [(fault, name) for fault, entry in FAULTS.items() for name in entry.networks]
)
def test_a_fault_is_found_where_it_was_planted(
    fault: str,
    name: str,
    tmp_path: Path,
    artifact: Callable[[str], OnnxFile],
    truth: Callable[[str], Reference],
) -> None:
    place, entry = PLACES[name], FAULTS[fault]
    verdict = judged(name, lambda edited: entry.plant(edited, place), tmp_path, artifact, truth)
    assert not verdict.agrees
    first = verdict.first_disagreement
    assert first is not None
    assert first.tensor == {"gate": place.gate, "after": place.after}.get(entry.seen, entry.seen)
    assert first.ratio > LARGEST_RATIO
    assert verdict.gates_missed == ""


@pytest.mark.parametrize("plant", [sigmoid_dropped, sigmoid_doubled])
@pytest.mark.parametrize("name", PLACES)
def test_one_gate_too_few_or_too_many_is_found_at_the_output(
    name: str,
    plant: Callable[[Edited, Place], None],
    tmp_path: Path,
    artifact: Callable[[str], OnnxFile],
    truth: Callable[[str], Reference],
) -> None:
    verdict = judged(name, lambda edited: plant(edited, PLACES[name]), tmp_path, artifact, truth)
    assert not verdict.agrees
    assert verdict.gates_missed.startswith("PyTorch computes ")
    assert [c.role for c in verdict.comparisons] == ["output"]


@pytest.mark.parametrize("name", ["resnet8", "cbam_resnet8"])
def test_no_weight_can_be_scaled_by_1_0001_unseen(
    name: str, tmp_path: Path, artifact: Callable[[str], OnnxFile], truth: Callable[[str], Reference]
) -> None:
    """Every layer in turn. A gate damps what came before it, so looking at outputs alone would miss some."""
    weights = [t.name for t in onnx.load(artifact(name).path).graph.initializer if t.name.endswith("weight")]
    unseen = []
    for weight in weights:
        place = Place(weight, "", "", "")
        verdict = judged(name, lambda edited, p=place: scale_weight(edited, p), tmp_path, artifact, truth)  # type: ignore[misc]
        if verdict.agrees:
            unseen.append((weight, verdict.worst))
    assert unseen == []


def test_a_network_is_not_taken_for_another_of_the_same_shape(
    fresh: Callable[[str], LoadedModel],
    artifact: Callable[[str], OnnxFile],
    one_thread: Settings,
) -> None:
    model = fresh("toy")
    with torch.no_grad():
        next(model.module.parameters()).mul_(1.001)
    truth = reference(model, batches(model.input_shape, ("batch",), 1))
    assert not validate(artifact("toy"), truth, one_thread).agrees


def test_an_output_of_another_shape_disagrees_with_infinite_error(
    artifact: Callable[[str], OnnxFile], truth: Callable[[str], Reference], tmp_path: Path
) -> None:
    def cut(edited: Edited) -> None:
        last = next(node for node in edited.graph.node if "output" in node.output)
        for name in last.input[1:]:
            edited.replace_tensor(name, edited.tensor(name)[:-1].copy())
        edited.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4

    verdict = judged("toy", cut, tmp_path, artifact, truth)
    assert verdict.first_disagreement is not None
    assert (verdict.first_disagreement.kind, verdict.first_disagreement.error) == ("shape", float("inf"))


# ---- gates that are written as functions -------------------------------------------------------------------------


class Functional(nn.Module):
    """A convolution, and a gate that is no module of its own."""

    def __init__(self, squash: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.squash = squash

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return x * self.squash(x.mean((2, 3), keepdim=True))


@pytest.mark.parametrize(
    "squash",
    [
        pytest.param(torch.sigmoid, id="torch.sigmoid"),
        pytest.param(F.sigmoid, id="F.sigmoid"),
        pytest.param(lambda x: x.sigmoid(), id="x.sigmoid"),
        pytest.param(lambda x: x.sigmoid_(), id="x.sigmoid_"),
        pytest.param(torch.special.expit, id="torch.special.expit"),
        pytest.param(F.hardsigmoid, id="F.hardsigmoid"),
        pytest.param(lambda x: F.hardsigmoid(x, inplace=True), id="F.hardsigmoid in place"),
    ],
)
def test_a_gate_written_as_a_function_is_compared_too(
    squash: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    verdict = exported(from_module(nn.Sequential(Functional(squash)).eval(), (3, 16, 16)), tmp_path)
    assert_good(verdict, gates=1)
    assert verdict.comparisons[0].tensor == "0", "the path of the module in whose forward it stands"


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.Hardswish(), nn.Softmax(1), nn.GELU()], ids=str)
def test_an_activation_is_no_gate(activation: nn.Module, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), activation).eval()
    assert_good(exported(from_module(module, (3, 16, 16)), tmp_path), gates=0)


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
        ([], [("a", "t")], []),
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
    assert [gate.tensor for gate in gates] == order
    assert missed == ""


@pytest.mark.parametrize(
    ("paths", "found", "reason"),
    [
        (["a"], [], "PyTorch computes 1 gates, the file 0"),
        (["a"], [("a", "t"), ("b", "u")], "PyTorch computes 1 gates, the file 2"),
        (["a", "b"], [("a", "t"), ("c", "u")], "the file's gates belong to other modules than PyTorch's"),
        (["a", "b"], [("a", "t"), ("", "u")], "the file's gates belong to other modules than PyTorch's"),
        (["a", "a"], [("a", "t"), ("b", "u")], "the file's gates belong to other modules than PyTorch's"),
    ],
)
def test_gates_that_do_not_match_are_not_compared_and_the_reason_is_told(
    paths: list[str], found: list[tuple[str, str]], reason: str
) -> None:
    assert paired(paths, [Gate(*gate) for gate in found]) == ([], reason)


# ---- the oracle --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cbam_resnet8", "se_mobilenet_v3_small"])
def test_the_oracle_is_the_module_in_double_precision(
    name: str, loaded: Callable[[str], LoadedModel], truth: Callable[[str], Reference]
) -> None:
    double = copy.deepcopy(loaded(name).module).double()
    for batch, exact in zip(truth(name).batches, truth(name).exact, strict=True):
        with torch.no_grad():
            expected = torch.cat([double(torch.from_numpy(image)[None].double()) for image in batch.images])
        assert exact.outputs[0].dtype == np.float64
        np.testing.assert_allclose(exact.outputs[0], expected.numpy(), rtol=1e-12, atol=1e-13)


def test_the_yardstick_is_the_module_as_it_is(
    loaded: Callable[[str], LoadedModel], truth: Callable[[str], Reference]
) -> None:
    for batch, single in zip(truth("toy").batches, truth("toy").yardsticks[Precision.FP32], strict=True):
        with torch.no_grad():
            expected = loaded("toy").module(torch.from_numpy(batch.images))
        assert single.outputs[0].dtype == np.float32
        np.testing.assert_allclose(single.outputs[0], expected.numpy(), rtol=1e-5, atol=1e-6)


def test_the_module_is_not_changed(fresh: Callable[[str], LoadedModel]) -> None:
    model = fresh("cbam_resnet8")
    model.module.train()
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    reference(model, batches(model.input_shape, ("batch",), 1))
    after = model.module.state_dict()
    assert all(after[name].dtype == before[name].dtype and torch.equal(after[name], before[name]) for name in before)
    assert all(module.training for module in model.module.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())


def test_gates_are_seen_in_the_order_of_computation(truth: Callable[[str], Reference]) -> None:
    result = truth("cbam_resnet8").exact[0]
    assert list(result.gate_paths) == [
        f"layer{i}.0.attention.{gate}.sigmoid" for i in (1, 2, 3) for gate in ("ChannelGate", "SpatialGate")
    ]
    assert [gate.shape[1] for gate in result.gates] == [16, 32 * 32, 32, 16 * 16, 64, 8 * 8]


def test_a_layer_that_fixes_the_size_is_named_as_the_reason(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(1024, 5)).eval()
    with pytest.raises(CaptureError, match="the network can't take a batch of shape") as caught:
        exported(from_module(module, (3, 16, 16)), tmp_path, dynamic=ALL_AXES)
    assert "Linear after flatten" in caught.value.hint
    assert_good(exported(from_module(module, (3, 16, 16)), tmp_path), gates=0)


class Function(nn.Module):
    """A convolution, then a function."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.function = function
        self.eval()

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self.conv(x))


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: torch.log(-x.abs()), id="NaN"),
        pytest.param(lambda x: torch.exp(x * 1e9), id="infinity"),
        pytest.param(lambda x: x * torch.sigmoid(x / 0), id="infinity in a gate only"),
    ],
)
def test_a_network_that_computes_no_numbers_is_refused(function: Callable[[torch.Tensor], Any]) -> None:
    model = from_module(Function(function), (3, 16, 16))
    with pytest.raises(InputError, match="computes NaN or infinity for ordinary images"):
        reference(model, batches(model.input_shape, ("batch",), 1))


def test_what_forward_writes_into_a_buffer_of_its_own_is_in_the_oracle() -> None:
    def into_a_buffer(x: torch.Tensor) -> torch.Tensor:
        result = torch.zeros(x.shape)
        result[:] = x * 2
        return result

    model = from_module(Function(into_a_buffer), (3, 16, 16))
    truth = reference(model, batches(model.input_shape, ("batch",), 1))
    assert np.abs(truth.exact[0].outputs[0]).max() > 0


def test_a_network_whose_own_float32_is_far_from_float64_does_not_agree_with_everything(tmp_path: Path) -> None:
    model = from_module(Function(lambda x: F.dropout(x, 0.5, training=True)), (3, 16, 16))
    with pytest.raises(InputError, match="nothing can be proven"):
        exported(model, tmp_path)


def test_a_yardstick_that_is_no_number_agrees_with_nothing() -> None:
    assert not compare("output", "output", {"noise": 0.5}, {"noise": float("inf")}).agrees


def test_several_outputs_are_judged_each(tmp_path: Path) -> None:
    model = from_module(Function(lambda x: {"logits": x.mean((2, 3)), "map": torch.relu(x)}), (3, 16, 16))
    verdict = exported(model, tmp_path)
    assert [(c.tensor, c.role) for c in verdict.comparisons] == [("output_logits", "output"), ("output_map", "output")]
    assert_good(verdict, gates=0)


# ---- the images --------------------------------------------------------------------------------------------------


def shapes_of(made: list[Batch]) -> list[tuple[int, ...]]:
    return [batch.images.shape for batch in made]


def test_an_open_batch_is_judged_at_one_two_and_more() -> None:
    assert shapes_of(batches((3, 32, 32), ("batch",), 1)) == [(1, 3, 32, 32), (2, 3, 32, 32), (4, 3, 32, 32)]


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_a_fixed_batch_is_judged_as_it_is(batch: int) -> None:
    made = batches((3, 32, 32), (), batch)
    assert {shape[0] for shape in shapes_of(made)} == {batch}
    assert len({kind for b in made for kind in b.kinds}) == (len(KINDS) if batch > 1 else 1)


def test_open_sizes_are_judged_away_from_the_networks_own() -> None:
    others = {shape[2:] for shape in shapes_of(batches((3, 224, 224), ALL_AXES, 1))} - {(224, 224)}
    assert len(others) >= 2
    assert all(height != width for height, width in others), "a square hides swapped axes"
    assert {shape[2] for shape in shapes_of(batches((3, 32, 32), ("batch", "width"), 1))} == {32}


def test_images_are_the_same_in_every_run_and_differ_from_each_other() -> None:
    first, second = batches((3, 32, 32), ("batch",), 1), batches((3, 32, 32), ("batch",), 1)
    assert all(np.array_equal(a.images, b.images) and a.kinds == b.kinds for a, b in zip(first, second, strict=True))
    images = [image for batch in first for image in batch.images]
    assert all(not np.array_equal(a, b) for i, a in enumerate(images) for b in images[:i])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 7, 20), (3, 224, 160), (2, 1, 1)])
def test_images_look_normalized_whatever_their_size(kind: str, shape: tuple[int, int, int]) -> None:
    image = KINDS[kind](shape, np.random.default_rng(0))
    assert image.shape == shape
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    if np.prod(shape) > 100:
        assert abs(image.mean()) < 0.3
        assert 0.7 < image.std() < 1.3


def test_natural_images_are_smoother_than_noise() -> None:
    natural, noise = (KINDS[kind]((3, 64, 64), np.random.default_rng(0)) for kind in ("natural", "noise"))
    assert np.abs(np.diff(natural)).mean() < 0.6 * np.abs(np.diff(noise)).mean()


# ---- errors and verdicts -----------------------------------------------------------------------------------------

NUMBERS = st.floats(min_value=-1e3, max_value=1e3).map(lambda x: x if abs(x) > 1e-3 else 1.0)
TENSORS = arrays(np.float64, (3, 4), elements=NUMBERS)
KIND_NAMES = ("noise", "natural", "noise")


def pooled(computed: Any, exact: Any) -> dict[str, float]:
    error = PooledError()
    error.add(computed, exact, KIND_NAMES)
    return error.relative()


@given(TENSORS)
def test_equal_tensors_have_no_error(exact: Any) -> None:
    assert pooled(exact, exact) == {"noise": 0.0, "natural": 0.0}


@given(TENSORS, TENSORS, st.floats(min_value=1e-3, max_value=1e3))
def test_the_error_does_not_depend_on_the_scale(computed: Any, exact: Any, scale: float) -> None:
    assert pooled(computed * scale, exact * scale) == pytest.approx(pooled(computed, exact))


@given(TENSORS, st.floats(min_value=1e-6, max_value=1))
def test_a_relative_change_is_the_error(exact: Any, change: float) -> None:
    assert pooled(exact * (1 + change), exact) == pytest.approx({"noise": change, "natural": change}, rel=1e-6)


@given(TENSORS, st.integers(0, 11), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_what_is_no_number_is_infinitely_wrong(exact: Any, index: int, value: float) -> None:
    computed = exact.copy()
    computed.reshape(-1)[index] = value
    assert set(pooled(computed, exact).values()) == {float("inf")}


@given(TENSORS, TENSORS)
def test_batches_are_pooled_as_if_they_were_one(computed: Any, exact: Any) -> None:
    apart = PooledError()
    for i, kind in enumerate(KIND_NAMES):
        apart.add(computed[i : i + 1], exact[i : i + 1], (kind,))
    assert apart.relative() == pytest.approx(pooled(computed, exact))


def test_kinds_are_not_mixed() -> None:
    exact = np.ones((3, 4))
    computed = exact.copy()
    computed[1] += 1
    assert pooled(computed, exact) == {"noise": 0.0, "natural": 1.0}


def test_one_number_after_infinity_does_not_heal_it() -> None:
    error = PooledError()
    error.add(np.array([[np.nan]]), np.array([[1.0]]), ("noise",))
    error.add(np.array([[1.0]]), np.array([[1.0]]), ("noise",))
    assert error.relative() == {"noise": float("inf")}


def test_something_for_nothing_is_an_error() -> None:
    assert pooled(np.ones((3, 4)), np.zeros((3, 4)))["noise"] > 1e100
    assert pooled(np.zeros((3, 4)), np.zeros((3, 4)))["noise"] == 0.0


def test_the_worst_kind_is_the_one_that_is_told() -> None:
    comparison = compare("output", "output", {"noise": 1e-5, "natural": 2e-5}, {"noise": 1e-6, "natural": 1e-5})
    assert (comparison.kind, comparison.error, comparison.yardstick) == ("noise", 1e-5, 1e-6)
    assert comparison.ratio == pytest.approx(10)
    assert not comparison.agrees


def test_a_yardstick_that_is_zero_by_luck_is_held_at_the_floor() -> None:
    comparison = compare("output", "output", {"noise": FLOOR}, {"noise": 0.0})
    assert comparison.yardstick == FLOOR
    assert comparison.ratio == 1.0
    assert float(4 * np.finfo(np.float32).eps) == FLOOR


@pytest.mark.parametrize(("times", "agrees"), [(0, True), (1, True), (7.99, True), (8.01, False), (1e6, False)])
def test_the_limit_is_a_multiple_of_the_yardstick(times: float, agrees: bool) -> None:
    assert compare("output", "output", {"noise": times * 1e-5}, {"noise": 1e-5}).agrees is agrees


@pytest.mark.parametrize("error", [float("inf"), float("nan")])
def test_no_number_never_agrees(error: float) -> None:
    assert not Comparison("output", "output", "noise", error, 1.0).agrees


def test_a_verdict_fails_with_one_tensor_and_names_the_first() -> None:
    made = [Comparison(name, "gate", "noise", error, 1.0) for name, error in zip("abcd", (1, 9, 99, 2), strict=True)]
    verdict = Verdict("onnxruntime", tuple(made), ())
    assert not verdict.agrees
    assert verdict.first_disagreement == made[1]
    assert verdict.worst == made[2]
    assert verdict.worst_of("gate") == made[2]
    assert verdict.worst_of("output") is None
