"""One small trained-looking network, and the folder that it is saved into."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attn_export.models.registry import architecture, create

ARCH = architecture("cbam_resnet8", num_classes=3, in_channels=1, reduction=4, kernel_size=3)


@pytest.fixture(scope="session")
def arch():
    return ARCH


@pytest.fixture(scope="session")
def network():
    """Its BatchNorm statistics and weights are all different from what an empty network has."""
    return create("cbam_resnet8", num_classes=3, in_channels=1, reduction=4, kernel_size=3, seed=5).requires_grad_(
        False
    )


@pytest.fixture
def weights(network) -> dict[str, torch.Tensor]:
    return dict(network.state_dict())


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """``write(content)`` saves it as torch does, in the zip format or, with ``legacy``, in the one before."""

    def write_checkpoint(content: Any, *, legacy: bool = False, protocol: int = 2) -> Path:
        path = tmp_path / "model.pt"
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
        return path

    return write_checkpoint


class Trap:
    """Pickles into a call of ``function(*arguments)``, as an attack does."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.fixture
def marker(tmp_path) -> Path:
    """A file that exists if, and only if, a trap went off."""
    return tmp_path / "the trap went off"


@pytest.fixture
def traps(marker) -> dict[str, Trap]:
    """Several ways to have a command run while a pickle is read, by the global that each names."""
    import builtins
    import runpy
    import subprocess

    script = marker.with_name("script.py")
    script.write_text(f"open({str(marker)!r}, 'w')")
    return {
        f"{os.system.__module__}.system": Trap(os.system, f"touch '{marker}'"),
        "builtins.eval": Trap(builtins.eval, f"open({str(marker)!r}, 'w')"),
        "builtins.exec": Trap(builtins.exec, f"open({str(marker)!r}, 'w')"),
        "subprocess.Popen": Trap(subprocess.Popen, ["touch", str(marker)]),
        "runpy.run_path": Trap(runpy.run_path, str(script)),
    }
