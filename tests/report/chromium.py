"""Chromium without a window: what a page becomes in a browser, measured by a script that only a copy of it has."""

import functools
import html as entities
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --hide-scrollbars --disable-background-networking "
    "--disable-component-update --disable-sync --disable-quic --disable-extensions --mute-audio"
).split()
MISSING = "Chromium isn't here; Debian and Ubuntu have it as `apt install chromium`, others as Google Chrome"
NARROWEST = 500  # a window can't be narrower, a frame in it can
LOADED = 4000  # milliseconds of the page's own clock
# Chromium's own notes about the machine it runs on, and no page's.
CONSOLE = re.compile(r":CONSOLE[:(].*")
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
MEASURED = re.compile(r'<pre id="measured">(.*?)</pre>', re.DOTALL)


@functools.cache
def browser() -> str | None:
    """The command that starts it, None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def measure(page: str, script: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> Any:
    """What the script's function returns in the page, and nothing in the console.

    Args:
        page: as it is written; the copy lacks its policy against scripts and has this one.
        script: the body of a function that returns what JSON can hold.
        width: of the window, in CSS pixels.
        height: of the window.
        dark: the reader prefers dark pages.
    """
    added = (
        "<script>window.addEventListener('load', () => { const found = (() => {"
        + script
        + "})(); const home = window.parent.document, place = home.createElement('pre'); place.id = 'measured'; "
        + "place.textContent = JSON.stringify(found); home.body.appendChild(place); });</script>"
    )
    copy = POLICY.sub("", page).replace("</body>", f"{added}</body>")
    if width < NARROWEST:
        frame = f'<iframe style="width:{width}px;height:{height}px;border:0" srcdoc="{entities.escape(copy)}"></iframe>'
        copy = f"<!doctype html><meta charset='utf-8'><body>{frame}</body>"
    done = run(copy, f"--window-size={width},{height}", "--dump-dom", dark=dark)
    assert not CONSOLE.findall(done.stderr), CONSOLE.findall(done.stderr)
    found = MEASURED.search(done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(entities.unescape(found[1]))


def dom(page: str) -> str:
    """The page after it was loaded as it is, its policy against scripts included, and nothing in the console."""
    done = run(page, "--dump-dom")
    assert not CONSOLE.findall(done.stderr), CONSOLE.findall(done.stderr)
    return done.stdout


def run(page: str, *options: str, dark: bool = False) -> "subprocess.CompletedProcess[str]":
    """Load a page in a browser with a profile of its own."""
    command = browser()
    assert command is not None
    with tempfile.TemporaryDirectory(prefix="chromium") as folder:
        path = Path(folder, "page.html")
        path.write_text(page, encoding="utf-8")
        own = [
            f"--user-data-dir={folder}/profile",
            f"--virtual-time-budget={LOADED}",
            "--enable-logging=stderr",
            "--v=0",
        ]
        scheme = ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
        return subprocess.run(
            [command, *FLAGS, *own, *scheme, *options, path.as_uri()],
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
