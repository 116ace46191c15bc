"""Makes the pictures of the report in docs/pictures from a report's page, with Chromium.

attn-export model.pt --onnx --precision fp32,fp16 --report report.html
python docs/pictures/report.py report.html
"""

import html
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --hide-scrollbars --disable-background-networking".split()
)
COLOURS = 128  # of a palette; text and charts need no more


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        name: of its file, behind ``report``.
        shown: what of the page is in it, as a CSS selector of children of <main>; all if empty.
        width: of the window, in CSS pixels.
        height: that is kept, from the top; all of it if 0.
        dark: for readers who prefer dark pages.
        extra: style that is added.
    """

    name: str
    shown: str = ""
    width: int = 1180
    height: int = 0
    dark: bool = False
    extra: str = ""


PICTURES = (
    Picture("", height=1020),
    Picture("-dark", height=1020, dark=True),
    Picture("-error", "#error", height=620),
    Picture("-graph", "#graph", height=1540),
    Picture("-attention", "#attention", height=760),
    Picture("-gates", "#gates", height=1090),
    Picture("-precision", "#precision", height=560),
    Picture("-phone", width=400, height=900),
)


def main() -> None:
    """Draw every picture of the page that is named on the command line."""
    page = Path(sys.argv[1]).read_text(encoding="utf-8")
    for picture in PICTURES:
        draw(page, picture)


def draw(page: str, picture: Picture) -> None:
    """One picture, as ``report<name>.png``."""
    only = f"header, nav, footer, main > :not({picture.shown}) {{ display: none !important }}" if picture.shown else ""
    border = "main > section { border: 0 !important; margin: 0 !important; padding: 0 !important }" if only else ""
    copy = page.replace("</head>", f"<style>{only}{border}{picture.extra}</style></head>")
    if picture.width < 500:  # a window can't be narrower, a frame in it can
        inside = html.escape(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", copy))
        frame = (
            f'<iframe style="width:{picture.width}px;height:{picture.height}px;border:0" srcdoc="{inside}"></iframe>'
        )
        copy = f"<!doctype html><body style='margin:0'>{frame}</body>"
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    target = HERE / f"report{picture.name}.png"
    with tempfile.TemporaryDirectory() as folder:
        path, shot = Path(folder, "page.html"), Path(folder, "shot.png")
        path.write_text(copy, encoding="utf-8")
        size = f"--window-size={max(500, picture.width)},{picture.height}"
        scheme = f"--blink-settings=preferredColorScheme={0 if picture.dark else 1}"
        profile = f"--user-data-dir={folder}/profile"
        subprocess.run(
            [browser, *FLAGS, profile, scheme, size, f"--screenshot={shot}", path.as_uri()],
            check=True,
            capture_output=True,
        )
        with Image.open(shot) as taken:
            kept = taken.convert("RGB").crop((0, 0, picture.width, picture.height))
        kept.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"{target.name}: {kept.width}x{kept.height}, {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
