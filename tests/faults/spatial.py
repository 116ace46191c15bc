"""Faults of CBAM's spatial gate."""

import numpy as np
import onnx

from tests.faults.editing import Edited, Place, module_of, pool_of


def convolution_of(edited: Edited, place: Place) -> onnx.NodeProto:
    """What goes into the spatial gate's sigmoid."""
    gate = edited.gate(place.after)
    return next(node for node in edited.graph.node if gate.input[0] in node.output)


def gate_transposed(edited: Edited, place: Place) -> None:
    """Height and width of the spatial gate swapped, which is a valid graph for square images."""
    edited.insert_after(edited.gate(place.after), "Transpose", perm=[0, 1, 3, 2])


def average_and_maximum_swapped(edited: Edited, place: Place) -> None:
    concat = edited.node("Concat", place.after.rpartition(".")[0])
    concat.input[:] = [concat.input[1], concat.input[0]]


def average_taken_twice(edited: Edited, place: Place) -> None:
    concat = edited.node("Concat", place.after.rpartition(".")[0])
    concat.input[:] = [concat.input[0], concat.input[0]]


def spatial_kernel_flipped(edited: Edited, place: Place) -> None:
    name = convolution_of(edited, place).input[1]
    edited.replace_tensor(name, np.ascontiguousarray(edited.tensor(name)[:, :, ::-1, ::-1]))


def seen_before_the_channel_gate(edited: Edited, place: Place) -> None:
    """The spatial gate looks at the map that the channel gate hasn't multiplied yet."""
    module = place.after.rpartition(".")[0]
    pools = [node for node in edited.graph.node if node.op_type in ("ReduceMean", "ReduceMax")]
    ungated = pool_of(edited, place).input[0]
    for pool in pools:
        if module_of(pool).startswith(module):
            pool.input[0] = ungated


def kernel_one_pixel_off(edited: Edited, place: Place) -> None:
    """The spatial convolution is padded by one more on one side than on the other."""
    pads = next(a for a in convolution_of(edited, place).attribute if a.name == "pads")
    top, left, bottom, right = pads.ints
    pads.ints[:] = [top - 1, left, bottom + 1, right]


def maximum_of_magnitudes(edited: Edited, place: Place) -> None:
    """The maximum over the channels is taken of absolute values."""
    module = place.after.rpartition(".")[0]
    edited.insert_before(edited.node("ReduceMax", module), "Abs")
