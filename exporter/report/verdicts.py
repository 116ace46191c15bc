"""How artifacts stand to a checkpoint: as plain values, and as a table for a terminal."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from attn_export.exporter.artifacts import LoadedModel
from attn_export.exporter.files import sha256_of
from attn_export.exporter.report.record import comparison_record, verdict_record
from attn_export.exporter.report.tables import table

if TYPE_CHECKING:
    from attn_export.exporter.validating import Validated

SCHEMA_VERSION = 1


def validated_record(model: LoadedModel, results: Sequence["Validated"]) -> dict[str, Any]:
    """Plain values of one run."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model": {
            "name": model.name,
            "checkpoint": str(model.path) if model.path else None,
            "sha256": model.sha256,
            "input_shape": list(model.input_shape),
            "notes": list(model.notes),
        },
        "agrees": all(result.error is None for result in results),
        "artifacts": [_artifact_record(result) for result in results],
    }


def _artifact_record(result: "Validated") -> dict[str, Any]:
    artifact = result.artifact
    return {
        "path": str(artifact.path),
        "format": artifact.format,
        "sha256": sha256_of(artifact.path),
        "precision": artifact.rounds_to or artifact.precision.onnx_name,
        "made_of": artifact.made_of or None,
        "validation": verdict_record(result.verdict) if result.verdict else None,
        **finding_record(result),
    }


def finding_record(result: "Validated") -> dict[str, Any]:
    """What was found besides the verdict."""
    start, error = result.start, result.error
    return {
        "notes": list(result.notes),
        "quantized": asdict(result.quality) if result.quality else None,
        "starts": {**comparison_record(start.comparison), "module": start.module_path, "before": start.before}
        if start
        else None,
        "error": {"message": error.message, "hint": error.hint, "exit_code": error.exit_code} if error else None,
    }


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
