"""How artifacts stand to a checkpoint: as plain values, and as a table for a terminal."""

from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from attn_export.exporter.report.tables import table

SCHEMA_VERSION = 1


def validated_parts(record: dict[str, Any]) -> list[RenderableType]:
    """All of it for a terminal."""
    rounded = any(artifact["quantized"] for artifact in record["artifacts"])
    return [validated_table(record), validated_caption(record), *([quality_lines(record)] if rounded else [])]


def validated_table(record: dict[str, Any]) -> Table:
    """One row for each artifact."""
    made = table(
        f"Against {record['model']['name']} in float64",
        "artifact",
        "precision",
        "ran in",
        "images",
        "worst gate",
        "worst output",
        "allowed",
        "verdict",
    )
    for column in made.columns[1:3]:
        column.justify = "left"
    for artifact in record["artifacts"]:
        validation = artifact["validation"]
        name = Text(Path(artifact["path"]).name)
        if validation is None:
            made.add_row(name, artifact["precision"], "—", "—", "—", "—", "—", Text("not judged", "yellow"))
            continue
        made.add_row(
            name,
            artifact["precision"],
            validation["runtime"],
            str(validation["images"]),
            _worst(validation, "gate"),
            _worst(validation, "output"),
            f"{validation['comparisons'][0]['limit']:g}",
            Text("agrees", "green") if validation["agrees"] else Text("DISAGREES", "bold red"),
        )
    return made


def _worst(validation: dict[str, Any], role: str) -> str:
    ratios = [c["ratio"] for c in validation["comparisons"] if c["role"] == role]
    if not ratios:
        return "not seen" if role == "gate" and validation["gates_missed"] else "none"
    return "not a number" if None in ratios else f"{max(ratios):.3g}×"


def quality_lines(record: dict[str, Any]) -> Text:
    """How graphs that round to whole numbers stand to the network; empty if there are none."""
    lines = []
    for artifact in record["artifacts"]:
        if found := artifact["quantized"]:
            told = ", ".join(f"{name} {sqnr:.1f} dB" for name, sqnr in found["sqnr_db"].items() if sqnr is not None)
            same = "" if found["agreement"] is None else f", {found['agreement']:.1%} of the classes agree"
            lines.append(
                f"{Path(artifact['path']).name} against the network, over {found['images']} images: {told}{same}"
            )
    return Text("\n".join(lines))


def validated_caption(record: dict[str, Any]) -> Text:
    """What the numbers are."""
    shapes = dict.fromkeys(
        "×".join(map(str, shape))
        for a in record["artifacts"]
        if a["validation"]
        for shape in a["validation"]["batches"]
    )
    if not shapes:
        return Text("nothing could be run", style="dim")
    told = "× times PyTorch's own error in the artifact's precision"
    if any(artifact["quantized"] for artifact in record["artifacts"]):
        told += ", or the graph's own where it is quantized"
    return Text(f"{told}; batches of {', '.join(shapes)}", style="dim")
