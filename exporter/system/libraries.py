"""The libraries that attn-export can use, each imported in a separate process, in parallel.

A library that crashes, exits, hangs or prints does no harm there.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attn_export.exporter.system.packages import installed

CHILD = Path(__file__).with_name("child.py")
# All take 3 seconds together with a warm disk cache; torch alone takes 20 from a Jetson's memory card.
SECONDS, SECONDS_TO_DIE = 30.0, 0.5


@dataclass(frozen=True)
class Wanted:
    """A library to look for.

    Attributes:
        name: of the distribution.
        distributions: others that bring the module.
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
    Wanted("tensorrt", "tensorrt", "builds and runs engines on this machine's GPU, a Jetson's too"),
)


@dataclass(frozen=True)
class Library:
    """The state of one library.

    Attributes:
        version: None where it isn't installed, or has none.
        trouble: why it can't be used; empty where it can.
        installed: whether the distribution is there.
        facts: torch's ``cuda`` and ``usable``, onnxruntime's ``providers``, tensorrt-rtx's ``architectures``.
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
    """Import the library in a separate process and report the result."""
    version = installed(wanted.name, *wanted.distributions)
    answer = import_isolated(wanted.module)
    if "error" not in answer:
        return Library(wanted, answer.pop("version", None) or version, facts=answer)
    if answer.get("missing") == wanted.module:
        # The distribution may exist nevertheless, as a package that only depends on others.
        return Library(wanted, version, "its module isn't there" if version else "not installed", bool(version))
    return Library(wanted, version, f"can't be imported: {error_text(answer)}")


def import_isolated(module: str) -> dict[str, Any]:
    """The facts about a module, see `child`; or ``error`` and ``message``, of the import or of the child's end."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "answer.json"
        # Isolated, but with this process's search path: it finds what this process would find.
        command = [sys.executable, "-I", str(CHILD), str(place), module, *sys.path]
        try:
            code = _exit_code(command)
        except OSError as error:
            return {"error": "OSError", "message": f"no second Python can be started: {error.strerror or error}"}
        if code is None:
            return {"error": "", "message": f"it had not finished after {SECONDS:.0f} s"}
        try:
            answer: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            return {"error": "", "message": f"it ends Python {how}"}
        return answer


def _exit_code(command: Sequence[str]) -> int | None:
    """The program's exit code; None if it was killed after `SECONDS`."""
    none = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=none, stdout=none, stderr=none)  # noqa: S603 (no words of a user)
    try:
        return process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        return None
    finally:
        process.kill()  # does nothing where it has ended
        with suppress(subprocess.TimeoutExpired):  # a process that hangs in a driver can't be killed
            process.wait(SECONDS_TO_DIE)


def error_text(answer: dict[str, Any]) -> str:
    """An import's error in one line."""
    if missing := answer.get("missing"):
        return f"there is no module {missing}"
    if answer["error"] in ("", "ImportError", "OSError") and answer["message"]:
        return str(answer["message"])  # these are sentences
    return f"{answer['error']}: {answer['message']}" if answer["message"] else str(answer["error"])
