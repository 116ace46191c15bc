"""Loads a network from a file."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attn_export.exporter.artifacts import Input, LoadedModel, LoadOptions, names_network, only_input
from attn_export.exporter.checkpoint import entries, equipped, named, state_dict, user_code, zoo
from attn_export.exporter.checkpoint import format as own_format
from attn_export.exporter.checkpoint.container import Payload, needs_code, no_weights, quantized, read
from attn_export.exporter.checkpoint.folded import folded
from attn_export.exporter.checkpoint.inert import Inert, listed
from attn_export.exporter.checkpoint.inputs import declared, ranged
from attn_export.exporter.checkpoint.live import from_module, wanted_a_path
from attn_export.exporter.checkpoint.program import Program, check_program, in_order, program_note
from attn_export.exporter.checkpoint.strict import differences, filled, fitting_part
from attn_export.exporter.checkpoint.torchscript import translated
from attn_export.exporter.checkpoint.usual_input import usual_input
from attn_export.exporter.errors import (
    InputError,
    UnknownArchitectureError,
    UnreadableCheckpointError,
    UntrustedCheckpointError,
    UsageError,
)
from attn_export.exporter.system.files import sha256_of

# Where torch.ao has its int8 layers.
QUANTIZED = ("torch.ao.nn.quantized.", "torch.ao.nn.intrinsic.quantized.")


def load(
    path: Path | str,
    *,
    arch: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    inputs: Sequence[Input] = (),
    code: Path | str | None = None,
    factory: str | None = None,
    kwargs: Mapping[str, Any] | None = None,
    trust: bool = False,
    weights: Path | str | None = None,
    key: str | None = None,
) -> LoadedModel:
    """Read a network from a file of any kind in docs/checkpoints.md, or build one of timm or torchvision by its name.

    Args:
        path: the file, or ``timm:NAME`` or ``torchvision:NAME``.
        arch: the architecture's name, for a file without one; where one fits all names and shapes, it isn't needed.
            One of timm or torchvision will do.
        input_shape: (C, H, W) of the only input, for a file without one, or to override it.
        inputs: instead, with N: several, or one of another type.
        code: folder or file of the user's sources, which are imported.
        factory: ``module:function`` in these sources, which builds the network.
        kwargs: of the factory, or of timm's or torchvision's function.
        trust: allow running the file's code.
        weights: the file of a network that is named; without one its weights are random.
        key: the entry of a training checkpoint to take, such as ``ema`` or ``model``.

    Raises:
        InputError: ``path`` is no path; the user's code fails.
        UnreadableCheckpointError, UntrustedCheckpointError: see `container.read`.
        UnknownArchitectureError: a state dict without ``arch`` that fits no network of the zoo.
        StateDictMismatchError: the weights belong to another network.
        NonFiniteWeightsError: weights are NaN or infinite.
        UsageError: ``arch`` is unknown, contradicts the file, or the input shape is unknown.
        RuntimeUnavailableError: timm or torchvision isn't installed.
    """
    return load_with(
        path,
        LoadOptions(
            arch=arch,
            inputs=tuple(inputs) or (only_input(tuple(input_shape)) if input_shape else ()),
            code=Path(code) if code is not None else None,
            factory=factory,
            kwargs=kwargs or {},
            trust=trust,
            weights=Path(weights) if weights is not None else None,
            key=key,
        ),
    )


def load_with(source: Path | str, options: LoadOptions) -> LoadedModel:
    """`load` with its options as one value."""
    if not isinstance(source, str | Path):
        raise wanted_a_path(source)
    if names_network(source):
        return _of_a_name(str(source), options)
    if options.weights is not None:
        raise UsageError(
            f"--weights {options.weights} is for a network that is named, and {source} is a file",
            hint="For example attn-export timm:seresnet50 --weights model.pt --onnx.",
        )
    path = Path(source)
    sources = user_code.open_sources(options.code) if options.code else None
    payload = read(path, trust=options.trust, sources=sources)
    if any(name.startswith(QUANTIZED) for name in payload.not_run):
        raise quantized(path)
    if options.key is not None:
        content, asked = entries.chosen(payload.content, options.key, path)
    else:
        content, asked = entries.only(payload.content)
    model = _network_in(replace(payload, content=content), sources, path, options)
    not_run = (f"the file names {listed(payload.not_run)}: not imported, not run",) if payload.not_run else ()
    inputs = ranged(model.inputs, options.ranges)
    return replace(
        model, inputs=inputs, path=path, sha256=_hash_of(payload.files), notes=(*not_run, *asked, *model.notes)
    )


def _hash_of(files: Sequence[Path]) -> str:
    """Of a file; of several, that of their hashes."""
    hashes = [sha256_of(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _network_in(payload: Payload, sources: user_code.Sources | None, path: Path, options: LoadOptions) -> LoadedModel:
    """The network that a file holds, or that its weights are for."""
    if isinstance(payload.content, Program):
        return _of_program(payload.content, path, options)
    if options.factory is not None:
        return _built_by_factory(payload, path, options, options.factory)
    if options.arch is not None and names_network(options.arch):
        return _of_a_library(payload, path, options, options.arch)
    return _network_of(payload, sources, path, options)


def _network_of(payload: Payload, sources: user_code.Sources | None, path: Path, options: LoadOptions) -> LoadedModel:
    """The network that nothing but the file says."""
    if options.arch is None and (module := zoo.module_in(payload.content, nn.Module)) is not None:
        return _pickled(module, payload, path, options)
    if sources is not None and (absent := zoo.module_in(payload.content, Inert)) is not None:
        raise _lacking(f"a {absent.full_name}, which", payload, path, options)
    if equipped.is_equipped(payload.content):
        model = equipped.load(payload.content, path)
        return replace(model, inputs=declared(model.module, options.inputs)) if options.inputs else model
    if own_format.is_ours(payload.content):
        return _described_by_itself(payload, path, options)
    if payload.is_script and options.arch is None:
        return _of_script(payload, path, options)
    return _of_the_zoo(payload, path, options)


def _of_a_name(name: str, options: LoadOptions) -> LoadedModel:
    """A network of timm or torchvision, with the weights of a file or random ones."""
    if options.arch is not None or options.factory is not None:
        raise UsageError(f"{name} is a network, --arch and --factory name another", hint="Leave them out.")
    if options.weights is not None:
        return load_with(options.weights, replace(options, arch=name, weights=None))
    note = f"the weights of {name} are random (seed {named.SEED}), nothing is downloaded: --weights FILE takes yours"
    model = _with_facts(named.untrained(name, options.kwargs), options)
    return replace(model, inputs=ranged(model.inputs, options.ranges), notes=(note, *model.notes))


def _of_a_library(payload: Payload, path: Path, options: LoadOptions, name: str) -> LoadedModel:
    """Weights of a network of timm or torchvision."""
    weights, notes = _weights_in(payload, path)
    model = _with_facts(named.trained(name, weights, options.kwargs, str(path)), options)
    return replace(model, notes=(*notes, *_types(weights), *model.notes))


def _with_facts(network: LoadedModel, options: LoadOptions) -> LoadedModel:
    """The network for the inputs that are named, for its library's, or for usual ones."""
    model = _with_input(network.module, network.name, replace(options, inputs=options.inputs or network.inputs))
    return replace(network, inputs=model.inputs, sha256=model.sha256, notes=(*network.notes, *model.notes))


