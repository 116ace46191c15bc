"""Names that survive a runtime's renaming.

ONNX Runtime derives the names of its nodes from the original ones: "InsertedPrecisionFreeCast_relu_nchwc" is the
convolution, in another layout and precision, that ends in the tensor "relu". Distinctive tokens can be found in every
derived name, whatever prefix or suffix was added.
"""

import re

import onnx_ir as ir

_TOKEN = re.compile(r"attn(Node|Tensor)(\d+)\.")


class Names:
    """The names of nodes and tensors, replaced in place by tokens; inputs, outputs and weights keep theirs."""

    def __init__(self, model: ir.Model) -> None:
        self._nodes = list(model.graph)
        self._kept = {str(v.name): v for v in (*model.graph.inputs, *model.graph.outputs) if v.const_value is None}
        computed = [value for node in model.graph for value in node.outputs]
        self._tensors = [value for value in computed if not value.is_graph_output() and value.name]
        for index, node in enumerate(self._nodes):
            node.name = f"attnNode{index}."
        for index, value in enumerate(self._tensors):
            value.name = f"attnTensor{index}."

    def node(self, name: str) -> ir.Node | None:
        """The node that a name derives from, directly or through one of its outputs."""
        if name in self._kept:
            return self._kept[name].producer()
        for kind, number in _TOKEN.findall(name):
            return self._nodes[int(number)] if kind == "Node" else self._tensors[int(number)].producer()
        return None

    def tensor(self, name: str) -> ir.Value | None:
        """The tensor with the values of the one of this name, apart from layout and type."""
        if name in self._kept:
            return self._kept[name]
        for kind, number in _TOKEN.findall(name):
            return self._tensors[int(number)] if kind == "Tensor" else None
        return None
