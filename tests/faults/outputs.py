"""Faults at the ends: what goes in, what comes out, and which image it belongs to."""

import numpy as np
from onnx import TensorProto, helper

from tests.faults.editing import Edited, Place, last_node


def outputs_permuted(edited: Edited, place: Place) -> None:
    last = last_node(edited)
    for name in last.input[1:]:
        edited.replace_tensor(name, np.ascontiguousarray(edited.tensor(name)[::-1]))


def one_output_bias_off(edited: Edited, place: Place) -> None:
    last = last_node(edited)
    bias = edited.tensor(last.input[2])
    bias[-1] += 1e-3
    edited.replace_tensor(last.input[2], bias)


def softmax_appended(edited: Edited, place: Place) -> None:
    last = last_node(edited)
    edited.insert_after(last, "Softmax", axis=-1)


def batch_reversed(edited: Edited, place: Place) -> None:
    last = last_node(edited)
    numbers = {"starts": -1, "ends": -(2**31), "axes": 0, "steps": -1}
    names = [edited.add_tensor(f"fault_{key}", np.array([value], np.int64)) for key, value in numbers.items()]
    edited.insert_after(last, "Slice", *names)


def first_image_for_all(edited: Edited, place: Place) -> None:
    """Every element of the batch becomes the first: 0 times its own, plus the first one's."""
    last = last_node(edited)
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


def nan_in_one_output(edited: Edited, place: Place) -> None:
    last = last_node(edited)
    bias = edited.tensor(last.input[2])
    bias[-1] = np.nan
    edited.replace_tensor(last.input[2], bias)


def output_in_float16(edited: Edited, place: Place) -> None:
    last = last_node(edited)
    edited.insert_after(last, "Cast", to=TensorProto.FLOAT)
    edited.insert_after(last, "Cast", to=TensorProto.FLOAT16)


def normalized_twice(edited: Edited, place: Place) -> None:
    """The normalization of photographs is in the file too."""
    first = next(node for node in edited.graph.node if "input" in node.input)
    edited.insert_before(first, "Sub", edited.add_tensor("fault_mean", np.array(0.45, np.float32)))
    edited.insert_before(first, "Div", edited.add_tensor("fault_deviation", np.array(0.22, np.float32)))


def pixels_to_255(edited: Edited, place: Place) -> None:
    """Inputs are divided by 255 in the file too."""
    first = next(node for node in edited.graph.node if "input" in node.input)
    edited.insert_before(first, "Div", edited.add_tensor("fault_white", np.array(255, np.float32)))


def colours_swapped(edited: Edited, place: Place) -> None:
    """BGR for RGB."""
    first = next(node for node in edited.graph.node if "input" in node.input)
    edited.replace_tensor(first.input[1], np.ascontiguousarray(edited.tensor(first.input[1])[:, ::-1]))


def image_mirrored(edited: Edited, place: Place) -> None:
    first = next(node for node in edited.graph.node if "input" in node.input)
    numbers = {"starts": -1, "ends": -(2**31), "axes": 3, "steps": -1}
    names = [edited.add_tensor(f"fault_{key}", np.array([value], np.int64)) for key, value in numbers.items()]
    edited.insert_before(first, "Slice", *names)


def height_and_width_swapped(edited: Edited, place: Place) -> None:
    first = next(node for node in edited.graph.node if "input" in node.input)
    edited.insert_before(first, "Transpose", perm=[0, 1, 3, 2])


def batch_baked_to_one(edited: Edited, place: Place) -> None:
    """A shape that was traced with one image: others are dropped from the batch."""
    last = last_node(edited)
    classes = edited.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    shape = edited.add_tensor("fault_shape", np.array([1, classes], np.int64))
    edited.insert_after(last, "Reshape", shape)


def images_shifted_in_the_batch(edited: Edited, place: Place) -> None:
    """Each image of a batch gets the result of the next, the last one that of the first."""
    last = last_node(edited)
    own, at = f"{last.output[0]}_own", list(edited.graph.node).index(last) + 1
    last.output[0] = own
    begin, one, end, axis = (
        edited.add_tensor(f"fault_{key}", np.array([value], np.int64))
        for key, value in {"begin": 0, "one": 1, "end": 2**31, "axis": 0}.items()
    )
    added = [
        helper.make_node("Slice", [own, one, end, axis], ["fault_rest"], name="fault_rest"),
        helper.make_node("Slice", [own, begin, one, axis], ["fault_first"], name="fault_first"),
        helper.make_node("Concat", ["fault_rest", "fault_first"], ["output"], name="fault_all", axis=0),
    ]
    for offset, node in enumerate(added):
        edited.graph.node.insert(at + offset, node)
