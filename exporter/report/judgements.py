"""How an artifact stands to a kit's sample: as plain values, and as a table for a terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from attn_export.exporter.report.tables import number, table

if TYPE_CHECKING:
    from attn_export.exporter.kit.judge import Judgement
    from attn_export.exporter.kit.read import Kit
    from attn_export.exporter.kit.sample_file import Sample


def judgement_record(kit: "Kit", artifact: Path, judgement: "Judgement") -> dict[str, Any]:
    """Plain values. An error that is no number is null, which JSON has."""
    return {
        "kit": {"path": str(kit.path), "sha256": kit.sha256, "architecture": kit.architecture},
        "artifact": str(artifact),
        **sample_record(kit.sample, judgement),
    }


def sample_record(sample: "Sample", judgement: "Judgement") -> dict[str, Any]:
    """The same without what was judged."""
    return {
        "runtime": judgement.runtime,
        "reference": sample.reference,
        "yardstick": sample.yardstick,
        "batches": [list(shape) for shape in judgement.batches],
        "agrees": judgement.agrees,
        "outputs": [
            {
                "output": entry.output,
                "kind": entry.kind,
                "error": _finite(entry.error),
                "yardstick": entry.yardstick,
                "ratio": _finite(entry.ratio),
                "allowed": entry.limit,
                "agrees": entry.agrees,
            }
            for entry in judgement.judged
        ],
    }


def _finite(value: float) -> float | None:
    return value if value not in (float("inf"), float("-inf")) and value == value else None


def judgement_table(record: dict[str, Any]) -> Table:
    """One row for each output and kind of image."""
    made = table(
        f"Against {record['reference']}", "output", "images", "error", "yardstick", "ratio", "allowed", "verdict"
    )
    made.columns[1].justify = "left"
    for entry in record["outputs"]:
        made.add_row(
            Text(entry["output"]),
            entry["kind"],
            number(entry["error"]),
            number(entry["yardstick"]),
            "—" if entry["ratio"] is None else f"{entry['ratio']:.2f}",
            f"{entry['allowed']:g}",
            Text("agrees", "green") if entry["agrees"] else Text("DISAGREES", "bold red"),
        )
    return made


def judgement_caption(record: dict[str, Any]) -> Text:
    """What ran, on what, and what the yardstick is."""
    return Text(
        f"{record['runtime']}; batches of {_shapes(record['batches'])}; the yardstick is {record['yardstick']}",
        style="dim",
    )


def _shapes(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join("×".join(map(str, shape)) for shape in shapes)
