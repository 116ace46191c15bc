"""Which network of timm or torchvision a state dict is of, by building its relatives without their weights."""

from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import nn

from attn_export.exporter.checkpoint.hosts import Host, build_host, relatives
from attn_export.exporter.checkpoint.state_dict import StateDict
from attn_export.exporter.errors import RuntimeUnavailableError, UsageError

# Fewer tensors that differ than this share make a candidate.
NEAR = 0.2
SHOWN = 3
COUNTER = "num_batches_tracked"


def advice(name: str, weights: StateDict) -> str:
    """Which relatives of the network called ``name`` fit the weights, or come near, as a hint; empty if none does.

    Classes and input channels are left out of the comparison. Where the library isn't installed nothing is known.
    """
    found = sorted(_distances(name, weights))
    fitting = [relative for differing, relative in found if not differing]
    if len(fitting) == 1:
        return f"All names and shapes fit {fitting[0]}: --arch {fitting[0]}."
    if fitting:
        rest = f" and {len(fitting) - SHOWN} more" if len(fitting) > SHOWN else ""
        return (
            f"--arch {fitting[0]}, or another that has the same names and shapes and computes something else: "
            f"{', '.join(fitting[1 : SHOWN + 1])}{rest}."
        )
    near = [(n, relative) for n, relative in found if n <= NEAR * len(weights)][:SHOWN]
    return "".join(
        f"{'Nearest is' if i == 0 else ', then'} {relative}, {n} of {len(weights)} tensors differ"
        for i, (n, relative) in enumerate(near)
    ) + ("." if near else "")


def _distances(name: str, weights: StateDict) -> Iterator[tuple[int, str]]:
    with suppress(RuntimeUnavailableError):
        for relative in relatives(name):
            with suppress(UsageError, NotImplementedError, RuntimeError, ValueError), torch.device("meta"):
                yield _distance(build_host(Host(relative)), weights), relative


def _distance(network: nn.Module, weights: StateDict) -> int:
    """How many tensors are missing, unexpected or of another shape."""
    own = {n: tuple(t.shape) for n, t in network.state_dict().items() if not n.endswith(COUNTER)}
    theirs = {n: tuple(t.shape) for n, t in weights.items() if not n.endswith(COUNTER)}
    first, *_, last = (n for n, shape in own.items() if len(shape) > 1)
    by_class = {n for n, shape in own.items() if shape[:1] == own[last][:1]}
    own = {n: shape[n in by_class :] for n, shape in own.items()}
    theirs = {n: shape[n in by_class :] for n, shape in theirs.items()}
    return len(own.keys() ^ theirs.keys()) + sum(
        own[n] != theirs[n] and not (n == first and _but_channels(own[n]) == _but_channels(theirs[n]))
        for n in own.keys() & theirs.keys()
    )


def _but_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:1] + shape[2:]
