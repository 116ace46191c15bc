"""Faults of wires and of layers between gates."""

import numpy as np
from onnx import TensorProto, helper

from tests.faults.editing import Edited, Place, module_of


def padding_on_one_side(edited: Edited, place: Place) -> None:
    convolution = next(node for node in edited.graph.node if place.weight in node.input)
    pads = next(a for a in convolution.attribute if a.name == "pads")
    top, left, bottom, right = pads.ints
    pads.ints[:] = [0, 0, top + bottom, left + right]


def shortcut_not_added(edited: Edited, place: Place) -> None:
    add = next(node for node in edited.graph.node if node.op_type == "Add" and module_of(node) == place.block)
    edited.become(add, "Identity", [add.input[0]])


def shortcut_before_the_gate(edited: Edited, place: Place) -> None:
    """gate * (map + shortcut) instead of gate * map + shortcut."""
    add = next(node for node in edited.graph.node if node.op_type == "Add" and module_of(node) == place.block)
    gated = next(node for node in edited.graph.node if add.input[0] in node.output)
    edited.become(add, "Add", [gated.input[0], add.input[1]])
    edited.insert_after(add, "Mul", gated.input[1])


def leaky_relu(edited: Edited, place: Place) -> None:
    relu = edited.node("Relu", place.block)
    edited.become(relu, "LeakyRelu", list(relu.input), alpha=0.01)


def relu_cut_off(edited: Edited, place: Place) -> None:
    """ReLU6 for ReLU: only images of large values reach it."""
    relu = edited.node("Relu", place.block)
    limits = [edited.add_tensor(f"fault_{n}", np.array(n, np.float32)) for n in (0, 6)]
    edited.become(relu, "Clip", [relu.input[0], *limits])


def swish_for_hard_swish(edited: Edited, place: Place) -> None:
    """x * sigmoid(x), which has the same form."""
    node = next(n for n in edited.graph.node if n.op_type == "HardSwish")
    edited.insert_before(node, "Identity")
    name = node.input[0]
    squashed = helper.make_node("Sigmoid", [name], ["fault_squashed"], name="fault_squashed")
    edited.graph.node.insert(list(edited.graph.node).index(node), squashed)
    edited.become(node, "Mul", [name, "fault_squashed"])


def map_overflows_float16(edited: Edited, place: Place) -> None:
    """A map goes through float16 in a scale that it doesn't hold."""
    add = edited.node("Relu", place.block)
    name = edited.add_tensor("fault_scale", np.array(1e5, np.float32))
    edited.insert_after(add, "Div", name)
    edited.insert_after(add, "Cast", to=TensorProto.FLOAT)
    edited.insert_after(add, "Cast", to=TensorProto.FLOAT16)
    edited.insert_after(add, "Mul", name)


def map_in_float16(edited: Edited, place: Place) -> None:
    """One map is stored in float16."""
    relu = edited.node("Relu", place.block)
    edited.insert_after(relu, "Cast", to=TensorProto.FLOAT)
    edited.insert_after(relu, "Cast", to=TensorProto.FLOAT16)


def noise_left_in(edited: Edited, place: Place) -> None:
    """A little noise, other each time, as of a dropout or a data augmentation that was traced."""
    relu = edited.node("Relu", place.block)
    random = helper.make_node("RandomNormalLike", [relu.input[0]], ["fault_noise"], name="fault_noise", scale=1e-3)
    edited.graph.node.insert(list(edited.graph.node).index(relu), random)
    edited.insert_after(relu, "Add", "fault_noise")
