"""The attention of a file of any origin: what it says of itself, or what is found in it."""

from pathlib import Path

import onnx_ir as ir

from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.inventory.blocks import METADATA_KEY, AttentionBlock, from_json
from attn_export.exporter.inventory.recognize import find_blocks
from attn_export.exporter.onnx_reader import read_named


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
            hint="pip install onnxscript; or build from a kit, which says where they are.",
        ) from error
    prepare(model)
    return find_blocks(model)
