"""Outlines of files: what stands in them, with the attention marked."""

from collections.abc import Sequence
from pathlib import Path

import onnx_ir.passes.common as common

from attn_export.exporter.inventory import AttentionBlock, find_blocks
from attn_export.exporter.inventory.blocks import METADATA_KEY, from_json, known_as
from attn_export.exporter.inventory.outline import Outline, outline
from attn_export.exporter.onnx_reader import read
from attn_export.exporter.quiet import quiet


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
