"""Networks of timm and torchvision by their names, with random weights or with those of a file."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from attn_export.exporter.artifacts import LoadedModel, Normalization, only_input
from attn_export.exporter.checkpoint.hosts import Host, build_host, input_facts
from attn_export.exporter.checkpoint.lookup import advice
from attn_export.exporter.checkpoint.state_dict import StateDict, groups
from attn_export.exporter.checkpoint.strict import differences, filled, fitting_part
from attn_export.exporter.errors import UsageError
from attn_export.models.initialization import BRANCH_SCALE, natural_images, statistics_learned

SEED = 0


def untrained(name: str, arguments: Mapping[str, Any]) -> LoadedModel:
    """The network with random weights that are the same each time; see `_described`.

    Libraries begin training with residual branches that end in zeros, where no gate can make a difference, and with
    statistics that no image has. So weights and gains that are zero get a small value, and every BatchNorm the
    statistics of a few random images.

    Raises:
        UsageError, RuntimeUnavailableError: see `hosts.build_host`.
    """
    host = _host(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = build_host(host, arguments)
        shape, normalization = input_facts(host, network)
        _open_branches(network)
        if shape is not None and shape[1] == shape[2]:
            _learn_statistics(network, shape)
    return _described(name, network.float().requires_grad_(False), shape, normalization)


def trained(name: str, weights: StateDict, arguments: Mapping[str, Any], origin: str) -> LoadedModel:
    """The network with these weights, for as many classes and input channels as they have; see `_described`.

    Raises:
        UsageError, RuntimeUnavailableError: see `hosts.build_host`.
        StateDictMismatchError, NonFiniteWeightsError, UnreadableCheckpointError: see `strict.filled`.
    """
    host = _host(name)
    network = build_host(host, arguments)
    for part in (weights, *(part for _, part in groups(weights))):
        sized = _sized(host, network, part)
        if sized != host:
            host, network = sized, build_host(sized, arguments)
            break
    weights, notes = fitting_part(network, weights)
    hint = advice(name, weights) if differences(network, weights) else ""
    facts = input_facts(host, network)
    return replace(_described(name, filled(network, weights, name, origin, hint), *facts), notes=notes)


def _described(
    name: str, module: nn.Module, shape: tuple[int, int, int] | None, normalization: Normalization | None
) -> LoadedModel:
    """The network in eval mode with what its library says of its images; without inputs where it says no (C, H, W)."""
    inputs = only_input(shape) if shape else ()
    return LoadedModel(module, inputs, "", normalization=normalization, label=name)


def _host(name: str) -> Host:
    try:
        return Host(name)
    except ValueError as error:
        raise UsageError(str(error), hint="Names are those of the library: timm:seresnet50.") from error


def _sized(host: Host, network: nn.Module, weights: StateDict) -> Host:
    """With the classes of the last layer in ``weights`` and, in timm, the channels of the first."""
    own = {name: tensor.shape for name, tensor in network.state_dict().items() if tensor.dim() > 1}
    (first, *_, last) = own
    found = {name: weights[name].shape for name in (first, last) if name in weights}
    if len(found.get(last, ())) == len(own[last]) and found[last][0] != own[last][0]:
        host = replace(host, num_classes=found[last][0])
    if host.library == "timm" and len(found.get(first, ())) == 4 and found[first][1] != own[first][1]:
        host = replace(host, in_channels=found[first][1])
    return host


def _open_branches(network: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.endswith("bias") and not parameter.any():
                parameter.fill_(BRANCH_SCALE)


def _learn_statistics(network: nn.Module, shape: tuple[int, int, int]) -> None:
    draw = torch.Generator().manual_seed(SEED)
    with torch.no_grad(), statistics_learned(network):
        network(natural_images(shape[0], shape[1], draw))
