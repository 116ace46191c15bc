"""Networks of torch.export's programs (.pt2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import INPUT_NAME, Input
from attn_export.exporter.errors import InputError, UntrustedCheckpointError, first_line
from attn_export.exporter.system.quiet import quiet

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Program:
    """The network of a program of torch.export.

    Attributes:
        module: it keeps the modules of the original, by whose paths gates are matched.
        inputs: as it was exported with them.
        fixed_batch: whether it was exported for one batch size.
        keywords: the names of those that it takes by keyword.
        trusted: whether PyTorch loaded it, evaluating parts of it.
    """

    module: "nn.Module"
    inputs: tuple[Input, ...]
    fixed_batch: bool
    keywords: tuple[str, ...] = ()
    trusted: bool = False


def read_program(path: Path, *, trust: bool) -> Program:
    """The network, read as data; where that can't be, and with ``trust``, by PyTorch.

    Raises:
        UntrustedCheckpointError: it holds something else than data.
        InputError: it was exported for training.
        Exception: of many types, it is damaged.
    """
    from attn_export.exporter.checkpoint.exported.read import read_network
    from attn_export.exporter.checkpoint.exported.unsafe import Unsafe, Unusable

    try:
        with path.open("rb") as stream:
            return Program(*read_network(stream, path.stat().st_size))
    except Unusable as reason:
        raise InputError(f"{path} is a program of torch.export that {reason}", hint=reason.hint) from reason
    except Unsafe as reason:
        if trust:
            return _loaded_by_torch(path)
        raise UntrustedCheckpointError(
            f"{path} is a program of torch.export that isn't read as data alone: {reason}. Nothing was run",
            names=(),
            hint="--trust loads it with PyTorch, which runs what stands in it, if you know who made it. Or save the "
            "weights alone, torch.save(model.state_dict(), 'model.pt').",
        ) from reason


def _loaded_by_torch(path: Path) -> Program:
    import torch

    from attn_export.exporter.checkpoint.exported.unsafe import OTHER_VERSION

    try:
        with quiet():
            program = torch.export.load(path)
            module = torch.export.unflatten(program)
    except Exception as error:  # code of the file's, and damage of every kind
        raise InputError(
            f"{path} is a program of torch.export that PyTorch {torch.__version__} can't load: {first_line(error)}",
            hint=OTHER_VERSION,
        ) from error
    _, keywords = program.example_inputs or ((), {})
    return Program(module, tuple(_inputs(program)), not program.range_constraints, tuple(keywords), trusted=True)


def _inputs(program: "torch.export.ExportedProgram") -> Iterator[Input]:
    args, kwargs = program.example_inputs or ((), {})
    names = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    tensors = [*args, *kwargs.values()]
    for name, tensor in zip(names, tensors, strict=True):
        yield Input(INPUT_NAME if len(names) == 1 else name, tuple(tensor.shape), str(tensor.dtype).rpartition(".")[2])


def check_program(program: Program, path: Path) -> None:
    """Check that the program is one that can be exported again.

    Raises:
        InputError: it takes inputs by keyword, or its weights aren't float32.
    """
    if program.keywords:
        raise InputError(
            f"{path} is a program of torch.export that takes {', '.join(program.keywords)} by keyword",
            hint="Export it again with positional arguments: torch.export.export(model, (image, meta)).",
        )
    types = {str(t.dtype).rpartition(".")[2] for t in program.module.state_dict().values() if t.is_floating_point()}
    if others := sorted(types - {"float32"}):
        raise InputError(
            f"{path} is a program of torch.export that computes in {', '.join(others)}; expected is float32",
            hint="Export it again in float32: model.float(). Other precisions are made from it.",
        )


def in_order(said: Sequence[Input], own: Sequence[Input], path: Path) -> Sequence[Input]:
    """The inputs that were named, in the order that the program takes; its own if none was.

    Raises:
        InputError: they have other names than the program's.
    """
    if not said or (len(said) == len(own) == 1 and said[0].name == own[0].name):
        return said or own
    given = {taken.name: taken for taken in said}
    if set(given) != {taken.name for taken in own}:
        raise InputError(
            f"{path} takes {', '.join(taken.name for taken in own)}, and --input names {', '.join(given)}",
            hint="Leave --input out: the program says its inputs.",
        )
    return [given[taken.name] for taken in own]


def program_note(program: Program, path: Path) -> str:
    """What the program is, and what it fixes."""
    shapes = " ".join("x".join(map(str, taken.shape)) for taken in program.inputs)
    trusted = ", loaded by PyTorch as requested by --trust" if program.trusted else ""
    fixed = (
        f"; where its batch is fixed in a shape, --static --input {shapes} exports it" if program.fixed_batch else ""
    )
    return f"{path} is a program of torch.export for {shapes}{trusted}{fixed}"
