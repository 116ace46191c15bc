"""Golden inputs and outputs of a bundle: PyTorch's reference, or, without a checkpoint, what ONNX Runtime computes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.bundle.golden import GoldenVectors, Limit
from attn_export.exporter.bundle.packing import MOST_BYTES, Loose, packed
from attn_export.exporter.errors import UnreadableGraphError, UsageError, first_line
from attn_export.exporter.network.images import KINDS, SEED
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.engine import Profile, Range
from attn_export.exporter.validation.metrics import PooledError
from attn_export.exporter.validation.policies import EPS32, POLICIES, SOURCE_GRAPH
from attn_export.exporter.validation.verdict import floored_baselines, pixels_of

if TYPE_CHECKING:
    from attn_export.exporter.engine.graph import GraphFacts
    from attn_export.exporter.validation.reference import Reference

__all__ = ["GoldenVectors", "golden_of_file", "golden_of_reference"]

# Of each size for a file without a checkpoint.
IMAGES = 4

PYTORCH = "PyTorch in float64, each image alone"
ONNX_RUNTIME = "ONNX Runtime without optimizations, in the file's own types"
OWN_ERROR = "the error of PyTorch in {precision} on these kinds of images"
OWN_MOVEMENT = "how far the outputs move when every pixel is moved by one rounding"


def golden_of_reference(
    reference: "Reference",
    output_names: Sequence[str],
    input_name: str,
    profile: Profile,
    precision: Precision,
) -> GoldenVectors:
    """The images of the oracle that fit into a profile, in batches of its smallest, usual and largest N.

    Args:
        reference: with a baseline for ``precision``.
        output_names: in the order in which the network returns them.
        input_name: of the one input.
        profile: of the engine.
        precision: of the engine.

    Raises:
        UsageError: the oracle has no image of a size that the profile takes.
    """
    policy = POLICIES[precision]
    own = reference.baselines[precision]
    taken = profile[input_name]
    fitting = [i for i, batch in enumerate(reference.batches) if taken.covers((taken.opt[0], *batch.images.shape[1:]))]
    if not fitting:
        sizes = ", ".join(dict.fromkeys("×".join(map(str, b.images.shape[2:])) for b in reference.batches))
        raise UsageError(
            f"no image that the network was compared on has a size that the engine takes ({_spelled(taken)})",
            hint=f"They have {sizes}: let --size include one of these, so that the device can validate its engine.",
        )
    errors = [PooledError() for _ in output_names]
    for i in fitting:
        for o, error in enumerate(errors):
            error.add(own[i].outputs[o], reference.exact[i].outputs[o], reference.batches[i].kinds)
    pixels = pixels_of(reference.batches[i].images.shape for i in fitting)
    groups = [_loose(reference, same, output_names) for same in _by_size(reference, fitting)]
    return GoldenVectors(
        input_name=input_name,
        reference=PYTORCH,
        baseline=OWN_ERROR.format(precision=precision.onnx_name),
        groups=tuple(packed(loose, taken, MOST_BYTES // len(groups)) for loose in groups),
        limits={
            name: {
                kind: Limit(size, policy.limit)
                for kind, size in floored_baselines(error.relative(), policy, pixels).items()
            }
            for name, error in zip(output_names, errors, strict=True)
        },
    )


def _by_size(reference: "Reference", fitting: Sequence[int]) -> list[list[tuple[int, int]]]:
    """For each size (C, H, W) where its images are, as (batch, row); an image that is in several batches comes once."""
    found: dict[tuple[int, ...], dict[str, tuple[int, int]]] = {}
    for i in fitting:
        batch = reference.batches[i]
        same = found.setdefault(batch.images.shape[1:], {})
        for row in range(len(batch.kinds)):
            if not all(np.isfinite(array[row]).all() for array in reference.exact[i].outputs):
                continue  # the network has no answer for this image
            same.setdefault(batch.names[row] if batch.names else f"{i}, {row}", (i, row))
    return [list(same.values()) for same in found.values()]


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
    """What ONNX Runtime computes of an ONNX file, for a file whose checkpoint isn't at hand.

    The device's engine is then compared with the file, and the file with nothing.

    Args:
        facts: about the file.
        profile: of the engine.
        threads: of ONNX Runtime.

    Raises:
        UnreadableGraphError: the file isn't there, is damaged, isn't valid ONNX, or ONNX Runtime can't run it.
        UsageError: it doesn't take one float32 tensor.
    """
    onnx, rounding = facts.path, _rounding(facts)
    run, input_name, output_names = _session(onnx, threads)
    taken = profile[input_name]
    moved, least = [PooledError() for _ in output_names], _least(rounding)
    groups = []
    for shape in dict.fromkeys(size[1:] for size in (taken.opt, taken.min, taken.max)):
        images, kinds = _draw(shape)
        expected = run(images, taken)
        for o, results in enumerate(run(_moved(images, rounding), taken)):
            moved[o].add(results, expected[o], kinds)
        groups.append(Loose(images, kinds, dict(zip(output_names, expected, strict=True))))
    if not all(np.isfinite(array).all() for loose in groups for array in loose.expected.values()):
        raise UnreadableGraphError(
            f"{onnx} computes NaN or infinity for ordinary images",
            hint="Nothing can be compared with that. Was the right file given?",
        )
    return GoldenVectors(
        input_name=input_name,
        reference=ONNX_RUNTIME,
        baseline=OWN_MOVEMENT,
        groups=tuple(packed(loose, taken, MOST_BYTES // len(groups)) for loose in groups),
        limits={
            name: {kind: Limit(max(size, least), SOURCE_GRAPH.limit) for kind, size in error.relative().items()}
            for name, error in zip(output_names, moved, strict=True)
        },
    )


Run = Callable[[Array, Range], tuple[Array, ...]]


def _session(onnx: Path, threads: int) -> tuple[Run, str, tuple[str, ...]]:
    """How to run a file on images one by one; the names of its input and outputs.

    Raises:
        UnreadableGraphError, UsageError: as `golden_of_file` says.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises RuntimeError and a dozen classes of its own
        raise UnreadableGraphError(
            f"ONNX Runtime doesn't take {onnx}: {first_line(error)}",
            hint="A bundle carries what the file computes, so that the device can compare its engine with that.",
        ) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        raise UsageError(
            f"a bundle's images are for one float32 input, and {onnx} takes "
            + ", ".join(f"{i.name}: {i.type}" for i in inputs),
            hint="Copy the ONNX file to the device and build it there; it can't be validated there.",
        )
    names = [output.name for output in outputs]

    def run(images: Array, taken: Range) -> tuple[Array, ...]:
        # Alone where the engine takes one image, so that an engine that mixes the images of a batch disagrees.
        together = taken.min[0]
        results = []
        for start in range(0, len(images), together):
            rows = [i % len(images) for i in range(start, start + together)]
            try:
                results.append(session.run(names, {inputs[0].name: images[rows]}))
            except Exception as error:  # as above
                raise UnreadableGraphError(
                    f"ONNX Runtime can't run {onnx} on images of {images.shape[1:]}: {first_line(error)}",
                    hint="The sizes come from --size and --profile-batch: does the network take them?",
                ) from error
        joined = (np.concatenate(arrays)[: len(images)] for arrays in zip(*results, strict=True))
        return tuple(np.asarray(array, np.float64) for array in joined)

    return run, str(inputs[0].name), tuple(names)


