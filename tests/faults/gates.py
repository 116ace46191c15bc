"""Faults of a gate: its pool, its layers, its sigmoid."""

import numpy as np
from onnx import TensorProto, helper

from tests.faults.editing import Edited, Place, pool_of, reader_of, scaled_after


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


def second_branch_dropped(edited: Edited, place: Place) -> None:
    add = edited.node("Add", place.gate.rpartition(".")[0])
    edited.become(add, "Identity", [add.input[0]])


def mean_over_one_axis(edited: Edited, place: Place) -> None:
    """Of the first row only, as a mean over W that is taken for one over H and W."""
    pool = pool_of(edited, place)
    axes = edited.add_tensor("fault_width", np.array([3], np.int64))
    first = edited.add_tensor("fault_row", np.array([0], np.int64))
    edited.become(pool, "ReduceMean", [pool.input[0], axes], keepdims=1)
    edited.insert_after(pool, "Gather", first, axis=2)


def unbiased_mean(edited: Edited, place: Place) -> None:
    """Divided by n - 1, as an unbiased variance is."""
    size = next(  # of the map, H times W
        value.type.tensor_type.shape.dim[2].dim_value * value.type.tensor_type.shape.dim[3].dim_value
        for value in edited.inferred().graph.value_info
        if value.name == pool_of(edited, place).input[0]
    )
    scaled_after(edited, pool_of(edited, place), size / (size - 1))


def hidden_units_in_another_order(edited: Edited, place: Place) -> None:
    """The rows of the gate's first layer turned round, and not the columns of its second."""
    first = reader_of(edited, pool_of(edited, place).output[0])
    weight = edited.tensor(first.input[1])
    edited.replace_tensor(first.input[1], np.ascontiguousarray(weight[::-1]))


def second_layers_bias_halved(edited: Edited, place: Place) -> None:
    """Added once instead of twice, where a shared layer is applied to the sum of two branches."""
    gate = edited.gate(place.gate)
    layer = next(node for node in edited.graph.node if gate.input[0] in node.output)
    edited.replace_tensor(layer.input[2], edited.tensor(layer.input[2]) / 2)


def branches_averaged(edited: Edited, place: Place) -> None:
    """Half the sum of the average's and the maximum's branch."""
    scaled_after(edited, edited.node("Add", place.gate.rpartition(".")[0]), 0.5)


def gate_on_the_map_before(edited: Edited, place: Place) -> None:
    """The gate of the map multiplies the map squared, as one that is applied twice."""
    multiplied = reader_of(edited, edited.gate(place.gate).output[0])
    edited.insert_after(multiplied, "Mul", edited.gate(place.gate).output[0])


def gate_in_float16(edited: Edited, place: Place) -> None:
    """What goes into the sigmoid is rounded."""
    gate = edited.gate(place.gate)
    edited.insert_before(gate, "Cast", to=TensorProto.FLOAT16)
    edited.insert_before(gate, "Cast", to=TensorProto.FLOAT)


def gate_over_channels_reversed(edited: Edited, place: Place) -> None:
    """Each channel gets another one's gate."""
    numbers = {"starts": -1, "ends": -(2**31), "axes": 1, "steps": -1}
    names = [edited.add_tensor(f"fault_{key}", np.array([value], np.int64)) for key, value in numbers.items()]
    edited.insert_after(edited.gate(place.gate), "Slice", *names)
