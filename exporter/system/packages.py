"""Versions of what is installed, read without importing it."""

from importlib.metadata import PackageNotFoundError, version

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
