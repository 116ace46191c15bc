"""Networks in files that torch.save didn't write: safetensors, programs of torch.export, TorchScript."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attn_export.exporter.artifacts import INPUT_NAME, Input
from attn_export.exporter.errors import UnreadableCheckpointError, UntrustedCheckpointError, first_line
from attn_export.exporter.system.file_kinds import EXPORTED, SAFETENSORS, TORCHSCRIPT, FileKind, kind_of
from attn_export.exporter.system.quiet import quiet

if TYPE_CHECKING:
    import torch
    from torch import nn

COPY_AGAIN = "Copy it again, and compare the sizes of the two files."


@dataclass(frozen=True)
class Program:
    """The network of a program of torch.export, its inputs, and the names of those that it takes by keyword."""

    module: "nn.Module"
    inputs: tuple[Input, ...]
    keywords: tuple[str, ...]


def read_other_format(path: Path, *, trust: bool) -> Any | None:
    """The weights or the network in such a file; None for files of other kinds.

    Args:
        path: the file.
        trust: load programs too, which PyTorch reads by evaluating parts of them.

    Returns:
        A state dict (safetensors, TorchScript), or a `Program`.

    Raises:
        UnreadableCheckpointError: the file is damaged.
        UntrustedCheckpointError: it is a program.
    """
    kind = kind_of(path)
    if kind is SAFETENSORS or (path.suffix == ".safetensors" and path.is_file()):
        return _loaded(path, SAFETENSORS, _safetensors)
    if kind not in (EXPORTED, TORCHSCRIPT):
        return None
    if not trust:
        raise UntrustedCheckpointError(
            f"{path} is {kind.name}, and PyTorch evaluates parts of it to load it. Nothing was run",
            names=(),
            hint="--trust loads it, if you know who made it. Or save the weights alone, "
            "torch.save(model.state_dict(), 'model.pt').",
        )
    return _loaded(path, kind, _program if kind is EXPORTED else _script)


def _loaded(path: Path, kind: FileKind, load: Callable[[Path], Any]) -> Any:
    try:
        return load(path)
    except Exception as error:  # of a damaged file the libraries raise a dozen types
        raise UnreadableCheckpointError(
            f"{path} is {kind.name}, truncated or damaged: {first_line(error)}", hint=COPY_AGAIN
        ) from error


def _safetensors(path: Path) -> Any:
    """https://github.com/huggingface/safetensors#format; the library checks sizes and offsets against the file."""
    from safetensors.torch import load_file

    return load_file(path)


def _program(path: Path) -> Any:
    """The network of a program with the modules of the original, by whose paths gates are matched."""
    import torch

    with quiet():
        program = torch.export.load(path)
        module = torch.export.unflatten(program)
    _, keywords = program.example_inputs or ((), {})
    return Program(module, tuple(_inputs(program)), tuple(keywords))


def _inputs(program: "torch.export.ExportedProgram") -> Iterator[Input]:
    args, kwargs = program.example_inputs or ((), {})
    names = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    tensors = [*args, *kwargs.values()]
    for name, tensor in zip(names, tensors, strict=True):
        yield Input(INPUT_NAME if len(names) == 1 else name, tuple(tensor.shape), str(tensor.dtype).rpartition(".")[2])


def _script(path: Path) -> Any:
    """The weights; PyTorch's exporter can't capture the program itself."""
    import torch

    script = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    return {name: tensor.detach() for name, tensor in script.state_dict().items()}
