"""Loads weights into a network of the user's, strictly."""

import torch
from torch import nn

from attn_export.exporter.checkpoint import state_dict
from attn_export.exporter.checkpoint.fit import Differences, compared
from attn_export.exporter.checkpoint.folded import folded
from attn_export.exporter.errors import StateDictMismatchError


def filled(module: nn.Module, weights: state_dict.StateDict, name: str, origin: str, hint: str = "") -> nn.Module:
    """The network with these weights, float32 and in eval mode.

    The weights are those of the network and no others; ``hint`` says what else they may be of.

    Raises:
        StateDictMismatchError: names or shapes differ.
        NonFiniteWeightsError, UnreadableCheckpointError: see `state_dict.usable`.
    """
    weights = state_dict.usable(weights, origin)
    if found := differences(module, weights):
        raise StateDictMismatchError(
            f"the weights in {origin} don't fit what {name} builds. {found}",
            missing=found.missing,
            unexpected=found.unexpected,
            misshapen=found.misshapen,
            nearest=None,
            hint=hint or _way_out(found),
        )
    module = module.float().requires_grad_(False).eval()
    module.load_state_dict(weights, strict=False)
    return module


def _way_out(found: Differences) -> str:
    others = found.unexpected or found.misshapen
    if not others and all(name.endswith(state_dict.STATISTICS) for name in found.missing):
        return "These are statistics of BatchNorm, which no parameters are: save model.state_dict()."
    more = "" if found.missing or found.misshapen else " If the network needs no more, save the file without these."
    return "Was it built with other arguments? --kwargs '{\"name\": value}' passes them." + more


def fitting_part(module: nn.Module, weights: state_dict.StateDict) -> tuple[state_dict.StateDict, tuple[str, ...]]:
    """The weights of this network among those of others side by side, ``model.*`` and ``criterion.*``, with a note.

    All where the network needs all, or where no part fits.
    """
    if (fitting := _as_called(module, weights)) is not None:
        return fitting, ()
    whole, notes = folded(weights)
    if notes and (fitting := _as_called(module, whole)) is not None:
        return fitting, notes
    parts = [(prefix, p) for prefix, part in state_dict.groups(whole) if (p := _as_called(module, part)) is not None]
    for prefix, part in sorted(parts, key=lambda entry: entry[0] not in state_dict.AVERAGED):
        left_out = f"{len(whole) - len(part)} other tensors of the file are left out"
        others = [other for other, _ in parts if other != prefix]
        choice = f": --checkpoint-key {others[0]} takes those under {others[0]!r}" if others else ""
        return part, (*notes, f"the network is that under {prefix!r}; {left_out}{choice}")
    return weights, ()


def _as_called(module: nn.Module, weights: state_dict.StateDict) -> state_dict.StateDict | None:
    """The weights under the network's own names; None if they don't fit.

    A network that is all in its ``net`` or ``model`` has names with a prefix that `state_dict.strip_prefixes` took off.
    """
    around = next(iter(module.state_dict()), "").split(".")[:-1]
    for depth in range(len(around) + 1):
        prefix = "".join(f"{name}." for name in around[:depth])
        called = {prefix + name: tensor for name, tensor in weights.items()}
        if not differences(module, called):
            return called
    return None


def differences(module: nn.Module, weights: state_dict.StateDict) -> Differences:
    """Compare names and shapes; counters of batches may be missing."""
    tensors = {n: t for n, t in module.state_dict().items() if isinstance(t, torch.Tensor)}
    return compared({n: tuple(t.shape) for n, t in tensors.items()}, weights)
