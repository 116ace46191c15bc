"""Which network a state dict belongs to, and with which arguments it was built."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from attn_export.exporter.checkpoint.state_dict import StateDict
from attn_export.exporter.errors import StateDictMismatchError, UsageError
from attn_export.models.registry import LARGEST_WIDTH, Architecture, architecture, names, skeleton

Shapes = dict[str, tuple[int, ...]]

# torch added this counter later; inference never reads it.
OPTIONAL = "num_batches_tracked"
# An architecture is near if no larger part of the tensors differs: beyond, its name would mislead more than it helps.
NEAR = 0.2
# So many architectures with the most names in common are looked at with their shapes.
CANDIDATES = 6
SHOWN = 4
OWN_NETWORK = (
    "For a network of your own: --factory MODULE:FUNCTION builds it with your code, and the weights are loaded into it."
)


@cache
def shapes_of(arch: Architecture) -> Shapes:
    """Name and shape of every tensor in the architecture's state dict."""
    return {name: tuple(tensor.shape) for name, tensor in skeleton(arch).state_dict().items()}


def infer_arguments(name: str, weights: StateDict) -> Architecture:
    """The architecture called ``name`` with classes, channels, reduction and kernel as the weights' shapes say.

    What the shapes don't say keeps its default. Whether the weights fit is for `check` to say.

    Raises:
        UsageError: there is no architecture of this name.
    """
    try:
        arch = architecture(name)
    except ValueError as error:
        raise UsageError(str(error), hint="`attn-export models` lists the names for --arch.") from error
    expected = shapes_of(arch)
    shapes = {
        n: tuple(t.shape)
        for n, t in weights.items()
        if n in expected and t.dim() == len(expected[n]) and _is_plausible(t.shape)
    }
    convolutions = [n for n in expected if len(expected[n]) == 4]
    matrices = [n for n in expected if len(expected[n]) == 2]
    if matrices and matrices[-1] in shapes:
        arch = replace(arch, num_classes=shapes[matrices[-1]][0])
    if convolutions[0] in shapes:
        arch = replace(arch, in_channels=shapes[convolutions[0]][1])
    for n, shape in shapes.items():
        if n.endswith("SpatialGate.conv1.weight") and shape[-1] in (3, 7):
            arch = replace(arch, kernel_size=shape[-1])
    # The widest gate rounds the least, so it tells the reduction best.
    squeezes = [s for n, s in shapes.items() if n.endswith((".fc.0.weight", ".fc1.weight"))]
    if squeezes:
        hidden, channels = max(squeezes, key=lambda s: s[1])[:2]
        guesses = [arch] + [replace(arch, reduction=r) for r in sorted({max(1, channels // hidden), 2, 4, 8, 16, 32})]
        arch = min(guesses, key=lambda guess: len(_misshapen(guess, weights)))
    return arch


@dataclass(frozen=True)
class Differences:
    """What keeps a state dict from fitting an architecture.

    Attributes:
        missing: names of tensors that it lacks.
        unexpected: names of tensors that the architecture lacks.
        misshapen: sentences about tensors of another shape or type.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)

    def __str__(self) -> str:
        named = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", self.misshapen))
        return "; ".join(
            f"{len(group)} {word}: {', '.join(group[:SHOWN])}{', …' if len(group) > SHOWN else ''}"
            for word, group in named
            if group
        )


@dataclass(frozen=True)
class Nearest:
    """The architecture that a state dict comes nearest to, and what differs."""

    name: str
    differences: Differences


def differences(arch: Architecture, weights: StateDict) -> Differences:
    """Compare names and shapes."""
    expected = shapes_of(arch)
    return Differences(
        missing=tuple(n for n in expected if n not in weights and not n.endswith(OPTIONAL)),
        unexpected=tuple(n for n in weights if n not in expected and not n.endswith(OPTIONAL)),
        misshapen=tuple(_misshapen(arch, weights)),
    )


def check(arch: Architecture, weights: StateDict) -> None:
    """Every tensor that the architecture has is in ``weights``, with its shape, and nothing else is.

    Raises:
        StateDictMismatchError: names what is missing, unexpected or of another shape, and the nearest architecture.
    """
    found = differences(arch, weights)
    if not found:
        return
    best = nearest(weights)
    if best is not None and best.name == arch.name:
        hint = f"{arch.name} is the nearest architecture all the same; were these weights changed after training?"
    else:
        hint = way_out(best)
    raise StateDictMismatchError(
        f"the weights don't fit {arch.name}. {found}",
        missing=found.missing,
        unexpected=found.unexpected,
        misshapen=found.misshapen,
        nearest=best.name if best else None,
        hint=hint,
    )


def way_out(best: Nearest | None) -> str:
    """What to do with weights of which it isn't known what they are of: ``--arch`` where it works, or else Python."""
    if best is not None and not best.differences:
        return f"All names and shapes fit {best.name}: --arch {best.name}."
    near = f"The nearest architecture is {best.name}, and it doesn't fit: {best.differences}. " if best else ""
    return (near or "No network of the zoo is near. ") + OWN_NETWORK


def nearest(weights: StateDict) -> Nearest | None:
    """The architecture that differs least from the weights, or None if none is near."""

    def likeness(name: str) -> float:
        expected = {n for n in shapes_of(architecture(name)) if not n.endswith(OPTIONAL)}
        own = {n for n in weights if not n.endswith(OPTIONAL)}
        return len(expected & own) / len(expected | own)

    alike = sorted(names(), key=likeness, reverse=True)[:CANDIDATES]
    found = [Nearest(name, differences(infer_arguments(name, weights), weights)) for name in alike]
    best = min(found, key=lambda candidate: len(candidate.differences))
    return best if len(best.differences) <= NEAR * len(weights) else None


def _is_plausible(shape: Sequence[int]) -> bool:
    return all(0 < n <= LARGEST_WIDTH for n in shape)


def _misshapen(arch: Architecture, weights: StateDict) -> list[str]:
    expected = shapes_of(arch)
    wrong = [
        f"{n} is {tuple(t.shape)}, expected {expected[n]}"
        for n, t in weights.items()
        if n in expected and tuple(t.shape) != expected[n]
    ]
    integers = [
        f"{n} holds integers, expected floating point"
        for n, t in weights.items()
        if n in expected and not n.endswith(OPTIONAL) and not t.is_floating_point()
    ]
    return wrong + integers
