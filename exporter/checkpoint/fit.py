"""Which network a state dict belongs to, and what keeps it from fitting one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from attn_export.exporter.checkpoint import lookup
from attn_export.exporter.checkpoint.dialects import OWN, Layout, Spelling
from attn_export.exporter.checkpoint.families import family_of
from attn_export.exporter.checkpoint.state_dict import StateDict, groups
from attn_export.exporter.checkpoint.structure import OPTIONAL, arguments, read_off, shapes_of
from attn_export.exporter.checkpoint.translate import Translation, translations
from attn_export.exporter.errors import StateDictMismatchError, UsageError
from attn_export.models.registry import LARGEST_WIDTH, Architecture, architecture

# An architecture is near if no larger part of the tensors differs: beyond, its name would mislead more than it helps.
NEAR = 0.2
SHOWN = 4
OWN_NETWORK = (
    "A network of your own is built by your code, and the weights are loaded into it: --code FILE.py:CLASS, or "
    "--factory MODULE:FUNCTION."
)


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
class Reading:
    """An architecture that a state dict may be of.

    Attributes:
        architecture: with all arguments that names and shapes say.
        weights: under our names.
        differences: what keeps them from fitting.
        layout: the row of `dialects` by which the network was read.
        spelling: the one by which its attention was, None where it has our names.
    """

    architecture: Architecture
    weights: StateDict
    differences: Differences
    layout: Layout = OWN
    spelling: Spelling | None = None

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What was taken from the names' origin, because shapes don't say it; each is a sentence's end."""
        form = self.architecture.form
        small = form is not None and form.stem == 3 and self.layout is OWN
        return (
            *([f"{self.layout.assumed} ({self.layout.name}, {self.layout.source})"] if self.layout is not OWN else []),
            *(["no pooling after the 3x3 stem, which has stride 1"] if small else []),
            *([f"{self.spelling.assumed} ({self.spelling.source})"] if self.spelling else []),
        )


def readings(weights: StateDict) -> list[Reading]:
    """What the weights may be of, the nearest first."""
    found = [reading for translation in translations(weights) for reading in _read(translation)]
    return sorted(found, key=lambda reading: len(reading.differences))


def _read(translation: Translation) -> Iterator[Reading]:
    """The reading of one translation; none where its row is for other networks."""
    arch = read_off(_shapes(translation.weights), **translation.layout.form)
    if arch is not None and _is_meant(translation.layout, arch):
        yield _compared(arch, translation)


def _is_meant(layout: Layout, arch: Architecture) -> bool:
    form = arch.entry.form
    facts = {"block": form and form.block, "grouped": form and form.groups > 1, "attention": arch.attention}
    choices = {key: wanted if isinstance(wanted, tuple) else (wanted,) for key, wanted in layout.only.items()}
    return all(facts[key] in wanted for key, wanted in choices.items())


def _compared(arch: Architecture, translation: Translation) -> Reading:
    weights = _reshaped(translation.weights, arch)
    return Reading(arch, weights, differences(arch, weights), translation.layout, translation.spelling)


def _reshaped(weights: StateDict, arch: Architecture) -> StateDict:
    """A linear layer's weights as those of a 1x1 convolution, and the other way round, where ``arch`` has the other."""
    found = dict(weights)
    for name, shape in shapes_of(arch).items():
        own = tuple(weights[name].shape) if name in weights else shape
        if own != shape and {len(own), len(shape)} == {2, 4} and own[:2] == shape[:2] and own[2:] in ((), (1, 1)):
            found[name] = weights[name].reshape(shape) if shape[2:] in ((), (1, 1)) else weights[name]
    return found


def named(name: str, weights: StateDict) -> Reading:
    """The architecture called ``name`` with classes, channels, reduction and kernel as the weights' shapes say.

    Raises:
        UsageError: there is no architecture of this name.
    """
    try:
        wanted = architecture(name)
    except ValueError as error:
        raise UsageError(str(error), hint="`attn-export models` lists the names for --arch.") from error
    found = readings(weights)
    if found and not found[0].differences and found[0].architecture.name == name:
        return found[0]
    translation = next(translations(weights))
    return _compared(arguments(wanted.plain, _shapes(translation.weights), wanted.attention), translation)


def nearest(weights: StateDict) -> Reading | None:
    """The architecture that differs least from the weights, or None if none is near."""
    best = next(iter(readings(weights)), None)
    return best if best is not None and len(best.differences) <= NEAR * len(weights) else None


def compared(expected: Mapping[str, tuple[int, ...]], weights: StateDict) -> Differences:
    """Compare names and shapes; counters of batches may be missing."""
    return Differences(
        missing=tuple(n for n in expected if n not in weights and not n.endswith(OPTIONAL)),
        unexpected=tuple(n for n in weights if n not in expected and not n.endswith(OPTIONAL)),
        misshapen=tuple(
            f"{n} is {tuple(t.shape)}, expected {expected[n]}"
            for n, t in weights.items()
            if n in expected and tuple(t.shape) != expected[n] and not n.endswith(OPTIONAL)
        ),
    )


def differences(arch: Architecture, weights: StateDict) -> Differences:
    """What keeps weights from fitting an architecture."""
    expected = shapes_of(arch)
    found = compared(expected, weights)
    integers = tuple(
        f"{n} holds integers, expected floating point"
        for n, t in weights.items()
        if n in expected and not n.endswith(OPTIONAL) and not t.is_floating_point()
    )
    return replace(found, misshapen=found.misshapen + integers)


def check(arch: Architecture, weights: StateDict) -> None:
    """Every tensor that the architecture has is in ``weights``, with its shape, and nothing else is.

    Raises:
        StateDictMismatchError: names what is missing, unexpected or of another shape, and the nearest architecture.
    """
    found = differences(arch, weights)
    if not found:
        return
    best = nearest(weights)
    if best is not None and best.architecture.name == arch.name:
        same = f"{arch.name} is the nearest architecture all the same; were these weights changed after training?"
        hint = f"{same} {OWN_NETWORK}"
    else:
        hint = way_out(best, weights)
    raise StateDictMismatchError(
        f"the weights don't fit {arch.name}. {found}",
        missing=found.missing,
        unexpected=found.unexpected,
        misshapen=found.misshapen,
        nearest=best.architecture.name if best else None,
        hint=hint,
    )


def way_out(best: Reading | None, weights: StateDict) -> str:
    """What to do with weights that don't fit: leave ``--arch`` out where that works, or else the user's own code."""
    if best is not None and not best.differences:
        return f"All names and shapes fit {best.architecture.name}: leave --arch out."
    for part in (weights, *(part for _, part in groups(weights))):
        if family := family_of(part):
            advice = lookup.advice(family.member, part) if family.member else ""
            example = f"Its own code builds it, for example with {family.option}. {OWN_NETWORK}"
            return f"The names are those of {family.name}. {advice or example}"
    if best is None:
        return f"No network of the zoo is near. {OWN_NETWORK}"
    distance = f"{len(best.differences)} of {len(weights)} tensors differ"
    return f"Nearest is {best.architecture.name}, {distance}: {best.differences}. {OWN_NETWORK}"


def _shapes(weights: StateDict) -> dict[str, tuple[int, ...]]:
    """Those that a network can have."""
    return {n: tuple(t.shape) for n, t in weights.items() if all(0 < size <= LARGEST_WIDTH for size in t.shape)}
