"""What is known of an attention block, and how a file keeps it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from attn_export.exporter.artifacts import UNKNOWN, AttentionBlock

METADATA_KEY = "attn_export.inventory"


def known_as(blocks: Sequence[AttentionBlock], *earlier: Sequence[AttentionBlock]) -> tuple[AttentionBlock, ...]:
    """The blocks, with what earlier states of the graph showed.

    A runtime's own form may not show what kind they are. Of the earlier inventories the first knows best, and the
    last counts as "before".
    """
    described = []
    for block in _joined_again(blocks, earlier):
        for inventory in earlier:
            known = next((b for b in inventory if b.maps[-1] == block.maps[-1] and b.kind != UNKNOWN), None)
            if known is not None:
                block = replace(
                    known, nodes=block.nodes, gates=block.gates, maps=block.maps, nodes_before=block.nodes_before
                )
                break
        before = [b for inventory in earlier[-1:] for b in inventory if b.maps[-1] in block.maps]
        described.append(replace(block, nodes_before=sum(b.nodes_before for b in before) or block.nodes_before))
    return tuple(described)


def _joined_again(
    blocks: Sequence[AttentionBlock], earlier: Sequence[Sequence[AttentionBlock]]
) -> list[AttentionBlock]:
    """Two gates that an earlier state of the graph knew as the halves of one block, as one block."""
    joined = list(blocks)
    for known in (block for inventory in earlier for block in inventory if len(block.maps) > 1):
        halves = [block for block in joined if block.maps in ((known.maps[0],), (known.maps[-1],))]
        if len(halves) == 2:
            first, second = halves
            nodes = tuple(dict.fromkeys((*first.nodes, *second.nodes)))
            gates = tuple(dict.fromkeys((*first.gates, *second.gates)))
            joined[joined.index(second)] = replace(known, nodes=nodes, gates=gates, nodes_before=len(nodes))
            joined.remove(first)
    return joined


def to_json(blocks: Sequence[AttentionBlock]) -> str:
    """The inventory as a file's metadata hold it."""
    return json.dumps([asdict(block) for block in blocks])


def from_json(text: str) -> tuple[AttentionBlock, ...]:
    """The inventory that a file's metadata hold; empty if they were written by something else."""
    try:
        return tuple(_block(entry) for entry in json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ()


def _block(entry: dict[str, Any]) -> AttentionBlock:
    """One entry."""
    known = {field.name: entry[field.name] for field in fields(AttentionBlock)}
    names = {key: known[key] for key in ("gates", "maps", "nodes")}
    texts = (known["kind"], known["module_path"], *(name for listed in names.values() for name in listed))
    counts = [known[key] for key in ("channels", "reduction", "kernel") if known[key] is not None]
    if not all(isinstance(listed, list) and listed for listed in names.values()):
        raise TypeError("names are listed")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("names are texts")
    if not all(type(count) is int for count in (*counts, known["nodes_before"])):
        raise TypeError("counts are whole numbers")
    return AttentionBlock(**{**known, **{key: tuple(listed) for key, listed in names.items()}})
