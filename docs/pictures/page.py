"""Pictures of pages, as Chromium shows them.

    python docs/pictures/page.py docs/pictures/sweep.png 1100x900 plan.sweep/results.html 'sweep plan.toml'

runs the commands like terminal.py, and draws the top of a page that they wrote: so many pixels wide and high.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from terminal import outputs


def main() -> None:
    """Run the commands and draw the page."""
    picture, size, page, *commands = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        for _ in outputs(folder, commands):
            pass
        drawn, window = f"--screenshot={Path(picture).resolve()}", f"--window-size={size.replace('x', ',')}"
        options = ("--headless", "--no-sandbox", "--hide-scrollbars", drawn, window)
        subprocess.run(["chromium", *options, (Path(folder) / page).as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main()
