"""The folder of what is kept between runs: reference outputs."""

import os
from pathlib import Path

FOLDER = "ATTN_EXPORT_CACHE"
# What was used longest ago is deleted beyond.
MAX_BYTES = 2**30


def cache_folder() -> Path:
    """The folder in ``ATTN_EXPORT_CACHE``, or the user's cache folder, ``~/.cache/attn-export``."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "attn-export"
    return Path(os.environ.get(FOLDER) or usual)


def _home() -> Path:
    """The user's home. A uid that the system doesn't know has none: nothing can be kept, as in the null device."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(os.devnull)


def bytes_in(folder: Path) -> int:
    """The size of the files in a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file()) if folder.is_dir() else 0
