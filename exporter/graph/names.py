"""Names that are new in a graph."""

from collections.abc import Iterable
from typing import TypeVar

import onnx_ir as ir

Name = TypeVar("Name", str, str | None)


def unique_name(wanted: str, taken: "set[Name]") -> str:
    """Reserve a name, numbered if it is taken."""
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name


def names_in(graph: ir.Graph) -> set[str]:
    """The names of a graph's own nodes and values, bodies excluded."""
    values: Iterable[ir.Value] = (*graph.inputs, *graph.initializers.values(), *(v for n in graph for v in n.outputs))
    return {str(value.name) for value in values} | {str(node.name) for node in graph}
