"""The inputs of a network: what was said of them, and what its ``forward`` takes."""

import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from attn_export.exporter.artifacts import INPUT_NAME, INPUT_TYPES, Input
from attn_export.exporter.errors import InputError, UsageError

VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def declared(module: nn.Module, said: Sequence[Input]) -> tuple[Input, ...]:
    """The inputs in the order of ``forward``'s parameters, with N = 1; the only one may be called otherwise.

    Raises:
        InputError: ``forward`` has no such parameter or needs more, or they have different N or an unknown type.
    """
    parameters = _parameters(module)
    names = [parameter.name for parameter in parameters if parameter.kind not in VARIABLE]
    if len(said) == 1 and said[0].name == INPUT_NAME:
        _refuse_missing(module, parameters, names[:1])
        called = names[0] if INPUT_NAME in names[1:] else INPUT_NAME
        return (replace(_checked(said[0]), name=called).with_batch(1),)
    given = {taken.name: _checked(taken) for taken in said}
    if len(given) < len(said):
        twice = next(taken.name for taken in said if [other.name for other in said].count(taken.name) > 1)
        raise InputError(f"the input {twice!r} is given twice", hint="Give each once.")
    if len(names) == len(parameters) and names:
        _refuse_unknown(module, names, list(given))
    _refuse_missing(module, parameters, list(given))
    if len(batches := {taken.shape[0] for taken in said}) > 1:
        shown = ", ".join(f"{taken.name} {'x'.join(map(str, taken.shape))}" for taken in said)
        raise InputError(
            f"the inputs are of batches of {' and '.join(map(str, sorted(batches)))} ({shown})",
            hint="The first size of every input is N, the same of all.",
        )
    order = [name for name in names if name in given] or list(given)
    return tuple(given[name].with_batch(1) for name in order)


def left_out(module: nn.Module, inputs: Sequence[Input]) -> tuple[str, ...]:
    """A note for each argument of ``forward`` that has a default, which is what the exported network computes with."""
    parameters = _parameters(module)
    given = {taken.name for taken in inputs}
    if not given & {parameter.name for parameter in parameters}:
        parameters = parameters[1:]
    return tuple(
        f"forward's argument {p.name!r} is left out: the network is exported with its default, {p.default!r}"
        for p in parameters
        if p.default is not p.empty and p.name not in given
    )


def ranged(inputs: Sequence[Input], ranges: Mapping[str, tuple[float, float]]) -> tuple[Input, ...]:
    """The inputs with the ranges of their values, by name; "" is the only input.

    Raises:
        UsageError: there is no such input, or its type can't hold the range.
    """
    for name, (low, high) in ranges.items():
        if name not in [taken.name for taken in inputs] and not (name == "" and len(inputs) == 1):
            known = ", ".join(taken.name for taken in inputs)
            raise UsageError(
                f"--range {name}={low:g}..{high:g}: no input is called {name!r}", hint=f"Known are {known}."
            )
    return tuple(
        _with_range(taken, ranges.get(taken.name, ranges.get("") if len(inputs) == 1 else None)) for taken in inputs
    )


def _with_range(taken: Input, limits: tuple[float, float] | None) -> Input:
    if limits is None:
        return taken
    low, high = limits
    if taken.dtype != "float32" and not (low.is_integer() and high.is_integer()):
        raise UsageError(f"--range {low:g}..{high:g}: {taken.name} holds {taken.dtype}", hint="Give whole numbers.")
    bounds = {"uint8": (0, 255), "int8": (-128, 127), "bool": (0, 1)}.get(taken.dtype)
    if bounds and not bounds[0] <= low <= high <= bounds[1]:
        raise UsageError(
            f"--range {low:g}..{high:g}: {taken.name} is {taken.dtype}", hint=f"It holds {bounds[0]} to {bounds[1]}."
        )
    return replace(taken, range=limits)


def _checked(taken: Input) -> Input:
    if taken.dtype not in INPUT_TYPES:
        raise InputError(
            f"the input {taken.name!r} is {taken.dtype}, which not every runtime takes",
            hint=f"Known are {', '.join(INPUT_TYPES)}.",
        )
    if not taken.shape or min(taken.shape) < 1:
        raise InputError(
            f"the input {taken.name!r} has the shape {taken.shape}", hint="Its first size is N, and each is at least 1."
        )
    return taken


def _refuse_unknown(module: nn.Module, names: Sequence[str], given: Sequence[str]) -> None:
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            meant = f"Did you mean {near[0]}? " if near else ""
            raise InputError(
                f"{type(module).__name__} has no input {name!r}",
                hint=f"{meant}Its forward takes {', '.join(names) or 'nothing'}.",
            )


def _refuse_missing(module: nn.Module, parameters: Sequence[inspect.Parameter], given: Sequence[str]) -> None:
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in VARIABLE]
    if missing := [name for name in needed if name not in given]:
        shapes = " ".join(f"--input {name}={'1x3x224x224' if i == 0 else '1x4'}" for i, name in enumerate(needed))
        raise InputError(
            f"{type(module).__name__} takes {len(needed)} inputs ({', '.join(needed)}), and nothing says the shape of "
            f"{', '.join(missing)}",
            hint=f"Name each: {shapes}; in Python inputs=[Input({needed[0]!r}, (1, 3, 224, 224)), ...].",
        )


def _parameters(module: nn.Module) -> list[inspect.Parameter]:
    """What ``forward`` takes; nothing where that isn't known, as of a compiled function."""
    try:
        return list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        return []
