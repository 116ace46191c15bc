"""The document of a program of torch.export, as far as its network is read from it.

The format is that of ``torch/_export/serde/schema.py``, major version 8. Fields that aren't here are skipped: traces,
guards and hints are for compilers, and some of them are Python code.
"""

from typing import Any

import msgspec

# The kind of an argument and its value: {"as_tensor": {"name": "x"}}.
Argument = dict[str, Any]


class Hint(msgspec.Struct, frozen=True):
    """The value that a symbolic size had when the network was exported."""

    as_int: int | None = None


class Expression(msgspec.Struct, frozen=True):
    """A symbolic size."""

    expr_str: str
    hint: Hint | None = None


class Size(msgspec.Struct, frozen=True):
    """A size, known or symbolic."""

    as_int: int | None = None
    as_expr: Expression | None = None

    def number(self) -> int:
        """The size, of the example where it is symbolic. Raises ValueError: a symbolic size without an example."""
        if self.as_int is not None:
            return self.as_int
        if self.as_expr is None or self.as_expr.hint is None or self.as_expr.hint.as_int is None:
            raise ValueError("a size has no value")
        return self.as_expr.hint.as_int


class TensorMeta(msgspec.Struct, frozen=True):
    """Type and place of a tensor's elements; ``dtype`` and ``layout`` are numbers of torch's enumerations."""

    dtype: int
    sizes: list[Size]
    strides: list[Size]
    storage_offset: Size
    layout: int


class NamedArgument(msgspec.Struct, frozen=True):
    """An argument of an operator; ``kind`` is 1 for one by position."""

    name: str
    arg: Argument
    kind: int | None = None


class Node(msgspec.Struct, frozen=True):
    """A call of an operator."""

    target: str
    inputs: list[NamedArgument]
    outputs: list[Argument]
    metadata: dict[str, str]


class Graph(msgspec.Struct, frozen=True):
    """The calls in their order."""

    inputs: list[Argument]
    outputs: list[Argument]
    nodes: list[Node]
    tensor_values: dict[str, TensorMeta]


class Signature(msgspec.Struct, frozen=True):
    """What the graph's inputs and outputs are: {"parameter": {...}}, {"user_output": {"arg": {...}}}."""

    input_specs: list[dict[str, Any]]
    output_specs: list[dict[str, Any]]


class CallSignature(msgspec.Struct, frozen=True):
    """How the network is called: the structure of its outputs as JSON."""

    out_spec: str


class ModuleCall(msgspec.Struct, frozen=True):
    """A module of the network; "" is the network."""

    fqn: str
    signature: CallSignature | None = None


class GraphModule(msgspec.Struct, frozen=True):
    """The graph and what it stands for."""

    graph: Graph
    signature: Signature
    module_call_graph: list[ModuleCall]


class Version(msgspec.Struct, frozen=True):
    """Of the format."""

    major: int


class Document(msgspec.Struct, frozen=True):
    """``models/NAME.json``."""

    graph_module: GraphModule
    schema_version: Version


class Payload(msgspec.Struct, frozen=True):
    """Where a tensor's bytes are."""

    path_name: str
    is_param: bool
    use_pickle: bool
    tensor_meta: TensorMeta | None = None


class PayloadConfig(msgspec.Struct, frozen=True):
    """``data/weights/NAME_weights_config.json``: tensors by their names in the network."""

    config: dict[str, Payload]


class TreeSpec(msgspec.Struct, frozen=True):
    """The structure of what the network returns; a leaf has no type. ``context`` is JSON too."""

    type: str | None
    context: str | None
    children_spec: list["TreeSpec"]


def entry_of(argument: dict[str, Any]) -> tuple[str, Any]:
    """The kind and the value of an argument. Raises ValueError: it has several."""
    ((kind, value),) = argument.items()
    return kind, value
