"""The attention blocks of ONNX files, and outlines with the attention marked."""

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as common

from attn_export.exporter.artifacts import AttentionBlock, ParsedFile
from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.graph.attention.blocks import METADATA_KEY, from_json, known_as
from attn_export.exporter.graph.attention.recognize import find_blocks
from attn_export.exporter.graph.facts import GATE_ACTIVATIONS, is_op, is_overridable
from attn_export.exporter.graph.outline import outline
from attn_export.exporter.graph.read import named, parse
from attn_export.exporter.records.graphs import Outline
from attn_export.exporter.system.bounds import bounded_work
from attn_export.exporter.system.files import total_bytes
from attn_export.exporter.system.quiet import quiet


def attention_of(model: ir.Model) -> tuple[AttentionBlock, ...]:
    """The attention blocks of a graph, in the order in which they are computed.

    The inventory in the file's metadata counts if it fits the graph. Otherwise the blocks are recognized in the
    prepared graph, which changes it; an inventory of an earlier state of the graph still tells their kinds.

    Raises:
        RuntimeUnavailableError: there is no valid inventory, and onnxscript, which `prepare` needs, isn't installed.
    """
    known = from_json(model.metadata_props.get(METADATA_KEY, ""))
    if known and _fits(model, known):
        return known
    try:
        from attn_export.exporter.cleanup.pipeline import prepare
    except ImportError as error:  # on a device that only builds
        raise RuntimeUnavailableError(
            f"the attention blocks can't be looked for: {error.name or 'onnxscript'} is not installed",
            hint="pip install onnxscript; or build from a bundle, which says where they are.",
        ) from error
    model.graph.inputs[:] = [value for value in model.graph.inputs if not is_overridable(value)]
    prepare(model)
    found = find_blocks(model)
    return known_as(found, known, known or found)


def _fits(model: ir.Model, inventory: Sequence[AttentionBlock]) -> bool:
    """Whether the nodes of every block exist, among them those that compute its maps and an activation for each gate.

    Names alone prove nothing: exporters number nodes, so a graph edited since may have the same names.
    """
    names = {node.name for node in model.graph}
    gates = {node.name for node in model.graph if is_op(node, *GATE_ACTIVATIONS, "Softmax")}
    producers = {value.name: node.name for node in model.graph for value in node.outputs}
    return all(
        names.issuperset(block.nodes)
        and all(producers.get(name) in block.nodes for name in block.maps)
        and len(gates.intersection(block.nodes)) >= len(block.gates)
        for block in inventory
    )


def inspect_file(path: Path | str) -> tuple[AttentionBlock, ...]:
    """The attention blocks of an ONNX file, with nodes named as by `named`.

    Raises:
        UnreadableGraphError: the file is missing, damaged, or not valid ONNX.
        RuntimeUnavailableError: see `attention_of`.
    """
    with bounded_work(total_bytes(Path(path))):
        return blocks_of(parse(Path(path)))


def blocks_of(file: ParsedFile) -> tuple[AttentionBlock, ...]:
    """The same for a file that is parsed already. Raises RuntimeUnavailableError: see `attention_of`."""
    return attention_of(named(file.copy()))


def outline_of(model: ir.Model, blocks: Sequence[AttentionBlock] | None = None) -> Outline:
    """The outline of the graph of an ONNX file of any exporter, local functions inlined.

    The graph is changed; its attention blocks are looked for unless they are given.
    """
    with quiet():
        if model.functions:
            common.InlinePass()(model)
        common.NameFixPass()(model)  # blocks list nodes by name, and foreign nodes may lack names or share them
    graph = outline(model)
    return graph.marked(attention_of(model) if blocks is None else blocks)
