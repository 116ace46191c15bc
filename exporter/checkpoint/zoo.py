"""Networks of the zoo, from weights that don't describe themselves."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from attn_export.exporter.artifacts import LIBRARIES, Input, only_input
from attn_export.exporter.checkpoint import fit, state_dict
from attn_export.exporter.checkpoint.container import Payload
from attn_export.exporter.checkpoint.inert import Inert
from attn_export.exporter.checkpoint.inputs import declared
from attn_export.exporter.checkpoint.live import WRAPPERS
from attn_export.exporter.checkpoint.structure import OPTIONAL
from attn_export.exporter.errors import UnknownArchitectureError, UsageError
from attn_export.models.registry import Architecture, names, skeleton


def found_in(
    arch: str | None, weights: state_dict.StateDict, path: Path, payload: Payload
) -> tuple[fit.Reading, tuple[str, ...]]:
    """The network in a state dict, which may be one of several side by side, and a note on which it is.

    Raises:
        UnknownArchitectureError: as `described`; or two networks of one size fit.
    """
    try:
        reading = described(arch, weights, path, payload)
        if not reading.differences:
            return reading, ()
    except UnknownArchitectureError:
        fitting = _fitting_groups(arch, weights, path, payload)
        if not fitting:
            raise
    else:
        fitting = _fitting_groups(arch, weights, path, payload)
        if not fitting:
            return reading, ()
    # The largest first, and of those of one size the averaged weights.
    ordered = sorted(fitting, key=lambda entry: (-_size(entry[1]), entry[0] not in state_dict.AVERAGED))
    (prefix, reading), *others = ordered
    equals = [name for name, other in others if _size(other) == _size(reading)]
    if equals and prefix not in state_dict.AVERAGED:
        raise UnknownArchitectureError(
            f"{path} holds {len(equals) + 1} networks that fit: {' and '.join((prefix, *equals))}",
            nearest=reading.architecture.name,
            hint=f"--checkpoint-key {prefix} takes the first.",
        )
    rest = f"{len(weights) - _size(reading)} other tensors of the file are left out"
    choice = f": --checkpoint-key {equals[0]} takes those under {equals[0]!r}" if equals else ""
    return reading, (f"the network is that under {prefix!r}; {rest}{choice}",)


def _size(reading: fit.Reading) -> int:
    return len(reading.weights)


def _fitting_groups(
    arch: str | None, weights: state_dict.StateDict, path: Path, payload: Payload
) -> list[tuple[str, fit.Reading]]:
    found = []
    for prefix, part in state_dict.groups(weights):
        with suppress(UnknownArchitectureError):
            reading = described(arch, part, path, payload)
            if not reading.differences:
                found.append((prefix, reading))
    return found


def described(arch: str | None, weights: state_dict.StateDict, path: Path, payload: Payload) -> fit.Reading:
    """The network that was named, or the one that fits; an error with what helps where none or several do."""
    if arch is not None:
        return fit.named(arch, weights)
    found = fit.readings(weights)
    fitting = [reading for reading in found if not reading.differences]
    if len(fitting) == 1:
        return fitting[0]
    best = fit.nearest(weights)
    whole = module_in(payload.content, Inert)
    raise UnknownArchitectureError(
        f"{path} is {_what(payload)} with {len(weights)} tensors and doesn't say of which network",
        nearest=best.architecture.name if best else None,
        hint=_ways_to_run(whole) if whole else _choice(fitting) if fitting else fit.way_out(best, weights),
    )


def _choice(fitting: list[fit.Reading]) -> str:
    """Why none of several networks with these names and shapes is taken."""
    forms = " or ".join(f"{reading.architecture.name} with {reading.layout.assumed}" for reading in fitting)
    return f"Names and shapes are those of {forms}, and can't tell which. {fit.OWN_NETWORK}"


def _ways_to_run(module: Inert) -> str:
    """How a whole module is exported as it is: with its sources, or with whatever the file names."""
    module = _unwrapped(module)
    place, _, name = module.full_name.rpartition(".")
    library = place.partition(".")[0]
    if library in LIBRARIES:
        return (
            f"It is a network of {library}: --trust exports it as it is, --arch {library}:NAME takes its weights alone."
        )
    script = "--code FILE.py names the script that defines it" if place == "__main__" else ""
    return (
        f"{script or f'--code DIR names the folder of {place}'}, and the {name} is exported as it is. --trust runs "
        "whatever the file names instead, with the code in the current folder."
    )


def _unwrapped(module: Inert) -> Inert:
    """The network in the wrappers of parallel and averaged training."""
    inside = module.state.get("_modules") if isinstance(module.state, dict) else None
    held = inside.get(WRAPPERS.get(type(module).__name__, "")) if isinstance(inside, dict) else None
    return held if isinstance(held, Inert) else module


def checked_inputs(
    network: nn.Module, arch: Architecture, said: Sequence[Input], shape: tuple[int, ...]
) -> tuple[Input, ...]:
    """The one input of a network of the zoo: the one that was named, or else of this shape, (C, H, W).

    Raises:
        InputError: see `declared`.
        UsageError: the network takes another type or shape.
    """
    (taken,) = declared(network, said or only_input(shape))
    shape = taken.shape[1:]
    if taken.dtype != "float32":
        raise UsageError(f"--input is {taken.dtype}, and {arch.name} takes float32", hint="Leave the type out.")
    if len(shape) != len(arch.input_shape):
        raise UsageError(
            f"--input is Nx{'x'.join(map(str, shape))}, and {arch.name} takes (C, H, W)",
            hint=f"For example --input 1x{'x'.join(map(str, arch.input_shape))}.",
        )
    if shape[0] != arch.in_channels:
        raise UsageError(
            f"the input has {shape[0]} channels, {arch.name} takes {arch.in_channels}",
            hint=f"For example --input 1x{'x'.join(map(str, arch.input_shape))}.",
        )
    return (taken,)


def _what(payload: Payload) -> str:
    content = payload.content
    for kind in (nn.Module, Inert):
        if (own := module_in(content, kind)) is not None:  # type: ignore[type-var]
            return f"a whole pickled module of class {type(own).__name__}"
    if isinstance(content, Mapping) and "pytorch-lightning_version" in content:
        return "a Lightning checkpoint"
    wrapped = isinstance(content, Mapping) and any(isinstance(content.get(key), Mapping) for key in state_dict.WRAPPERS)
    return "a training checkpoint" if wrapped else "a state dict"


def said(asked: str | None, reading: fit.Reading) -> tuple[str, ...]:
    """What was inferred, and what was assumed where names and shapes don't say it."""
    arch = reading.architecture
    form = f" ({arch.form})" if arch.form else ""
    how = "read from the weights' shapes:" if asked else f"the names and shapes are those of {arch.name}{form} with"
    assumed = "; ".join(reading.assumptions)
    doubt = "names and shapes can't show it, so compare outputs, or build the network with --factory"
    known = arch.name in names()
    unseen = "attention without parameters, such as SimAM, leaves nothing in a state dict: " + (
        f"--arch simam_{arch.name} if there is some" if known else "compare outputs if there may be some"
    )
    return (
        f"{how} {_arguments(arch)}",
        *([f"assumed: {assumed}; {doubt}"] if assumed else []),
        *([unseen] if asked is None and arch.attention == "none" else []),
    )