def _built_by_factory(payload: Payload, path: Path, options: LoadOptions, factory: str) -> LoadedModel:
    """The network that the user's code builds, with the file's weights."""
    network = user_code.build(factory, options.kwargs, options.code)
    weights, notes = _weights_of(network, payload, path)
    model = _with_input(filled(network, weights, factory, str(path)), factory, options)
    return replace(model, notes=(f"{factory} built the network", *notes, *_types(weights), *model.notes))


def _pickled(module: nn.Module, payload: Payload, path: Path, options: LoadOptions) -> LoadedModel:
    """A module that was unpickled whole, with the user's code or with whatever the file names."""
    if payload.not_run and (absent := zoo.inert_parts(module)):
        raise _lacking(f"a {type(module).__name__} with {listed(absent)} in it, which", payload, path, options)
    if any(type(part).__module__.startswith(QUANTIZED) for part in module.modules()):
        raise quantized(path)
    try:
        types = _types(module.state_dict())
    except RecursionError as error:
        raise UnreadableCheckpointError(
            f"{path} holds a module that contains itself", hint="Save its weights: model.state_dict()."
        ) from error
    model = _with_input(module.float().requires_grad_(False).eval(), str(path), options)
    code = "the code that it names, as requested by --trust" if options.trust else f"{options.code or 'torch'} alone"
    return replace(model, notes=(f"{model.name} was unpickled with {code}", *types, *model.notes))


def _of_program(program: Program, path: Path, options: LoadOptions) -> LoadedModel:
    """The network of a torch.export archive, for the inputs that it was exported with."""
    check_program(program, path)
    module = program.module.requires_grad_(False)
    model = from_module(module, in_order(options.inputs, program.inputs, path))
    return replace(model, notes=(program_note(program, path), *model.notes))


def _of_script(payload: Payload, path: Path, options: LoadOptions) -> LoadedModel:
    """A TorchScript archive: the network of the zoo that its weights are of; else, if it is trusted, its program."""
    otherwise = ""
    try:
        if payload.content:
            return _of_the_zoo(payload, path, options)
    except UnknownArchitectureError as error:
        otherwise = f"{error.hint} Or "
    if not options.trust:
        raise UntrustedCheckpointError(
            f"{path} is a TorchScript archive, its {len(payload.content)} tensors are of no network of the zoo, and "
            "PyTorch compiles its program to load it. Nothing was run",
            names=(),
            hint=f"{otherwise}--trust --input 1x3x224x224 exports the program, if you know who made it.",
        )
    if not options.inputs:
        raise UsageError(f"{path} is a TorchScript archive and doesn't say its input", hint="Add --input 1x3x224x224.")
    module = translated(path, options.inputs).float().requires_grad_(False)
    note = f"the program of {path} was translated from TorchScript by PyTorch, as requested by --trust"
    model = from_module(module, options.inputs)
    return replace(model, notes=(note, *model.notes))


