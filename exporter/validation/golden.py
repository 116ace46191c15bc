"""Golden inputs and outputs of a bundle: reference outputs of PyTorch, or, without a checkpoint, of ONNX Runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attn_export.exporter.artifacts import INPUT_TYPES, Input, Precision, Shapes, Signature
from attn_export.exporter.bundle.golden import GoldenVectors, Limit
from attn_export.exporter.bundle.packing import MOST_BYTES, Loose, packed
from attn_export.exporter.errors import UnreadableGraphError, UsageError
from attn_export.exporter.graph.session import NUMPY_TYPES, PlainSession, SessionError
from attn_export.exporter.network.batches import rows_of, stacked
from attn_export.exporter.network.images import IMAGE_RANK, KINDS, SEED
from attn_export.exporter.network.values import drawn, with_range
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.records.engine import Profile, covers, shapes_of
from attn_export.exporter.records.policies import BUNDLE, EPS16, POLICIES, Policy
from attn_export.exporter.validation.metrics import PooledError, perturbed
from attn_export.exporter.validation.verdict import floored_baselines, pixels_of

if TYPE_CHECKING:
    from attn_export.exporter.engine.graph import GraphFacts
    from attn_export.exporter.validation.reference import Reference

IMAGES_PER_SIZE = 4  # without a checkpoint


def golden_of_reference(
    reference: "Reference", signature: Signature, profile: Profile, precision: Precision
) -> GoldenVectors:
    """The reference images that fit a profile, in batches of its min, opt and max N.

    Raises:
        UsageError: no reference image has a size that the profile covers.
    """
    policy, names, opt = POLICIES[precision], signature.input_names, profile[signature.input_names[0]].opt[0]
    kept = reference.limited_to(lambda shapes: covers(profile, names, [(opt, *shape[1:]) for shape in shapes]))
    if not kept.batches:
        sizes = ", ".join(dict.fromkeys("×".join(map(str, b.sizes[0][1:])) for b in reference.batches))
        raise UsageError(
            f"no image that the network was compared on has a size that the engine takes ({_text(profile)})",
            hint=f"They have {sizes}: let --size include one of these, so that the device can validate its engine.",
        )
    errors = {
        name: PooledError().add_batches(
            [result.outputs[o] for result in kept.baselines[precision]],
            [result.outputs[o] for result in kept.exact],
            kept.batches,
        )
        for o, name in enumerate(signature.output_names)
    }
    pixels = pixels_of(batch.shapes for batch in kept.batches)
    baselines = {name: floored_baselines(error.relative(), policy, pixels) for name, error in errors.items()}
    groups = [_loose(kept, same, signature) for same in _by_size(kept)]
    return _packed(signature.inputs, policy, groups, profile, baselines)


def _packed(
    inputs: Sequence[Input],
    policy: Policy,
    groups: Sequence[Loose],
    profile: Profile,
    baselines: Mapping[str, Mapping[str, float]],
) -> GoldenVectors:
    """As much of the groups as a bundle holds; baselines are by output and kind of input."""
    return GoldenVectors(
        inputs={taken.name: taken.dtype for taken in inputs},
        reference=policy.reference,
        baseline=policy.baseline,
        groups=tuple(packed(loose, profile, MOST_BYTES // len(groups)) for loose in groups),
        limits={
            name: {kind: Limit(size, policy.limit) for kind, size in sizes.items()} for name, sizes in baselines.items()
        },
    )


def _by_size(reference: "Reference") -> list[list[tuple[int, int]]]:
    """For each size (C, H, W) the batch and row of every image, each image once."""
    by_size: dict[Shapes, dict[str, tuple[int, int]]] = {}
    for i, batch in enumerate(reference.batches):
        same = by_size.setdefault(batch.sizes, {})
        for row in range(len(batch.kinds)):
            if all(np.isfinite(array[row]).all() for array in reference.exact[i].outputs):
                same.setdefault(batch.names[row] if batch.names else f"{i}, {row}", (i, row))
    return [list(same.values()) for same in by_size.values()]


def _loose(reference: "Reference", places: Sequence[tuple[int, int]], signature: Signature) -> Loose:
    return Loose(
        signature.feeds(stacked([rows_of(reference.batches[i].arrays, [row]) for i, row in places])),
        tuple(reference.batches[i].kinds[row] for i, row in places),
        {
            name: np.stack([np.asarray(reference.exact[i].outputs[o][row], np.float64) for i, row in places])
            for o, name in enumerate(signature.output_names)
        },
    )


def golden_of_file(facts: "GraphFacts", profile: Profile, threads: int) -> GoldenVectors:
    """Outputs of an ONNX file in ONNX Runtime, for a file without a checkpoint.

    The device compares its engine with the file; nothing verifies the file itself.

    Raises:
        UnreadableGraphError: the file is missing, damaged or invalid, or ONNX Runtime can't run it.
        UsageError: it takes other types, such as strings.
    """
    half = "FLOAT16" in facts.all_types
    session = _open(facts.path, threads)
    inputs = tuple(
        with_range(Input(name, profile[name].opt, _dtype(session, name, facts.path))) for name in session.inputs
    )
    names = tuple(session.inputs)
    least = profile[names[0]].min[0]
    errors = {name: PooledError() for name in session.outputs}
    groups = []
    for sizes in dict.fromkeys(tuple(shape[1:] for shape in shapes) for shapes in shapes_of(profile, names)):
        arrays, kinds = _images(inputs, sizes)
        expected = _outputs(session, facts.path, arrays, least)
        moved = {name: perturbed(array, EPS16 if half else None) for name, array in arrays.items()}
        for name, results in _outputs(session, facts.path, moved, least).items():
            errors[name].add(results, expected[name], kinds)
        groups.append(Loose(arrays, kinds, expected))
    if not all(np.isfinite(array).all() for loose in groups for array in loose.expected.values()):
        raise UnreadableGraphError(
            f"{facts.path} computes NaN or infinity for nominal images",
            hint="Nothing can be compared with that. Is it the right file?",
        )
    # With eight roundings of float16 an engine with an error of 6 % would agree.
    floor = EPS16 if half else BUNDLE.floor
    baselines = {name: {k: max(size, floor) for k, size in error.relative().items()} for name, error in errors.items()}
    return _packed(inputs, BUNDLE, groups, profile, baselines)


def _open(path: Path, threads: int) -> PlainSession:
    """The session of a file."""
    try:
        return PlainSession(path, threads)
    except SessionError as error:
        raise UnreadableGraphError(
            f"ONNX Runtime doesn't take {path}: {error}",
            hint="A bundle holds the outputs of the file, so that the device can compare its engine with them. "
            "bfloat16 and float8 files get theirs in their checkpoint's export: attn-export model.pt --engine "
            "--precision bf16, with the same --gpu.",
        ) from error


def _dtype(session: PlainSession, name: str, path: Path) -> str:
    """Numpy's name of an input's type."""
    kind = session.inputs[name]
    if (dtype := str(np.dtype(NUMPY_TYPES.get(kind, object)))) in INPUT_TYPES:
        return dtype
    raise UsageError(
        f"a bundle holds inputs of numbers, and {path} takes {name}: {kind}",
        hint="Copy the ONNX file to the device and build it there; it can't be validated there.",
    )


def _outputs(session: PlainSession, path: Path, arrays: Arrays, batch: int) -> dict[str, Array]:
    """The float64 outputs for inputs (K, ...) in batches of the engine's smallest N.

    With N = 1 every image runs alone, so that an engine that mixes the images of a batch disagrees.
    """
    count = len(next(iter(arrays.values())))
    try:
        runs = [
            session.run({name: array[np.arange(i, i + batch) % count] for name, array in arrays.items()})
            for i in range(0, count, batch)
        ]
    except SessionError as error:
        sizes = ", ".join(str(array.shape[1:]) for array in arrays.values())
        raise UnreadableGraphError(
            f"ONNX Runtime can't run {path} on images of {sizes}: {error}",
            hint="The sizes come from --size and --profile-batch: does the network take them?",
        ) from error
    return {
        output: np.asarray(np.concatenate([run[output] for run in runs])[:count], np.float64)
        for output in session.outputs
    }


def _images(inputs: Sequence[Input], sizes: Shapes) -> tuple[Arrays, tuple[str, ...]]:
    """Images of every nominal kind in turn, (K, ...) of each input, and their kinds; noise where none is (C, H, W)."""
    draw = np.random.default_rng(SEED)
    names = list(KINDS) if any(len(size) == IMAGE_RANK for size in sizes) else ["noise"]
    kinds = tuple(names[i % len(names)] for i in range(IMAGES_PER_SIZE))
    rows = [
        {taken.name: drawn(kind, taken, size, draw)[None] for taken, size in zip(inputs, sizes, strict=True)}
        for kind in kinds
    ]
    return stacked(rows), kinds


def _text(profile: Profile) -> str:
    return ", ".join(
        " to ".join(dict.fromkeys("×".join(map(str, size)) for size in (taken.min, taken.max)))
        for taken in profile.values()
    )
