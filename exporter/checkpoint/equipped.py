"""Checkpoints of networks that got attention by `equip`: which network, which attention, where, and all weights.

    {"format": "attn-export", "version": 2, "host": {"name", "num_classes", "in_channels"} or "architecture": {...},
     "equipment": {"attention", "where", "reduction", "kernel_size", "init"}, "input_shape": [C, H, W],
     "state_dict": {...}}

Plain values and tensors, so that the network is built again from names, and nothing in the file is run. Version 1 is
the format of networks that have their attention from the start, see `attn_export.exporter.checkpoint.format`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from attn_export.exporter.artifacts import LoadedModel, only_input
from attn_export.exporter.checkpoint.format import FORMAT, check_plain, checked_weights, image_shape, weights_of, write
from attn_export.exporter.checkpoint.hosts import Host, build_host
from attn_export.exporter.checkpoint.state_dict import StateDict
from attn_export.exporter.checkpoint.strict import filled
from attn_export.exporter.errors import UnreadableCheckpointError
from attn_export.models.equip import Equipment, apply
from attn_export.models.registry import LARGEST_WIDTH, Architecture, build

VERSION = 2


@dataclass(frozen=True)
class EquippedNetwork:
    """A network and the attention it gets; ``input_shape`` is (C, H, W)."""

    host: Host | Architecture
    equipment: Equipment
    input_shape: tuple[int, int, int]

    @property
    def name(self) -> str:
        """Such as ``torchvision:resnet50+cbam``."""
        return f"{self.host.name}+{self.equipment.attention}"

    def equip(self, module: nn.Module) -> nn.Module:
        """Put the attention into the host. Raises ValueError: see `attn_export.models.equip`."""
        return apply(self.equipment, module, (1, *self.input_shape))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a file."""
        where = self.equipment.where
        host = "host" if isinstance(self.host, Host) else "architecture"
        return {
            host: asdict(self.host) if isinstance(self.host, Host) else self.host.to_dict(),
            "equipment": {**asdict(self.equipment), "where": where if isinstance(where, str) else list(where)},
            "input_shape": list(self.input_shape),
        }


def save(path: Path, module: nn.Module, network: EquippedNetwork) -> None:
    """Write an equipped network with its description, atomically. Raises OutputError: the file can't be written."""
    write(path, {"format": FORMAT, "version": VERSION, **network.to_dict(), "state_dict": weights_of(module)})


def is_equipped(content: Any) -> bool:
    """Whether a loaded file is one of these."""
    return isinstance(content, Mapping) and content.get("format") == FORMAT and "equipment" in content


def load(content: Mapping[str, Any], path: Path) -> LoadedModel:
    """The network of a file that `is_equipped`; without the hash.

    Raises:
        UnreadableCheckpointError: another version, or an invalid part.
        RuntimeUnavailableError: the host's library isn't installed.
        UsageError: the library has no such network any more.
        StateDictMismatchError, NonFiniteWeightsError: see `strict.filled`.
    """
    network, weights = _parsed(content, path)
    host = build_host(network.host) if isinstance(network.host, Host) else build(network.host)
    try:
        module = network.equip(host)
    except ValueError as error:
        raise UnreadableCheckpointError(f"{path} describes no {network.name}: {error}") from error
    return LoadedModel(
        module=filled(module, weights, network.name, str(path)),
        inputs=only_input(network.input_shape),
        sha256="",
        label=network.name,
    )


def _parsed(content: Mapping[str, Any], path: Path) -> tuple[EquippedNetwork, StateDict]:
    check_plain(content, path, VERSION)
    try:
        host: Host | Architecture = (
            Host(**{field.name: content["host"][field.name] for field in fields(Host)})
            if "host" in content
            else Architecture.from_dict(content["architecture"])
        )
        network = EquippedNetwork(host, _equipment(content["equipment"]), image_shape(content["input_shape"]))
        return network, checked_weights(content["state_dict"])
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise UnreadableCheckpointError(f"{path} is a damaged attn-export checkpoint: {error}") from error


def _equipment(values: Mapping[str, Any]) -> Equipment:
    where, reduction = values["where"], values["reduction"]
    if isinstance(where, list) and all(isinstance(path, str) for path in where):
        where = tuple(where)
    elif not isinstance(where, str):
        raise TypeError(f"where is {where!r}")
    if reduction is not None and (type(reduction) is not int or not 1 <= reduction <= LARGEST_WIDTH):
        raise ValueError(f"reduction is {reduction!r}")
    return Equipment(values["attention"], where, reduction, values["kernel_size"], values["init"])
