"""Creates checkpoints of new networks, optionally with the weights of a trained backbone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from attn_export.exporter.artifacts import names_network
from attn_export.exporter.checkpoint import fit, state_dict
from attn_export.exporter.checkpoint.container import no_weights, read
from attn_export.exporter.checkpoint.equipped import EquippedNetwork
from attn_export.exporter.checkpoint.equipped import save as save_equipped
from attn_export.exporter.checkpoint.format import save
from attn_export.exporter.checkpoint.hosts import Host, build_host
from attn_export.exporter.checkpoint.strict import filled
from attn_export.exporter.checkpoint.structure import OPTIONAL, shapes_of
from attn_export.exporter.errors import StateDictMismatchError, UsageError
from attn_export.models.complexity import count_parameters
from attn_export.models.equip import Equipment, attention_of
from attn_export.models.registry import ATTENTIONS, Architecture, architecture, create, create_network


def create_checkpoint(
    path: Path, name: str, *, weights: Path | None = None, seed: int = 0, **arguments: Any
) -> dict[str, Any]:
    """Build the network called ``name``, write its checkpoint, and say in plain values what was made.

    ``weights`` are a state dict of the backbone; missing tensors keep their random values.

    Raises:
        UsageError: the name or an argument is wrong.
        StateDictMismatchError: the weights belong to another backbone.
        OutputError: the file can't be written.
    """
    try:
        arch = architecture(name, **arguments)
        network = create(name, seed=seed, **arguments)
    except ValueError as error:
        raise UsageError(str(error), hint="`attn-export models` lists what can be built.") from error
    notes = load_backbone(network, arch, weights) if weights is not None else ()
    save(path, network, arch)
    return {
        "path": str(path),
        "architecture": {"name": arch.name, **arch.to_dict()},
        "parameters": count_parameters(network),
        "notes": list(notes),
    }


def create_named(
    path: Path,
    name: str,
    attention: str,
    where: str | tuple[str, ...],
    *,
    num_classes: int | None,
    in_channels: int,
    reduction: int | None,
    kernel_size: int,
    weights: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Build a network by its name, put attention into it, write its checkpoint, and say in plain values what was made.

    ``weights`` are a state dict of the host; of a host of the zoo, a classifier of another width stays random.

    Raises:
        UsageError: the library refuses the name or an argument, or the attention fits nowhere.
        RuntimeUnavailableError: torchvision or timm isn't installed.
        StateDictMismatchError: the weights belong to another network.
        OutputError: the file can't be written.
    """
    try:
        equipment = Equipment(attention, where, reduction, kernel_size)
        host: Host | Architecture = (
            Host(name, num_classes, in_channels)
            if names_network(name)
            else architecture(name, num_classes=num_classes, in_channels=in_channels)
        )
    except ValueError as error:
        raise UsageError(str(error), hint="`attn-export models` lists what can be built.") from error
    notes: tuple[str, ...] = ()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(host, Host):
            module, size = build_host(host), 224
        else:
            module, size = create_network(host, seed), host.input_shape[1]
        if weights is not None and isinstance(host, Host):
            found = state_dict.find(read(weights).content)
            if found is None:
                raise no_weights(weights)
            module = filled(module, found[0], host.name, str(weights))
        elif weights is not None and isinstance(host, Architecture):
            notes = load_backbone(module, host, weights)
        network = EquippedNetwork(host, equipment, (host.in_channels, size, size))
        try:
            network.equip(module)
        except ValueError as error:
            hint = "--where takes stage, block, last, or the paths of submodules."
            raise UsageError(f"{host.name}: {error}", hint=hint) from error
    save_equipped(path, module, network)
    return {
        "path": str(path),
        "architecture": {"name": network.name, **network.to_dict()},
        "parameters": count_parameters(module),
        "attention": list(attention_of(module)),
        "notes": list(notes),
    }


def load_backbone(network: torch.nn.Module, arch: Architecture, path: Path) -> tuple[str, ...]:
    """Copy the backbone's weights into ``network``, and note what was left out.

    Attention, and a classifier of another width, keep theirs.

    Raises:
        UnreadableCheckpointError, UntrustedCheckpointError: see `container.read`.
        StateDictMismatchError: a tensor outside attention and classifier is missing, unknown or of another shape.
    """
    found = state_dict.find(read(path).content)
    if found is None:
        raise no_weights(path)
    weights, _ = found
    current = network.state_dict()
    attention = attention_names(arch)
    classifier = list(current)[-2:]  # weight and bias of the last layer
    other_classes = [n for n in classifier if n in weights and weights[n].shape[0] != current[n].shape[0]]
    taken = {n: t for n, t in weights.items() if n in current and current[n].shape == t.shape}
    missing = [n for n in current if n not in weights and n not in attention and not n.endswith(OPTIONAL)]
    unexpected = [n for n in weights if n not in current and n not in attention]
    misshapen = [n for n in weights if n in current and n not in taken and n not in other_classes]
    if missing or unexpected or misshapen:
        nearest = fit.nearest(weights)
        raise StateDictMismatchError(
            f"{path} doesn't fit the backbone of {arch.name}. missing: {len(missing)} {missing[:3]}, unexpected: "
            f"{len(unexpected)} {unexpected[:3]}, of another shape: {len(misshapen)} {misshapen[:3]}",
            missing=missing,
            unexpected=unexpected,
            misshapen=misshapen,
            nearest=nearest.architecture.name if nearest else None,
            hint=f"The nearest architecture is {nearest.architecture.name}."
            if nearest
            else "The names resemble no network of the zoo.",
        )
    network.load_state_dict({**current, **taken})
    notes = []
    if fresh := [n for n in current if n not in taken and n in attention]:
        notes.append(f"{len(fresh)} tensors of the attention blocks are not in {path}: they are random, train them")
    if other_classes:
        notes.append(f"the classifier of {path} has another number of classes: it is random, train it")
    if dropped := [n for n in weights if n not in current]:
        notes.append(f"{len(dropped)} tensors of another attention in {path} were left out")
    return tuple(notes)


def attention_names(arch: Architecture) -> set[str]:
    """The names of attention tensors, in every form that this backbone supports."""
    plain = set(shapes_of(arch.plain))
    return {n for a in ATTENTIONS for n in shapes_of(replace(arch, attention=a))} - plain
