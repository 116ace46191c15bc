"""Changing an ONNX model node by node, as a defect of an exporter, a rewrite or a runtime would."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

MODULE_KEY = "attn_export.module"


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

    def insert_before(self, node: onnx.NodeProto, operator: str, *inputs: str, **attributes: Any) -> None:
        """Send the first input of ``node``, and of no other, through one more operator."""
        name = f"fault_{len(self.graph.node)}"
        new = helper.make_node(operator, [node.input[0], *inputs], [name], name=name, **attributes)
        node.input[0] = name
        self.graph.node.insert(list(self.graph.node).index(node), new)

    def inferred(self) -> onnx.ModelProto:
        """With the shapes of everything."""
        return onnx.shape_inference.infer_shapes(self.model)

    def _initializer(self, name: str) -> onnx.TensorProto:
        return next(tensor for tensor in self.graph.initializer if tensor.name == name)


def bias_of(edited: Edited, place: Place) -> str:
    """Its name is the capture's or the cleanup's affair; it is what the convolution reads."""
    return next(node.input[2] for node in edited.graph.node if place.weight in node.input)


def last_node(edited: Edited) -> onnx.NodeProto:
    """What computes the network's output."""
    return next(node for node in edited.graph.node if "output" in node.output)


def pool_of(edited: Edited, place: Place) -> onnx.NodeProto:
    """The average pool of the gate."""
    return edited.node("ReduceMean", place.gate.rpartition(".")[0].removesuffix(".fc"))


def reader_of(edited: Edited, tensor: str) -> onnx.NodeProto:
    """The first node that reads a tensor."""
    return next(node for node in edited.graph.node if tensor in node.input)


def scaled_after(edited: Edited, node: onnx.NodeProto, factor: float) -> None:
    """Multiply what a node computes."""
    name = edited.add_tensor(f"fault_{node.output[0]}", np.array(factor, np.float32))
    edited.insert_after(node, "Mul", name)
