"""The libraries that attn-export can use, each really imported, in a process of its own.

So one that crashes, exits, hangs or prints takes nobody with it, and all of them are imported at the same time.
"""

import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attn_export.exporter.system.packages import installed
from attn_export.exporter.system.process import ask

CHILD = Path(__file__).with_name("child.py")
# All take 3 seconds together where the disk is warm; torch alone takes 20 from a Jetson's memory card.
SECONDS = 30.0


@dataclass(frozen=True)
class Wanted:
    """A library to look for.

    Attributes:
        name: that users know.
        module: that is imported.
        gives: what it is for.
        distributions: that may bring the module, besides ``name``.
    """

    name: str
    module: str
    gives: str
    distributions: tuple[str, ...] = ()


WANTED = (
    Wanted("torch", "torch", "reads checkpoints, captures networks, is the reference"),
    Wanted("onnx", "onnx", "checks ONNX files"),
    Wanted("onnx-ir", "onnx_ir", "holds the graph"),
    Wanted("onnxscript", "onnxscript", "rewrites the graph"),
    Wanted("onnxruntime", "onnxruntime", "proves and times ONNX files", ("onnxruntime-gpu",)),
    Wanted("tensorrt-rtx", "tensorrt_rtx", "builds engines for RTX GPUs, without a GPU, and runs them"),
    Wanted("tensorrt", "tensorrt", "builds and runs engines on this machine's own GPU, a Jetson's too"),
)


@dataclass(frozen=True)
class Library:
    """What was found of one library.

    Attributes:
        wanted: which.
        version: None where it isn't installed, or doesn't say.
        trouble: why it can't be used, in words; empty where it can.
        installed: whether it is there at all.
        facts: what else it says: torch's ``cuda`` and ``usable``, onnxruntime's ``providers``, tensorrt-rtx's
            ``architectures``.
    """

    wanted: Wanted
    version: str | None
    trouble: str = ""
    installed: bool = True
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def works(self) -> bool:
        """Whether its import succeeded."""
        return not self.trouble

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.wanted.name,
            "module": self.wanted.module,
            "installed": self.installed,
            "works": self.works,
            "version": self.version,
            "trouble": self.trouble or None,
            **self.facts,
        }


def look_for(wanted: Wanted) -> Library:
    """Import it elsewhere, and say what came of it."""
    version = installed(wanted.name, *wanted.distributions)
    told = import_elsewhere(wanted.module)
    if "error" not in told:
        return Library(wanted, told.pop("version", None) or version, facts=told)
    if told.get("missing") == wanted.module:
        # The distribution may be there all the same: a package that only points at others.
        return Library(wanted, version, "its module isn't there" if version else "not installed", bool(version))
    return Library(wanted, version, f"can't be imported: {in_words(told)}")


def import_elsewhere(module: str) -> dict[str, Any]:
    """What the child wrote down; ``error`` and ``message`` are of the import, or of the child's own end."""
    with tempfile.TemporaryDirectory(prefix="attn-export-") as folder:
        place = Path(folder) / "answer.json"
        try:
            # Isolated, and with this process's own search path: what is found is what this process would find.
            ended = ask([sys.executable, "-I", str(CHILD), str(place), module, *sys.path], SECONDS)
        except OSError as error:
            return {"error": "OSError", "message": f"no second Python can be started: {error.strerror or error}"}
        if ended is None:
            return {"error": "", "message": f"its import had not finished after {SECONDS:.0f} s"}
        try:
            told: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            how = f"by signal {-ended.code}" if ended.code < 0 else f"with exit code {ended.code}"
            return {"error": "", "message": f"its import ends Python {how}"}
        return told


def in_words(told: dict[str, Any]) -> str:
    """An import's error in one line."""
    if missing := told.get("missing"):
        return f"there is no module {missing}"
    if told["error"] in ("", "ImportError", "OSError") and told["message"]:
        return str(told["message"])  # these are sentences
    return f"{told['error']}: {told['message']}" if told["message"] else str(told["error"])