def _arguments(arch: Architecture) -> str:
    text = f"width {arch.width}, " if arch.width != 1 else ""
    text += f"{arch.num_classes} classes, {arch.in_channels} input channels"
    if arch.attention != "none":
        text += f", reduction {arch.reduction}"
    text += f" rounded to multiples of {arch.divisor}" if arch.divisor > 1 else ""
    text += ", biases" if arch.bias else ""
    return text + (f", spatial kernel {arch.kernel_size}" if arch.attention == "cbam" else "")


def assembled(arch: Architecture, weights: state_dict.StateDict, origin: str) -> nn.Module:
    """The network with the file's tensors, without copying those of float32.

    Raises:
        StateDictMismatchError, NonFiniteWeightsError, UnreadableCheckpointError: they don't fit, or can't be used.
    """
    weights = state_dict.usable(weights, origin)
    fit.check(arch, weights)
    network = skeleton(arch)
    full = {
        name: torch.zeros(tensor.shape, dtype=tensor.dtype) if name.endswith(OPTIONAL) else torch.empty(0)
        for name, tensor in network.state_dict().items()
    }
    for name, tensor in weights.items():
        if name in full:
            full[name] = tensor.contiguous()
    network.load_state_dict(full, assign=True)
    return network.requires_grad_(False).eval()


Module = TypeVar("Module", nn.Module, Inert)


def module_in(content: Any, kind: type[Module]) -> Module | None:
    """The whole module in a file, imported or not, also under a usual name; None where there is none of this kind."""
    held = [content.get(key) for key in state_dict.WRAPPERS] if isinstance(content, Mapping) else [content]
    return next((value for value in held if isinstance(value, kind)), None)


def inert_parts(module: nn.Module) -> list[str]:
    """What a module and its parts hold of classes that were not imported."""
    held = vars(module)
    values = [*held.values(), *held["_modules"].values()]
    found = [type(value).__name__ for value in values if isinstance(value, Inert)]
    deeper = [name for part in held["_modules"].values() if isinstance(part, nn.Module) for name in inert_parts(part)]
    return list(dict.fromkeys((*found, *deeper)))
