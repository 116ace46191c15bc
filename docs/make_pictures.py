"""Takes the pictures of the report in docs/pictures again, with Chromium, from a real run.

attn-export create cbam_resnet18 -o cbam_resnet18.pt
attn-export cbam_resnet18.pt --onnx --precision fp32,fp16 --out build --seconds 30 --threads 1
python docs/make_pictures.py build/cbam_resnet18.report.json
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

from attn_export.exporter.report.charts.card import render_card
from attn_export.exporter.report.page.render import render
from attn_export.exporter.report.read import read_report

PICTURES_OF_DOCS = Path(__file__).parent / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --hide-scrollbars --disable-background-networking".split()
)
COLOURS = 256  # of a palette


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        name: of its file, behind ``report``.
        shown: the only section in it; all if empty.
        width: of the window, in CSS pixels.
        height: that is kept, from the top.
        dark: for readers who prefer dark pages.
        opened: with everything that is folded.
    """

    name: str
    shown: str = ""
    width: int = 1180
    height: int = 1000
    dark: bool = False
    opened: bool = False


PICTURES = (
    Picture(""),
    Picture("-dark", dark=True),
    Picture("-phone", width=400, height=900),
    Picture("-gates", "gates", height=900),
    Picture("-graph", "graph", height=900, opened=True),
    Picture("-latency", "latency", height=640),
    Picture("-attention", "attention", height=520),
    Picture("-error", "error", height=680),
)


def main() -> None:
    """Take every picture of the report that is named on the command line."""
    report = read_report(Path(sys.argv[1]))
    page = render(report)
    for picture in PICTURES:
        draw(page, picture)
    (PICTURES_OF_DOCS / "card.png").write_bytes(render_card(report))


def draw(page: str, picture: Picture) -> None:
    """One picture, as ``report<name>.png``."""
    hidden = f"header, nav, footer, main > :not(:has(> #{picture.shown}))"
    only = f"<style>{hidden} {{ display: none !important }} details.section {{ border: 0 !important }}</style>"
    copy = page.replace("</head>", f"{only if picture.shown else ''}</head>")
    if picture.shown:
        copy = copy.replace('<details class="section">', '<details class="section" open>')
    if picture.opened:
        copy = copy.replace('<details class="more">', '<details class="more" open>')
    if picture.width < 500:  # a window can't be narrower, a frame in it can
        inside = html.escape(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", copy))
        frame = (
            f'<iframe style="width:{picture.width}px;height:{picture.height}px;border:0" srcdoc="{inside}"></iframe>'
        )
        copy = f"<!doctype html><body style='margin:0'>{frame}</body>"
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    target = PICTURES_OF_DOCS / f"report{picture.name}.png"
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
