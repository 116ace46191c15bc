"""Makes docs/pictures/export.svg from a real run of the command.

python docs/make_pictures.py
"""

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from attn_export.exporter.report.terminal import export_summary, export_tables

DOCS = Path(__file__).parent
CHECKPOINT = DOCS.parent / "examples" / "digits" / "cbam_digits.pt"


def main() -> None:
    """Run the command on the trained CBAM network and draw its tables."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "attn_export.cli", str(CHECKPOINT), "--onnx", "--json", "--out", folder]
        record = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    console = Console(record=True, width=96, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print("[bold green]$[/] attn-export cbam_digits.pt --onnx\n")
    for part in export_tables(record):
        console.print(part)
    console.print(export_summary(record, Path("cbam_digits.onnx"), Path("cbam_digits.report.json")))
    svg = console.export_svg(title="attn-export", theme=MONOKAI)
    (DOCS / "pictures" / "export.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
