"""Versions of what is installed, read without importing it."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from attn_export.exporter.errors import RuntimeUnavailableError

PACKAGES = ("attn-export", "torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy")


def versions() -> dict[str, str]:
    """Installed versions of what decides the result, without importing any of it."""
    return {package: installed(package) or "not installed" for package in PACKAGES}


def installed(*packages: str) -> str | None:
    """The version of the first of these distributions that is installed."""
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None


def refuse_absent(extra: str) -> None:
    """Check that a library is installed which is an extra of the same name.

    Raises:
        RuntimeUnavailableError: it isn't.
    """
    try:
        found = find_spec(extra) is not None
    except ValueError:  # of a module that somebody made
        found = True
    if not found:
        raise RuntimeUnavailableError(f"{extra} is not installed", hint=f"pip install 'attn-export[{extra}]'")
