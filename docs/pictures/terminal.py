"""Pictures of the command line, as a terminal shows it.

    python docs/pictures/terminal.py docs/pictures/export.svg cbam_digits.pt --onnx

runs ``attn-export cbam_digits.pt --onnx`` in an empty folder that holds the trained networks of examples/digits.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 118


def main() -> None:
    """Run the command and draw what it prints."""
    picture, arguments = Path(sys.argv[1]).resolve(), sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        for checkpoint in (ROOT / "examples" / "digits").glob("*.pt"):
            shutil.copy(checkpoint, folder)
        done = subprocess.run(
            [sys.executable, "-m", "attn_export.cli", *arguments, "--quiet"],
            cwd=folder,
            env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "TERM": "xterm-256color"},
            capture_output=True,
            text=True,
            check=True,
        )
    text = Text.assemble(("$", "bold green"), f" attn-export {' '.join(arguments)}\n\n", Text.from_ansi(done.stdout))
    console = Console(width=min(WIDTH, max(map(len, text.plain.splitlines())) + 1), record=True, file=StringIO())
    console.print(text)
    svg = console.export_svg(title="attn-export")
    # Without another site's font: a page that shows the picture asks nobody for it.
    picture.write_text(re.sub(r'(local\("[^"]*"\)),\s*url\([^;]*;', r"\1;", svg), encoding="utf-8")


if __name__ == "__main__":
    main()
