"""TorchScript archives: weights as data, and with ``--trust`` the program, which PyTorch's converter translates."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attn_export.exporter.artifacts import Input
from attn_export.exporter.checkpoint.inert import Inert, refuse_attacks
from attn_export.exporter.checkpoint.pickles.files import PickleReader
from attn_export.exporter.checkpoint.state_dict import DEEPEST, MOST_MODULES
from attn_export.exporter.errors import InputError, first_line
from attn_export.exporter.system.quiet import quiet

if TYPE_CHECKING:
    import torch
    from torch import nn

# PyTorch's exporter takes a batch of one for a constant.
EXAMPLE_BATCH = 2


def read_script(path: Path) -> dict[str, "torch.Tensor"]:
    """The weights, buffers and other tensors of a program's modules; a frozen program has none with names.

    Raises:
        UntrustedCheckpointError: it names what only an attack would use.
        Exception: of many types, see `PickleReader`.
    """
    reader = PickleReader()
    try:
        with path.open("rb") as stream:
            content = reader.read(stream, path.stat().st_size)
    finally:
        refuse_attacks(path, list(reader.names))
    return dict(_tensors(content, "", DEEPEST, iter(range(MOST_MODULES))))


def _tensors(module: Any, prefix: str, depth: int, visits: Iterator[int]) -> Iterator[tuple[str, "torch.Tensor"]]:
    """The tensors among the attributes of a module and those in it, unless it contains itself."""
    import torch

    state = module.state if isinstance(module, Inert) else None
    if not isinstance(state, dict) or depth == 0 or next(visits, None) is None:
        return
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value
        else:
            yield from _tensors(value, f"{prefix}{name}.", depth - 1, visits)


def translated(path: Path, inputs: Sequence[Input]) -> "nn.Module":
    """The program as a module that PyTorch's exporter captures. PyTorch compiles and runs it.

    Raises:
        InputError: PyTorch can't load it, or the converter not translate it for these inputs.
    """
    import torch
    from torch._export.converter import TS2EPConverter

    from attn_export.exporter.checkpoint.exported.read import read_network

    example = tuple(
        torch.zeros(taken.with_batch(EXAMPLE_BATCH).shape, dtype=getattr(torch, taken.dtype)) for taken in inputs
    )
    try:
        with quiet(), torch.no_grad():
            script = torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-untyped-call]
            torch.export.save(TS2EPConverter(script, example).convert(), stream := BytesIO())
        return read_network(stream, len(stream.getvalue()))[0]
    except Exception as error:
        raise InputError(
            f"{path} is a TorchScript archive, and PyTorch can't translate it: {first_line(error)}",
            hint="Export the network it was made of: torch.export.save(torch.export.export(model, (image,)), "
            "'model.pt2'). If --input isn't what it takes, correct it.",
        ) from error
