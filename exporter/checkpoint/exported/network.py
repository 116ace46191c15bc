"""A program of torch.export as a module: runs its graph node by node, in modules of the original's names.

``torch.export.unflatten`` does the same with generated source text. Names, sizes and paths of a file stay data here:
nothing is compiled, and symbolic sizes are computed from the inputs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import torch
from torch import nn

from attn_export.exporter.artifacts import Input
from attn_export.exporter.checkpoint.exported.schema import TreeSpec
from attn_export.exporter.errors import InputError, first_line

Values = dict[str, Any]


@dataclass(frozen=True)
class Ref:
    """The value of this name."""

    name: str


@dataclass(frozen=True)
class Call:
    """A call of an operator.

    Attributes:
        args: plain values, and `Ref` to others, also in lists.
        results: the name of its value, or a tuple of names; None for what nobody uses.
        last: names that nobody uses afterwards, whose memory is freed.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    results: Any
    last: tuple[str, ...] = ()

    def __call__(self, values: Values) -> None:
        """Compute and keep the results."""
        args = [_filled(value, values) for value in self.args]
        kwargs = {name: _filled(value, values) for name, value in self.kwargs.items()}
        _keep(values, self.results, self.function(*args, **kwargs))
        for name in self.last:
            values.pop(name, None)


class Part(nn.Module):
    """A module of the original: its calls, and the parts that it calls. Its values are those of the whole network."""

    def __init__(self) -> None:
        super().__init__()
        self.program_steps: tuple[Callable[[Values], Any], ...] = ()

    def child(self, name: str) -> "Part":
        """The part of this name, made where it is missing. Raises KeyError: the name is taken by something else."""
        if name not in self._modules:
            self.add_module(name, Part())
        found = self._modules[name]
        assert isinstance(found, Part)
        return found

    def forward(self, values: Values) -> None:
        """Run the calls in their order."""
        for step in self.program_steps:
            step(values)


@dataclass(frozen=True)
class Subgraph:
    """A graph in a graph, such as the part of a network under ``torch.no_grad``, as a function."""

    steps: tuple[Callable[[Values], Any], ...]
    inputs: tuple[str, ...]
    outputs: tuple[Any, ...]

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        """Compute the outputs."""
        values = dict(zip(self.inputs, args, strict=True))
        for step in self.steps:
            step(values)
        return tuple(_filled(output, values) for output in self.outputs)


@dataclass(frozen=True)
class Interface:
    """What goes into the graph and what comes out.

    Attributes:
        inputs: the names of the network's inputs.
        state: names of the graph's inputs, with the names of weights and buffers that they are.
        constants: values of inputs that aren't tensors.
        outputs: values and `Ref`, in the order of the leaves of ``structure``.
        structure: of what the network returns.
    """

    inputs: tuple[str, ...]
    state: Mapping[str, str]
    constants: Mapping[str, Any]
    outputs: tuple[Any, ...]
    structure: TreeSpec = field(default_factory=lambda: TreeSpec(None, None, []))


class ProgramNetwork(Part):
    """The network of a program; its parts and weights have the names that they had in the original."""

    def __init__(self, interface: Interface, inputs: tuple[Input, ...] = (), *, fixed: bool = False) -> None:
        super().__init__()
        self.program_interface = interface
        self.program_inputs = inputs if fixed else ()
        self.program_calls: dict[str, int] = {}

    def forward(self, *inputs: torch.Tensor) -> Any:  # type: ignore[override]
        """Compute the outputs from the inputs in their order, in the structure that the original returned.

        Raises:
            InputError: a batch of another size than the one that the program was exported for.
        """
        interface = self.program_interface
        values: Values = {name: attrgetter(full_name)(self) for name, full_name in interface.state.items()}
        values |= interface.constants
        values |= zip(interface.inputs, inputs, strict=True)
        try:
            super().forward(values)
        except RuntimeError as error:
            self._refuse_other_batch(inputs, error)
            raise
        leaves = iter([_filled(output, values) for output in interface.outputs])
        return _structured(interface.structure, leaves)

    def _refuse_other_batch(self, inputs: Sequence[torch.Tensor], error: Exception) -> None:
        own = self.program_inputs
        if any(tensor.shape[:1] != taken.shape[:1] for tensor, taken in zip(inputs, own, strict=False)):
            said = " ".join(f"--input {'' if len(own) == 1 else f'{taken.name}='}{_spelled(taken)}" for taken in own)
            raise InputError(
                f"the program of torch.export is for a batch of {own[0].shape[0]} alone: {first_line(error)}",
                hint=f"--static {said} exports it for that batch. For every batch export the network again: "
                "torch.export.export(model, (image,), dynamic_shapes=({0: torch.export.Dim('batch')},)).",
            ) from error

    def attach(self, path: str) -> Part:
        """The part that runs at a path; for a second call of the same module a new one, at ``path@1`` and so on."""
        spelled = path
        while spelled in self.program_calls:
            self.program_calls[path] += 1
            spelled = f"{path}@{self.program_calls[path]}"
        self.program_calls[spelled] = 0
        return self.part_at(spelled)

    def part_at(self, path: str) -> Part:
        """The part at a path, made where it is missing."""
        part: Part = self
        for name in path.split(".") if path else ():
            part = part.child(name)
        return part


def _spelled(taken: Input) -> str:
    """An input as ``--input`` takes it."""
    return "x".join(map(str, taken.shape)) + ("" if taken.dtype == "float32" else f":{taken.dtype}")


def references(value: Any) -> Iterator[str]:
    """The names of the values in an argument."""
    if isinstance(value, Ref):
        yield value.name
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from references(entry)


def _filled(value: Any, values: Values) -> Any:
    """An argument with the values that it refers to."""
    if isinstance(value, Ref):
        return values[value.name]
    if isinstance(value, list):
        return [_filled(entry, values) for entry in value]
    return value


def _keep(values: Values, results: Any, found: Any) -> None:
    if isinstance(results, str):
        values[results] = found
    elif isinstance(results, tuple):
        for name, value in zip(results, found, strict=True):
            _keep(values, name, value)


def _structured(spec: TreeSpec, leaves: Iterator[Any]) -> Any:
    if spec.type is None:
        return next(leaves)
    children = [_structured(child, leaves) for child in spec.children_spec]
    names = keys_of(spec)
    if names is not None:
        return dict(zip(names, children, strict=True))
    return children if spec.type == "builtins.list" else tuple(children)


def keys_of(spec: TreeSpec) -> Sequence[Any] | None:
    """The keys of a dict, and the fields of a dataclass, which becomes a dict; None for lists and tuples."""
    import msgspec

    if spec.type in ("builtins.list", "builtins.tuple") or spec.context is None:
        return None
    context = msgspec.json.decode(spec.context)
    is_dataclass = spec.type not in ("builtins.dict", "collections.OrderedDict")
    keys: list[Any] = context[0] if is_dataclass else context
    return keys
