"""Pictures of the command line, as a terminal shows it.

    python docs/pictures/terminal.py docs/pictures/export.svg 'cbam_digits.pt --onnx'

runs ``attn-export cbam_digits.pt --onnx`` in a folder that holds the trained networks of examples/digits, their plan,
images to calibrate on (``digits.npy``) and labelled ones (``held_out.npz``), and after it any further commands.
`make pictures` draws those of the README.
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

import numpy as np
from rich.console import Console
from rich.text import Text

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
WIDTH = 118


def save_images(folder: Path) -> None:
    """Images of the training part, and of the held-out part with their labels."""
    sys.path.insert(0, str(DIGITS))
    import digits

    training, held_out = digits.load()
    normalization = digits.normalization_of(training)
    np.save(folder / "digits.npy", training.inputs(normalization)[:64].numpy())
    images, labels = held_out.inputs(normalization)[:100].numpy(), held_out.labels[:100].numpy()
    np.savez(folder / "held_out.npz", images=images, labels=labels)


def outputs(folder: str, commands: Sequence[str]) -> Iterator[str]:
    """What each command prints, run in a folder that gets the networks of examples/digits and their plan."""
    for file in DIGITS.glob("*"):
        if file.suffix in (".pt", ".toml"):
            shutil.copy(file, folder)
    save_images(Path(folder))
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
