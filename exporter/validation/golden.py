"""Golden inputs and outputs of a bundle: reference outputs of PyTorch, or, without a checkpoint, of ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.bundle.golden import GoldenVectors, Limit
from attn_export.exporter.bundle.packing import MOST_BYTES, Loose, packed
from attn_export.exporter.errors import UnreadableGraphError, UsageError
from attn_export.exporter.graph.session import PlainSession, SessionError
from attn_export.exporter.network.images import KINDS, SEED
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.engine import Profile, Range
from attn_export.exporter.records.policies import BUNDLE, EPS16, POLICIES
from attn_export.exporter.validation.metrics import PooledError, perturbed
from attn_export.exporter.validation.verdict import floored_baselines, pixels_of

if TYPE_CHECKING:
    from attn_export.exporter.engine.graph import GraphFacts
    from attn_export.exporter.validation.reference import Reference

IMAGES_PER_SIZE = 4  # without a checkpoint


def golden_of_reference(
    reference: "Reference",
    output_names: Sequence[str],
    input_name: str,
    profile: Profile,
    precision: Precision,
) -> GoldenVectors:
    """The reference images that fit a profile, in batches of its min, opt and max N.

    Args:
        reference: with a baseline for ``precision``.
        output_names: in the network's order.
        input_name: of the only input.
        profile: of the engine.
        precision: of the engine.

    Raises:
        UsageError: no reference image has a size that the profile covers.
    """
    policy, taken = POLICIES[precision], profile[input_name]
    baselines = reference.baselines[precision]
    fitting = [i for i, batch in enumerate(reference.batches) if taken.covers((taken.opt[0], *batch.images.shape[1:]))]
    if not fitting:
        sizes = ", ".join(dict.fromkeys("×".join(map(str, b.images.shape[2:])) for b in reference.batches))
        raise UsageError(
            f"no image that the network was compared on has a size that the engine takes ({_text(taken)})",
            hint=f"They have {sizes}: let --size include one of these, so that the device can validate its engine.",
        )
    results, exact = [baselines[i] for i in fitting], [reference.exact[i] for i in fitting]
    batches = [reference.batches[i] for i in fitting]
    errors = {
        name: PooledError().add_batches([r.outputs[o] for r in results], [r.outputs[o] for r in exact], batches)
        for o, name in enumerate(output_names)
    }
    pixels = pixels_of(batch.images.shape for batch in batches)
    groups = [_loose(reference, same, output_names) for same in _by_size(reference, fitting)]
    return GoldenVectors(
        input_name=input_name,
        reference=policy.reference,
        baseline=policy.baseline,
        groups=tuple(packed(loose, taken, MOST_BYTES // len(groups)) for loose in groups),
        limits={
            name: {
                kind: Limit(size, policy.limit)
                for kind, size in floored_baselines(error.relative(), policy, pixels).items()
            }
            for name, error in errors.items()
        },
    )


def _by_size(reference: "Reference", fitting: Sequence[int]) -> list[list[tuple[int, int]]]:
    """For each size (C, H, W) the batch and row of every image, each image once."""
    by_size: dict[tuple[int, ...], dict[str, tuple[int, int]]] = {}
    for i in fitting:
        batch = reference.batches[i]
        same = by_size.setdefault(batch.images.shape[1:], {})
        for row in range(len(batch.kinds)):
            if all(np.isfinite(array[row]).all() for array in reference.exact[i].outputs):
                same.setdefault(batch.names[row] if batch.names else f"{i}, {row}", (i, row))
    return [list(same.values()) for same in by_size.values()]


def _loose(reference: "Reference", places: Sequence[tuple[int, int]], output_names: Sequence[str]) -> Loose:
    return Loose(
        np.stack([reference.batches[i].images[row] for i, row in places]),
        tuple(reference.batches[i].kinds[row] for i, row in places),
        {
            name: np.stack([np.asarray(reference.exact[i].outputs[o][row], np.float64) for i, row in places])
            for o, name in enumerate(output_names)
        },
    )


def golden_of_file(facts: "GraphFacts", profile: Profile, threads: int) -> GoldenVectors:
    """Outputs of an ONNX file in ONNX Runtime, for a file without a checkpoint.

    The device compares its engine with the file; nothing verifies the file itself.

    Args:
        facts: about the file.
        profile: of the engine.
        threads: of ONNX Runtime.

    Raises:
        UnreadableGraphError: the file is missing, damaged or invalid, or ONNX Runtime can't run it.
        UsageError: it doesn't take one float32 tensor.
    """
    half = "FLOAT16" in facts.all_types
    session = _open(facts.path, threads)
    (input_name,) = session.inputs
    taken = profile[input_name]
    errors = {name: PooledError() for name in session.outputs}
    groups = []
    for shape in dict.fromkeys(size[1:] for size in (taken.opt, taken.min, taken.max)):
        images, kinds = _images(shape)
        expected = _outputs(session, facts.path, images, taken.min[0])
        moved = perturbed(images, EPS16 if half else None)
        for name, results in _outputs(session, facts.path, moved, taken.min[0]).items():
            errors[name].add(results, expected[name], kinds)
        groups.append(Loose(images, kinds, expected))
    if not all(np.isfinite(array).all() for loose in groups for array in loose.expected.values()):
        raise UnreadableGraphError(
            f"{facts.path} computes NaN or infinity for nominal images",
            hint="Nothing can be compared with that. Is it the right file?",
        )
    # With eight roundings of float16 an engine with an error of 6 % would agree.
    floor = EPS16 if half else BUNDLE.floor
    return GoldenVectors(
        input_name=input_name,
        reference=BUNDLE.reference,
        baseline=BUNDLE.baseline,
        groups=tuple(packed(loose, taken, MOST_BYTES // len(groups)) for loose in groups),
        limits={
            name: {kind: Limit(max(size, floor), BUNDLE.limit) for kind, size in error.relative().items()}
            for name, error in errors.items()
        },
    )


def _open(path: Path, threads: int) -> PlainSession:
    """The session of a file with one float32 input.

    Raises:
        UnreadableGraphError, UsageError: see `golden_of_file`.
    """
    try:
        session = PlainSession(path, threads)
    except SessionError as error:
        raise UnreadableGraphError(
            f"ONNX Runtime doesn't take {path}: {error}",
            hint="A bundle holds the outputs of the file, so that the device can compare its engine with them.",
        ) from error
    if list(session.inputs.values()) != ["tensor(float)"]:
        raise UsageError(
            f"a bundle's images are for one float32 input, and {path} takes "
            + ", ".join(f"{name}: {kind}" for name, kind in session.inputs.items()),
            hint="Copy the ONNX file to the device and build it there; it can't be validated there.",
        )
    return session


def _outputs(session: PlainSession, path: Path, images: Array, batch: int) -> dict[str, Array]:
    """The float64 outputs of images (K, C, H, W) in batches of the engine's smallest N.

    With N = 1 every image runs alone, so that an engine that mixes the images of a batch disagrees.
    """
    (name,) = session.inputs
    starts = range(0, len(images), batch)
    try:
        runs = [session.run({name: images[np.arange(i, i + batch) % len(images)]}) for i in starts]
    except SessionError as error:
        raise UnreadableGraphError(
            f"ONNX Runtime can't run {path} on images of {images.shape[1:]}: {error}",
            hint="The sizes come from --size and --profile-batch: does the network take them?",
        ) from error
    return {
        output: np.asarray(np.concatenate([run[output] for run in runs])[: len(images)], np.float64)
        for output in session.outputs
    }


def _images(shape: tuple[int, ...]) -> tuple[Array, tuple[str, ...]]:
    """Images of every nominal kind in turn, (K, *shape) float32, and their kinds; noise where shape isn't (C, H, W)."""
    draw = np.random.default_rng(SEED)
    names = list(KINDS) if len(shape) == 3 else ["noise"]
    kinds = tuple(names[i % len(names)] for i in range(IMAGES_PER_SIZE))
    return np.stack([KINDS[kind](shape, draw) for kind in kinds]), kinds  # type: ignore[arg-type]


def _text(taken: Range) -> str:
    return " to ".join(dict.fromkeys("×".join(map(str, size)) for size in (taken.min, taken.max)))
