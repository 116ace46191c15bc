"""Imports one module and writes facts about it to a file. A program, run by `libraries` in a separate process.

The answer goes to a file because libraries print while they are imported.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def facts_of(name: str) -> dict[str, Any]:
    """The module's facts; raises the errors of its import."""
    module: Any = importlib.import_module(name)
    facts: dict[str, Any] = {"version": str(getattr(module, "__version__", "")) or None}
    if name == "torch":
        facts["cuda"] = module.version.cuda
        facts["usable"] = bool(module.cuda.is_available())
    elif name == "onnxruntime":
        facts["providers"] = list(module.get_available_providers())
    elif name == "tensorrt_rtx":
        facts["architectures"] = [n.lower() for n in module.ComputeCapability.__members__ if n.startswith("SM")]
    elif name == "attn_export.exporter.system.gpus":
        facts["survey"] = importlib.import_module("msgspec").to_builtins(module.survey())
    return facts


def answer(name: str) -> dict[str, Any]:
    """The facts; or the error's class, its first line, and the module that is missing."""
    try:
        return facts_of(name)
    except BaseException as error:  # noqa: BLE001 (there are libraries that exit)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        return {"error": type(error).__name__, "message": lines[0][:300] if lines else "", "missing": missing}


if __name__ == "__main__":
    place, wanted, *search_path = sys.argv[1:]
    sys.path[:] = search_path
    Path(place).write_text(json.dumps(answer(wanted)), encoding="utf-8")
