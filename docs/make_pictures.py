"""Makes the pictures in docs/pictures from real runs of the command.

python docs/make_pictures.py
"""

import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import MONOKAI

from attn_export.exporter.report.findings.engines import engine_tables
from attn_export.exporter.report.terminal import export_summary, export_tables

DOCS = Path(__file__).parent
CHECKPOINT = DOCS.parent / "examples" / "digits" / "cbam_digits.pt"


def main() -> None:
    """Run the command on the trained CBAM network and draw its tables."""
    with tempfile.TemporaryDirectory() as folder:
        record = run("--onnx", folder)
        parts = [*export_tables(record), export_summary(record, Path(), Path("cbam_digits.report.json"))]
        draw("export", "attn-export cbam_digits.pt --onnx", parts)
        run("--engine", folder, "--precision", "fp16", "--gpu", "sm86,sm89", "--no-bench")
        engine = Path(folder, "cbam_digits.fp16.engine")
        document = json.loads(engine.with_name(f"{engine.name}.json").read_text(encoding="utf-8"))
        draw("engine", f"attn-export inspect {engine.name}", engine_tables(Path(engine.name), document))


def run(what: str, folder: str, *options: str) -> dict[str, Any]:
    """The record of one run."""
    command = [sys.executable, "-m", "attn_export.cli", str(CHECKPOINT), what, "--json", "--out", folder, *options]
    record: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return record


def draw(name: str, command: str, parts: Iterable[Any]) -> None:
    """One picture of a terminal."""
    console = Console(record=True, width=96, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(f"[bold green]$[/] {command}\n")
    for part in parts:
        console.print(part)
    svg = console.export_svg(title="attn-export", theme=MONOKAI)
    (DOCS / "pictures" / f"{name}.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
