"""Pictures of the command line, as a terminal shows it.

    python docs/pictures/terminal.py docs/pictures/export.svg 'cbam_digits.pt --onnx'

runs ``attn-export cbam_digits.pt --onnx`` in a folder that holds the trained networks of examples/digits and their
plan, and after it any further commands. `make pictures` draws those of the README.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 118


def outputs(folder: str, commands: Sequence[str]) -> Iterator[str]:
    """What each command prints, run in a folder that gets the networks of examples/digits and their plan."""
    for file in (ROOT / "examples" / "digits").glob("*"):
        if file.suffix in (".pt", ".toml"):
            shutil.copy(file, folder)
    for command in commands:
        yield subprocess.run(
            [sys.executable, "-m", "attn_export.cli", *shlex.split(command), "--quiet"],
            cwd=folder,
            env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "TERM": "xterm-256color"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout


def main() -> None:
    """Run the commands and draw what they print."""
    picture, commands = Path(sys.argv[1]).resolve(), sys.argv[2:]
    text = Text()
    with tempfile.TemporaryDirectory() as folder:
        for command, printed in zip(commands, outputs(folder, commands), strict=True):
            text.append_text(Text.assemble(("$", "bold green"), f" attn-export {command}\n\n"))
            text.append_text(Text.from_ansi(printed.rstrip()))
            text.append("\n\n")
    console = Console(width=min(WIDTH, max(map(len, text.plain.splitlines())) + 1), record=True, file=StringIO())
    console.print(text)
    svg = console.export_svg(title="attn-export")
    # Without another site's font: a page that shows the picture asks nobody for it.
    picture.write_text(re.sub(r'(local\("[^"]*"\)),\s*url\([^;]*;', r"\1;", svg), encoding="utf-8")


if __name__ == "__main__":
    main()
