"""Outlines of files: what stands in them, with the attention marked."""

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as common

from attn_export.exporter.artifacts import AttentionBlock
from attn_export.exporter.cleanup.pipeline import prepare
from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.graph.attention.blocks import METADATA_KEY, from_json, known_as
from attn_export.exporter.graph.attention.recognize import find_blocks
from attn_export.exporter.graph.outline import outline
from attn_export.exporter.graph.read import read, read_named
from attn_export.exporter.records.graphs import Outline
from attn_export.exporter.system.quiet import quiet


def outline_of_file(path: Path, blocks: Sequence[AttentionBlock] | None = None) -> Outline:
    """The outline of an ONNX file of anybody's. Local functions are drawn as what they call.

    Args:
        path: the file.
        blocks: its attention, where that is known; looked for if None.

    Raises:
        UnreadableGraphError: the file isn't there, is damaged, or isn't valid ONNX.
    """
    model = read(path)
    with quiet():
        if model.functions:
            common.InlinePass()(model)
        common.NameFixPass()(model)  # an inventory names nodes, and others' need have no names, nor different ones
    drawn = outline(model)
    if blocks is not None:
        return drawn.marked(blocks)

    from attn_export.exporter.cleanup.pipeline import prepare

    known = from_json(model.metadata_props.get(METADATA_KEY, ""))
    prepare(model)
    return drawn.marked(known_as(find_blocks(model), known))


def inspect_file(path: Path | str) -> tuple[AttentionBlock, ...]:
    """The attention blocks of an ONNX file, in the order in which they are computed.

    Raises:
        UnreadableGraphError: the file isn't there, is damaged, or isn't valid ONNX.
    """
    model = read(Path(path))
    known = from_json(model.metadata_props.get(METADATA_KEY, ""))
    prepare(model)
    found = find_blocks(model)
    return known_as(found, known, known or found)


def blocks_of_file(path: Path) -> tuple[AttentionBlock, ...]:
    """The blocks, with the names that `read_named` gives to nodes.

    Raises:
        UnreadableGraphError: the file isn't there, is damaged, or isn't valid ONNX.
        RuntimeUnavailableError: see `blocks_carried`.
    """
    return blocks_carried(read_named(path))


def blocks_carried(model: ir.Model) -> tuple[AttentionBlock, ...]:
    """The inventory that a graph carries, or what is found in one that was never cleaned. Changes the graph.

    Raises:
        RuntimeUnavailableError: it carries none, and onnxscript, which helps to find one, isn't installed.
    """
    known = from_json(model.metadata_props.get(METADATA_KEY, ""))
    names = {node.name for node in model.graph}
    if known and all(set(block.nodes) <= names for block in known):
        return known
    try:
        from attn_export.exporter.cleanup.pipeline import prepare
    except ImportError as error:  # on a device that only builds
        raise RuntimeUnavailableError(
            f"the attention blocks can't be looked for: {error.name or 'onnxscript'} is not installed",
            runtime="onnxscript",
            hint="pip install onnxscript; or build from a bundle, which says where they are.",
        ) from error
    prepare(model)
    return find_blocks(model)