def _lacking(what: str, payload: Payload, path: Path, options: LoadOptions) -> UntrustedCheckpointError:
    return UntrustedCheckpointError(
        f"{path} holds {what} --code {options.code} lacks. Nothing else was run",
        names=payload.not_run,
        hint="Name the folder or the file that defines it. If you know who made the file, --trust runs whatever it "
        "names, with the code in the current folder.",
    )


def _described_by_itself(payload: Payload, path: Path, options: LoadOptions) -> LoadedModel:
    """A checkpoint of this project."""
    description, weights = own_format.parse(payload.content, path)
    if options.arch not in (None, description.architecture.name):
        raise UsageError(
            f"{path} is a {description.architecture.name}, --arch says {options.arch}", hint="Leave --arch out."
        )
    network = zoo.assembled(description.architecture, weights, str(path))
    return LoadedModel(
        module=network,
        inputs=zoo.checked_inputs(network, description.architecture, options.inputs, description.input_shape),
        sha256="",
        architecture=description.architecture,
        normalization=description.normalization,
        class_names=description.class_names,
        notes=_types(weights),
    )


def _of_the_zoo(payload: Payload, path: Path, options: LoadOptions) -> LoadedModel:
    """Weights without a description, of a network that this project has."""
    weights, notes = _weights_in(payload, path)
    weights, parts = folded(weights)
    reading, which = zoo.found_in(options.arch, weights, path, payload)
    architecture = reading.architecture
    network = zoo.assembled(architecture, reading.weights, str(path))
    return LoadedModel(
        module=network,
        inputs=zoo.checked_inputs(network, architecture, options.inputs, architecture.input_shape),
        sha256="",
        architecture=architecture,
        notes=(*notes, *parts, *which, *zoo.said(options.arch, reading), *_types(reading.weights)),
    )


def _weights_in(payload: Payload, path: Path) -> tuple[state_dict.StateDict, tuple[str, ...]]:
    """The state dict in a file, and how it was found."""
    found = state_dict.find(payload.content)
    if found is None:
        keys = entries.keys(payload.content)
        raise (
            needs_code(path, payload.not_run)
            if payload.not_run and not keys
            else no_weights(path, keys, entries.instead(payload.content))
        )
    if any(name.endswith(".zero_point") for name in found[0]):
        raise quantized(path)
    return found


def _weights_of(network: nn.Module, payload: Payload, path: Path) -> tuple[state_dict.StateDict, tuple[str, ...]]:
    """The state dict in a file that fits a network, and how it was found; one that doesn't fit where none does."""
    for found in (state_dict.find(payload.content), *entries.state_dicts(payload.content)):
        if found is not None:
            weights, which = fitting_part(network, found[0])
            if not differences(network, weights):
                return weights, (*found[1], *which)
    return _weights_in(payload, path)


def _types(weights: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """A note on weights of another type than float32."""
    others = {state_dict.name_of_dtype(t) for t in weights.values() if t.is_floating_point()} - {"float32"}
    return (f"the weights are {', '.join(sorted(others))} in the file; they run as float32",) if others else ()


def _with_input(module: nn.Module, origin: str, options: LoadOptions) -> LoadedModel:
    """A module of the user's, with the shape that was named or a usual one."""
    model = from_module(module, options.inputs)
    if options.inputs:
        return model
    shape = usual_input(model.module, origin)
    said = "x".join(map(str, (1, *shape)))
    note = f"{said} is the first usual input that the network runs on; --input says another"
    return replace(model, inputs=only_input(shape), notes=(*model.notes, note))


def model_of(given: Any, inputs: Sequence[Input] = ()) -> LoadedModel:
    """The network behind what a caller from Python passes: a `LoadedModel`, the path of a checkpoint, or a module.

    ``inputs``, with N, count instead of what a file or `LoadedModel` says.

    Raises:
        InputError: it is something else, or a module without inputs; the message says what to pass.
        AttnExportError: as `load` and `from_module` say.
    """
    if isinstance(given, LoadedModel):
        return replace(given, inputs=declared(given.module, inputs)) if inputs else given
    if isinstance(given, str | Path):
        return load(given, inputs=inputs)
    if not inputs and isinstance(given, nn.Module):
        raise InputError(
            f"a {type(given).__name__} was passed, which doesn't say its input shape",
            hint="Pass what load(path) returns, or use export(module, input_shape=(1, 3, 224, 224)), which validates "
            "and times what it writes.",
        )
    return from_module(given, inputs)
