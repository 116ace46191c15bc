"""Loads a network from a file."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attn_export.exporter.artifacts import LoadedModel
from attn_export.exporter.checkpoint import fit, state_dict
from attn_export.exporter.checkpoint import format as own_format
from attn_export.exporter.checkpoint.container import Payload, needs_code, no_weights, read
from attn_export.exporter.checkpoint.inert import Inert, listed
from attn_export.exporter.checkpoint.live import describe, network_of
from attn_export.exporter.errors import InputError, UnknownArchitectureError, UsageError
from attn_export.exporter.system.files import sha256_of
from attn_export.models.registry import Architecture, skeleton


def load(
    path: Path | str,
    *,
    arch: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    trust: bool = False,
) -> LoadedModel:
    """Read a checkpoint: the project's, a state dict (bare or in the usual wrappers), or a pickled module.

    Args:
        path: the file.
        arch: the architecture's name, for a file without one; where one fits all names and shapes, it isn't needed.
        input_shape: (C, H, W), for a file without one, or to override it.
        trust: allow running the file's code.

    Raises:
        InputError: ``path`` is no path.
        UnreadableCheckpointError, UntrustedCheckpointError: see `container.read`.
        UnknownArchitectureError: a state dict without ``arch`` that fits no network of the zoo.
        StateDictMismatchError: the weights belong to another network.
        NonFiniteWeightsError: weights are NaN or infinite.
        UsageError: ``arch`` is unknown, contradicts the file, or the input shape is unknown.
    """
    if not isinstance(path, str | Path):
        raise wanted_a_path(path)
    path = Path(path)
    payload = read(path, trust=trust)
    notes = []
    if payload.not_run:
        notes.append(f"the file names {listed(payload.not_run)}: not imported, not run")
    if trust and arch is None and isinstance(module := _unwrapped(payload.content), nn.Module):
        return _trusted_module(module, path, input_shape)
    if own_format.is_ours(payload.content):
        description, weights = own_format.parse(payload.content, path)
        own = description.architecture
        if arch not in (None, own.name):
            raise UsageError(f"{path} is a {own.name}, --arch says {arch}", hint="Leave --arch out.")
        architecture = own
        shape: tuple[int, ...] = input_shape or description.input_shape
        normalization, class_names = description.normalization, description.class_names
    else:
        found = state_dict.find(payload.content)
        if found is None:
            raise needs_code(path, payload.not_run) if payload.not_run else no_weights(path)
        weights, how = found
        notes.extend(how)
        architecture = _described(arch, weights, path, payload)
        notes.append(f"{_how(arch, architecture)} {_arguments(architecture)}")
        shape = input_shape or architecture.input_shape
        normalization = class_names = None
    others = {state_dict.name_of_dtype(t) for t in weights.values() if t.is_floating_point()} - {"float32"}
    if others:
        notes.append(f"the weights are {', '.join(sorted(others))} in the file; they run as float32")
    weights = state_dict.usable(weights, str(path))
    fit.check(architecture, weights)
    if len(shape) != len(architecture.input_shape):
        raise UsageError(
            f"--input is Nx{'x'.join(map(str, shape))}, and {architecture.name} takes (C, H, W)",
            hint=f"For example --input 1x{'x'.join(map(str, architecture.input_shape))}.",
        )
    if shape[0] != architecture.in_channels:
        raise UsageError(
            f"the input has {shape[0]} channels, {architecture.name} takes {architecture.in_channels}",
            hint=f"For example --input 1x{'x'.join(map(str, architecture.input_shape))}.",
        )
    return LoadedModel(
        module=_assemble(architecture, weights),
        input_shape=tuple(shape),
        sha256=sha256_of(path),
        path=path,
        architecture=architecture,
        normalization=normalization,
        class_names=class_names,
        notes=tuple(notes),
    )


def from_module(
    module: nn.Module, input_shape: tuple[int, ...], architecture: Architecture | None = None
) -> LoadedModel:
    """A live module without the wrappers of parallel and compiled training; its hash is that of its weights.

    Raises:
        InputError: it is no module, or takes more than one input; see `live.network_of`.
        NonFiniteWeightsError: weights are NaN or infinite.
        UsageError: weights aren't float32, or not on the CPU.
    """
    module, notes = network_of(module)
    weights = {
        name: tensor.detach() for name, tensor in module.state_dict().items() if isinstance(tensor, torch.Tensor)
    }
    for name, tensor in weights.items():
        if tensor.device.type not in ("cpu", "meta"):
            raise UsageError(f"the module's {name} is on {tensor.device}", hint="Pass module.cpu().")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise UsageError(
                f"the module's {name} is {state_dict.name_of_dtype(tensor)}; expected is float32",
                hint="Pass module.float(). Other precisions are made from the float32 network.",
            )
    state_dict.usable(weights, type(module).__name__)
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return LoadedModel(
        module=module,
        input_shape=input_shape,
        sha256=digest.hexdigest(),
        architecture=architecture,
        notes=notes,
    )


def model_of(given: Any, input_shape: tuple[int, ...] | None = None) -> LoadedModel:
    """The network behind what a caller from Python passes: a `LoadedModel`, the path of a checkpoint, or a module.

    Args:
        given: one of these.
        input_shape: (C, H, W); instead of what a file or `LoadedModel` says.

    Raises:
        InputError: it is something else, or a module without an input shape; the message says what to pass.
        AttnExportError: as `load` and `from_module` say.
    """
    if isinstance(given, LoadedModel):
        return replace(given, input_shape=input_shape) if input_shape else given
    if isinstance(given, str | Path):
        return load(given, input_shape=input_shape)
    if input_shape is None and isinstance(given, nn.Module):
        raise InputError(
            f"a {type(given).__name__} was passed, which doesn't say its input shape",
            hint="Pass what load(path) returns, or use export(module, input_shape=(1, 3, 224, 224)), which validates "
            "and times what it writes.",
        )
    return from_module(given, input_shape or ())


def shape_of(given: Any) -> tuple[int, ...]:
    """(N, C, H, W), or another shape of a batch, as a caller from Python passes it: also an example of the input.

    Raises:
        InputError: it is something else; the message says what.
    """
    hint = "Pass the shape of the one input: input_shape=(1, 3, 224, 224)."
    if isinstance(given, torch.Tensor):
        return tuple(given.shape)
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise InputError(f"input_shape is {given!r}", hint=hint)
    sizes = tuple(given)
    if sizes and all(isinstance(size, Iterable) for size in sizes):
        raise InputError(
            f"input_shape holds {len(sizes)} shapes, and networks with one input are exported",
            hint="Wrap the network in a module that takes one tensor, and pass its shape: (1, 3, 224, 224).",
        )
    if len(sizes) < 2 or not all(isinstance(size, Integral) and not isinstance(size, bool) for size in sizes):
        raise InputError(f"input_shape is {sizes!r}", hint=hint)
    if min(sizes) < 1:
        raise InputError(f"input_shape is {sizes!r}: a size is smaller than 1", hint=hint)
    return tuple(int(size) for size in sizes)


def wanted_a_path(given: Any) -> InputError:
    """The error for something that was passed instead of a path."""
    if isinstance(given, nn.Module):
        return InputError(
            f"expected is the path of a checkpoint, and a {type(given).__name__} was passed",
            hint="A live module needs no file: export(module, input_shape=(1, 3, 224, 224)).",
        )
    described, hint = describe(given)
    return InputError(f"expected is the path of a checkpoint, and {described} was passed", hint=hint)


def _described(arch: str | None, weights: state_dict.StateDict, path: Path, payload: Payload) -> Architecture:
    """The network that was named, or the one that fits; an error with what helps where none does."""
    if arch is not None:
        return fit.infer_arguments(arch, weights)
    best = fit.nearest(weights)
    if best is not None and not best.differences:
        return fit.infer_arguments(best.name, weights)
    hint = fit.way_out(best)
    if own := class_of(payload):
        hint = (
            f"--trust --input 1x3x224x224 runs the file's code and exports the {own} as it is; its code has to be "
            "importable here. Or pass the live module to export(module, ...) in Python."
        )
    raise UnknownArchitectureError(
        f"{path} is {_what(payload)} with {len(weights)} tensors and doesn't say of which network",
        nearest=best.name if best else None,
        hint=hint,
    )


def class_of(payload: Payload) -> str:
    """The class of the whole module that a file holds, imported or not; empty for one that holds weights alone."""
    content = _unwrapped(payload.content)
    return type(content).__name__ if isinstance(content, Inert | nn.Module) else ""


def _what(payload: Payload) -> str:
    if own := class_of(payload):
        return f"a whole pickled module of class {own}"
    content = payload.content
    if isinstance(content, Mapping) and "pytorch-lightning_version" in content:
        return "a Lightning checkpoint"
    wrapped = isinstance(content, Mapping) and any(isinstance(content.get(key), Mapping) for key in state_dict.WRAPPERS)
    return "a training checkpoint" if wrapped else "a state dict"


def _how(asked: str | None, found: Architecture) -> str:
    return "read from the weights' shapes:" if asked else f"the names and shapes are those of {found.name} with"


def _arguments(arch: Architecture) -> str:
    text = f"{arch.num_classes} classes, {arch.in_channels} input channels"
    if arch.attention != "none":
        text += f", reduction {arch.reduction}"
    return text + (f", spatial kernel {arch.kernel_size}" if arch.attention == "cbam" else "")


def _assemble(arch: Architecture, weights: state_dict.StateDict) -> nn.Module:
    """The network with the file's tensors, without copying them."""
    network = skeleton(arch)
    full = {
        name: torch.zeros(tensor.shape, dtype=tensor.dtype) if name.endswith(fit.OPTIONAL) else torch.empty(0)
        for name, tensor in network.state_dict().items()
    }
    for name, tensor in weights.items():
        if name in full:
            full[name] = tensor.contiguous()
    network.load_state_dict(full, assign=True)
    return network.requires_grad_(False).eval()


def _unwrapped(content: Any) -> Any:
    if isinstance(content, Mapping):
        return next(
            (content[key] for key in state_dict.WRAPPERS if isinstance(content.get(key), nn.Module | Inert)), content
        )
    return content


def _trusted_module(module: nn.Module, path: Path, input_shape: tuple[int, ...] | None) -> LoadedModel:
    if input_shape is None:
        raise UsageError(f"{path} is a whole module and doesn't say its input shape", hint="Add --input 1x3x224x224.")
    module = module.float().requires_grad_(False).eval()
    model = from_module(module, input_shape)
    note = f"{model.name} was unpickled with the code that it names, as requested by --trust"
    return replace(model, sha256=sha256_of(path), path=path, notes=(note, *model.notes))
