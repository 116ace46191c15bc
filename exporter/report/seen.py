"""What there is to look at, as plain values: the gates on an image, and the outlines of graphs."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attn_export.exporter.inventory.outline import Outline, Outlined
    from attn_export.exporter.runtimes.base import Array
    from attn_export.exporter.validation.looking import Seen


def seen_record(seen: "Seen | None") -> dict[str, Any] | None:
    """The gates. Pictures and values are base64 of bytes, row by row: 0 to 255, of a gate for 0 to 1."""
    if seen is None or not (seen.gates or seen.not_drawn or seen.unseen):
        return None
    image = None
    if seen.picture is not None:
        height, width, channels = seen.picture.shape
        image = {
            "kind": seen.kind,
            "shape": [channels, height, width],
            "pixels": _base64(seen.picture),
            "channels": channels,
        }
    return {
        "image": image,
        "gates": [
            {
                "module_path": gate.module_path,
                "kind": gate.kind,
                "shape": list(next(iter(gate.values.values())).shape),
                "values": {
                    name: _base64((values * 255).round().astype("uint8")) for name, values in gate.values.items()
                },
                "differences": dict(gate.differences),
                "window": gate.window,
            }
            for gate in seen.gates
        ],
        "left_out": seen.left_out,
        "not_drawn": [asdict(entry) for entry in seen.not_drawn],
        "unseen": dict(seen.unseen),
    }


def outlines_record(outlined: "Sequence[Outlined]") -> list[dict[str, Any]]:
    """The graphs, before and after."""
    return [
        {
            "artifact": one.artifact,
            "before": outline_record(one.before) if one.before is not None else None,
            "after": outline_record(one.after),
        }
        for one in outlined
    ]


def outline_record(outline: "Outline") -> dict[str, Any]:
    """One graph: its operators in topological order, and for each its block and the operators that it reads."""
    return {
        "operators": list(outline.operators),
        "blocks": list(outline.blocks),
        "inputs": [list(inputs) for inputs in outline.inputs],
        "inventory": [asdict(block) for block in outline.inventory],
    }


def _base64(array: "Array") -> str:
    return b64encode(array.tobytes()).decode("ascii")