def _rounding(facts: "GraphFacts") -> float:
    """Of float16 where the file has any, or else of float32."""
    import onnx_ir as ir

    half = ir.DataType.FLOAT16.name in facts.all_types
    return float(np.finfo(np.float16 if half else np.float32).eps)


def _least(rounding: float) -> float:
    """The floor of the baseline error: of float32 that of `SOURCE_GRAPH`, of float16 a single rounding.

    With eight roundings of float16 an engine with an error of 6 % would agree.
    """
    return rounding if rounding > EPS32 else SOURCE_GRAPH.floor


def _draw(shape: tuple[int, ...]) -> tuple[Array, tuple[str, ...]]:
    """Images of every kind in turns; what isn't (C, H, W) is noise, which alone has a meaning there."""
    draw = np.random.default_rng(SEED)
    names = list(KINDS) if len(shape) == 3 else ["noise"]
    kinds = tuple(names[i % len(names)] for i in range(IMAGES))
    return np.stack([KINDS[kind](shape, draw) for kind in kinds]), kinds  # type: ignore[arg-type]


def _moved(images: Array, rounding: float) -> Array:
    """Every pixel moved by one rounding, up or down."""
    signs = np.random.default_rng(1).integers(0, 2, images.shape) * 2 - 1
    return np.asarray(images * (1 + signs * rounding), np.float32)


def _spelled(taken: Range) -> str:
    return " to ".join(dict.fromkeys("×".join(map(str, size)) for size in (taken.min, taken.max)))
