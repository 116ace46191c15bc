"""Loads a network from a file."""

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attn_export.exporter.artifacts import LoadedModel
from attn_export.exporter.checkpoint import fit, state_dict
from attn_export.exporter.checkpoint import format as own_format
from attn_export.exporter.checkpoint.container import needs_code, no_weights, read
from attn_export.exporter.checkpoint.inert import listed
from attn_export.exporter.errors import UnknownArchitectureError, UsageError
from attn_export.exporter.system.files import sha256_of
from attn_export.models.registry import Architecture, skeleton


def load(
    path: Path,
    *,
    arch: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    trust: bool = False,
) -> LoadedModel:
    """Read a checkpoint: the project's, a state dict (bare or in the usual wrappers), or a pickled module.

    Args:
        path: the file.
        arch: the architecture's name, for a file without one.
        input_shape: (C, H, W), for a file without one, or to override it.
        trust: allow running the file's code.

    Raises:
        UnreadableCheckpointError, UntrustedCheckpointError: see `container.read`.
        UnknownArchitectureError: a bare state dict without ``arch``.
        StateDictMismatchError: the weights belong to another network.
        NonFiniteWeightsError: weights are NaN or infinite.
        UsageError: ``arch`` is unknown, contradicts the file, or the input shape is unknown.
    """
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
        architecture = _described(arch, weights, path, payload.not_run)
        notes.append(f"read from the weights' shapes: {_arguments(architecture)}")
        shape = input_shape or architecture.input_shape
        normalization = class_names = None
    others = {state_dict.name_of_dtype(t) for t in weights.values() if t.is_floating_point()} - {"float32"}
    if others:
        notes.append(f"the weights are {', '.join(sorted(others))} in the file; they run as float32")
    weights = state_dict.usable(weights, str(path))
    fit.check(architecture, weights)
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
    """A live module, unchanged; its hash is that of its weights.

    Raises:
        NonFiniteWeightsError: weights are NaN or infinite.
    """
    weights = {
        name: tensor.detach() for name, tensor in module.state_dict().items() if isinstance(tensor, torch.Tensor)
    }
    for name, tensor in weights.items():
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
        notes=left_out_inputs(module),
    )


def left_out_inputs(module: nn.Module) -> tuple[str, ...]:
    """A note for each argument of ``forward`` with a default, which the exported network uses."""
    try:
        parameters = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):  # of a builtin or compiled function
        return ()
    return tuple(
        f"forward's argument {p.name!r} is left out: the network is exported with its default, {p.default!r}"
        for p in parameters[1:]
        if p.default is not p.empty
    )


def _described(arch: str | None, weights: state_dict.StateDict, path: Path, not_run: tuple[str, ...]) -> Architecture:
    """The named network, or an error that suggests the nearest one or ``--trust``."""
    if arch is not None:
        return fit.infer_arguments(arch, weights)
    best = fit.nearest(weights)
    if best:
        hint = f"Say it with --arch. The names fit {best} best: --arch {best}."
    elif not_run:
        own = (
            tuple(name for name in not_run if not name.startswith(("torch.", "__builtin__.", "collections.")))
            or not_run
        )
        hint = (
            f"No network of the zoo is near. If the file is a whole module of your own ({listed(own)}), --trust "
            "runs its code, which has to be importable here; or use `export(module, ...)` from Python."
        )
    else:
        hint = "No network of the zoo is near. For a network of your own use `export(module, ...)` from Python."
    raise UnknownArchitectureError(
        f"{path} holds {len(weights)} tensors and doesn't say of which network", nearest=best, hint=hint
    )


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
        return next((content[key] for key in state_dict.WRAPPERS if isinstance(content.get(key), nn.Module)), content)
    return content


def _trusted_module(module: nn.Module, path: Path, input_shape: tuple[int, ...] | None) -> LoadedModel:
    if input_shape is None:
        raise UsageError(f"{path} is a whole module and doesn't say its input shape", hint="Add --input 1x3x224x224.")
    module = module.float().requires_grad_(False).eval()
    note = f"{type(module).__name__} was unpickled with the code that it names, as requested by --trust"
    model = from_module(module, input_shape)
    return replace(model, sha256=sha256_of(path), path=path, notes=(note, *model.notes))
